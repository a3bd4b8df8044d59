package instrument

import "fmt"

// decoder walks through the instructions of one function and checks their indices.
type decoder struct {
	scanner
	m      *module
	locals uint64
	depth  int // labels there are

	op      byte
	sub     uint32 // of prefixed instructions
	from    int    // where the instruction begins; it ends at at
	index   uint32 // its function, type, local, global, table or label
	targets []uint32
	takes   bool   // the block takes parameters
	why     *Error // more than that it is malformed
}

// next reads one instruction. It answers false at the end and where something does not fit.
func (d *decoder) next() bool {
	if d.bad || d.at >= len(d.b) {
		return false
	}
	d.from = d.at
	d.op = d.byte()
	d.sub = 0
	switch operands[d.op] {
	case nothing:
	case local:
		d.index = d.below(d.locals)
	case number32:
		d.leb(5)
	case number64:
		d.leb(10)
	case float32bits:
		d.bytes(4)
	case float64bits:
		d.bytes(8)
	case memoryAccess:
		d.access()
	case global:
		d.index = d.below(uint64(len(d.m.globals)))
	case blockType:
		d.blockType()
	case label:
		d.index = d.below(uint64(d.depth))
	case function:
		d.index = d.below(uint64(len(d.m.funcs)))
	default:
		d.rare()
	}
	d.gate()
	return !d.bad
}

func (d *decoder) rare() {
	switch operands[d.op] {
	case labels:
		d.targets = d.targets[:0]
		for range d.count() + 1 {
			d.targets = append(d.targets, d.below(uint64(d.depth)))
		}
	case typeAndTable:
		d.below(uint64(len(d.m.types)))
		d.index = d.below(uint64(len(d.m.tables)))
	case typeIndex:
		d.index = d.below(uint64(len(d.m.types)))
	case selectType:
		if d.byte() != 1 {
			d.fail()
		}
		d.valueType(len(d.m.types))
	case table:
		d.index = d.below(uint64(len(d.m.tables)))
	case zeroByte:
		d.zero()
	case heapType:
		d.heapType(len(d.m.types))
	case tag:
		d.below(uint64(d.m.tags))
	case catches:
		d.catches()
	case prefixed:
		d.prefixed()
	case unknown:
		d.unknown()
	}
}

func (d *decoder) below(n uint64) uint32 {
	i := d.u32()
	if uint64(i) >= n {
		d.fail()
		return 0
	}
	return i
}

// access skips the alignment and offset of an instruction that reaches into memory.
func (d *decoder) access() {
	d.u32()
	d.u32()
	d.needMemory()
}

func (d *decoder) needMemory() {
	if d.m.memories == 0 {
		d.fail()
	}
}

// zero reads the index of the one memory.
func (d *decoder) zero() {
	if d.byte() != 0 {
		d.fail()
	}
	d.needMemory()
}

func (d *decoder) blockType() {
	d.takes = false
	switch t := d.s33(); t {
	case -0x40, -1, -2, -3, -4, -5, -0x10, -0x11, -0x17:
	case -0x1d, -0x1c: // (ref null? heap type)
		d.heapType(len(d.m.types))
	default:
		if t < 0 || t >= int64(len(d.m.types)) {
			d.fail()
			return
		}
		d.takes = d.m.types[t].params > 0
	}
}

// catches reads a try_table. Its clauses jump to labels around it.
func (d *decoder) catches() {
	d.blockType()
	d.targets = d.targets[:0]
	for range d.count() {
		switch d.byte() {
		case 0, 1: // catch, catch_ref
			d.below(uint64(d.m.tags))
		case 2, 3: // catch_all, catch_all_ref
		default:
			d.fail()
		}
		d.targets = append(d.targets, d.below(uint64(d.depth)))
		if d.bad {
			return
		}
	}
}

func (d *decoder) prefixed() {
	from := d.at
	d.sub = d.u32()
	// wazero reads one byte of these two, and a second one of 1 as a nop, so any longer number would mean something
	// else to it than here.
	if length := d.at - from; d.op != opMisc && length != 1 && (length != 2 || d.b[d.at-1] != 1) && d.sub < 0x100 {
		d.why = invalid("")
		d.why.Message = fmt.Sprintf("%s, with a number that is longer than it has to be", d.describe())
		d.fail()
		return
	}
	switch d.op {
	case opMisc:
		d.misc()
	case opVector:
		d.vector()
	case opAtomic:
		switch {
		case d.sub == 3: // fence
			if d.byte() != 0 {
				d.fail()
			}
		case d.sub <= 2 || d.sub >= 0x10 && d.sub <= 0x4e:
			d.access()
		default:
			d.unknown()
		}
	}
}

func (d *decoder) misc() {
	switch d.sub {
	case 0, 1, 2, 3, 4, 5, 6, 7: // saturating conversions
	case miscMemoryInit:
		d.below(uint64(d.m.data))
		d.zero()
	case miscDataDrop:
		d.below(uint64(d.m.data))
	case miscMemoryCopy:
		d.zero()
		d.zero()
	case miscMemoryFill:
		d.zero()
	case miscTableInit:
		d.below(uint64(d.m.elements))
		d.index = d.below(uint64(len(d.m.tables)))
	case miscElemDrop:
		d.below(uint64(d.m.elements))
	case miscTableCopy:
		d.index = d.below(uint64(len(d.m.tables)))
		d.below(uint64(len(d.m.tables)))
	case miscTableGrow, miscTableSize, miscTableFill:
		d.index = d.below(uint64(len(d.m.tables)))
	default:
		d.unknown()
	}
}

// loads tells whether a vector instruction reaches into memory.
func (d *decoder) loads() bool { return d.sub <= 11 || d.sub >= 0x54 && d.sub <= 0x5d }

func (d *decoder) vector() {
	switch {
	case d.loads():
		d.access()
		if d.sub >= 0x54 && d.sub <= 0x5b { // a lane
			d.byte()
		}
	case d.sub <= 13: // const, shuffle
		d.bytes(16)
	case d.sub >= 0x15 && d.sub <= 0x22: // lanes
		d.byte()
	case d.sub > 0xff:
		d.unknown()
	}
}

func (d *decoder) unknown() {
	d.why = unsupported("%s", d.describe())
	d.fail()
}

func (d *decoder) gate() {
	f, proposal := gate(d.op)
	if f == 0 || d.m.options.Features&f != 0 || d.bad {
		return
	}
	d.why = unsupported("%s, which belongs to %s: that is not switched on", d.describe(), proposal)
	d.fail()
}
