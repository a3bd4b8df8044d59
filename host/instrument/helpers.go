package instrument

// The functions that may be added at the end of a module's own.
const (
	helperLength = iota
	helperFill
	helperCopy
)

const (
	chunk      = 1 << 20 // bytes that are filled or copied between checks
	perUnit    = 3       // log2 of the bytes that cost one unit
	mostLength = 1 << 27 // no operation gets further
)

func (o *output) helper(which uint32) uint32 {
	return [...]uint32{helperLength: o.added.length, helperFill: o.added.fill, helperCopy: o.added.copy}[which]
}

const (
	typeI32 = 0x7f
	typeI64 = 0x7e

	i32Eqz        = 0x45
	i32LtU        = 0x49
	i32LeU        = 0x4d
	i32Add        = 0x6a
	i32Sub        = 0x6b
	i32ShrU       = 0x76
	i64LtS        = 0x53
	i64GtU        = 0x56
	i64Add        = 0x7c
	i64Sub        = 0x7d
	i64Shl        = 0x86
	i64ExtendI32U = 0xad
	selectOp      = 0x1b
)

// lengthBody is (n) -> n: it charges for an operation on n bytes or entries that comes next.
func (o *output) lengthBody() {
	o.op(0) // no locals
	o.u32(opGlobalGet, o.added.fuel)
	o.u32(opLocalGet, 0)
	o.i32(mostLength)
	o.u32(opLocalGet, 0)
	o.i32(mostLength)
	o.op(i32LtU, selectOp)
	o.i32(perUnit)
	o.op(i32ShrU, i64ExtendI32U, i64Sub)
	o.u32(opGlobalSet, o.added.fuel)
	o.check()
	o.u32(opLocalGet, 0)
	o.op(opEnd)
}

// Locals of the two below. Their third parameter is the length.
const (
	at0, at1, length, size = 0, 1, 2, 3
)

// fillBody is memory.fill in chunks.
func (o *output) fillBody() {
	o.op(1, 1, typeI32) // size
	o.trapBeyond([]byte{opMisc, miscMemoryFill, 0}, at0)
	o.ascending([]byte{opMisc, miscMemoryFill, 0}, at0)
	o.op(opEnd)
}

// copyBody is memory.copy in chunks, from the end if the target lies behind the source.
func (o *output) copyBody() {
	instruction := []byte{opMisc, miscMemoryCopy, 0, 0}
	o.op(1, 1, typeI32)
	o.trapBeyond(instruction, at0, at1)
	o.u32(opLocalGet, at0)
	o.u32(opLocalGet, at1)
	o.op(i32LeU, opIf, 0x40)
	o.ascending(instruction, at0, at1)
	o.op(opElse)
	o.descending(instruction)
	o.op(opEnd, opEnd)
}

// trapBeyond lets the instruction itself trap, before anything is written, where a range is not all in memory.
func (o *output) trapBeyond(instruction []byte, starts ...uint32) {
	for _, start := range starts {
		o.u32(opLocalGet, start)
		o.op(i64ExtendI32U)
		o.u32(opLocalGet, length)
		o.op(i64ExtendI32U, i64Add)
		o.op(opMemorySize, 0, i64ExtendI32U)
		o.i64(16)
		o.op(i64Shl, i64GtU, opIf, 0x40)
		o.whole(instruction, length)
		o.op(opEnd)
	}
}

func (o *output) whole(instruction []byte, n uint32) {
	o.u32(opLocalGet, at0)
	o.u32(opLocalGet, at1)
	o.u32(opLocalGet, n)
	o.op(instruction...)
}

// nextChunk sets size to that of the next chunk and pays for it.
func (o *output) nextChunk() {
	o.u32(opLocalGet, length)
	o.i32(chunk)
	o.u32(opLocalGet, length)
	o.i32(chunk)
	o.op(i32LtU, selectOp)
	o.u32(opLocalSet, size)
	o.u32(opGlobalGet, o.added.fuel)
	o.u32(opLocalGet, size)
	o.i32(perUnit)
	o.op(i32ShrU, i64ExtendI32U, i64Sub)
	o.u32(opGlobalSet, o.added.fuel)
	o.check()
}

// add moves a local by size.
func (o *output) add(to uint32, op byte) {
	o.u32(opLocalGet, to)
	o.u32(opLocalGet, size)
	o.op(op)
	o.u32(opLocalSet, to)
}

func (o *output) ascending(instruction []byte, starts ...uint32) {
	o.op(opLoop, 0x40)
	o.nextChunk()
	o.whole(instruction, size)
	for _, start := range starts {
		o.add(start, i32Add)
	}
	o.again()
}

func (o *output) descending(instruction []byte) {
	o.op(opLoop, 0x40)
	o.nextChunk()
	o.add(length, i32Sub)
	for _, start := range []uint32{at0, at1} {
		o.u32(opLocalGet, start)
		o.u32(opLocalGet, length)
		o.op(i32Add)
	}
	o.u32(opLocalGet, size)
	o.op(instruction...)
	o.u32(opLocalGet, length)
	o.u32(opBrIf, 0)
	o.op(opEnd)
}

// again ends the loop once nothing is left.
func (o *output) again() {
	o.u32(opLocalGet, length)
	o.u32(opLocalGet, size)
	o.op(i32Sub)
	o.u32(opLocalTee, length)
	o.u32(opBrIf, 0)
	o.op(opEnd)
}
