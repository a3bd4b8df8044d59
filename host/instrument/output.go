package instrument

// output is a section or function that is written anew.
type output struct {
	b     []byte
	m     *module
	added layout
}

// layout says where the added things are.
type layout struct {
	shift                        uint32 // of all defined functions
	fuel                         uint32 // global
	slice, refused               uint32 // functions
	fill, copy, length           uint32
	typeHook, typeDelta          uint32
	typeLength, typeCopy         uint32
	types, functions, helperFrom uint32 // how many, and the first helper
}

// moved is the new index of a function.
func (o *output) moved(f uint32) uint32 {
	if f < uint32(o.m.imported[Function]) {
		return f
	}
	return f + o.added.shift
}

// raw copies what s read since from. There may be no output.
func (o *output) raw(s *scanner, from int) {
	if o != nil && !s.bad {
		o.b = append(o.b, s.b[from:s.at]...)
	}
}

func (o *output) op(bytes ...byte) { o.b = append(o.b, bytes...) }

func (o *output) u32(op byte, v uint32) { o.b = appendU32(append(o.b, op), v) }

func (o *output) i32(v int32) { o.b = appendS64(append(o.b, opI32Const), int64(v)) }

func (o *output) i64(v int64) { o.b = appendS64(append(o.b, opI64Const), v) }

// subtract takes units off the fuel.
func (o *output) subtract(cost int64) {
	o.u32(opGlobalGet, o.added.fuel)
	o.i64(cost)
	o.op(0x7d) // i64.sub
	o.u32(opGlobalSet, o.added.fuel)
}

// check calls the host if the fuel is below zero.
func (o *output) check() {
	o.op(opBlock, 0x40)
	o.u32(opGlobalGet, o.added.fuel)
	o.i64(0)
	o.op(0x59) // i64.ge_s
	o.u32(opBrIf, 0)
	o.u32(opCall, o.added.slice)
	o.op(opEnd)
}

// recheck does so at the head of a loop, and goes back to the head.
func (o *output) recheck() {
	o.u32(opGlobalGet, o.added.fuel)
	o.i64(0)
	o.op(0x53, opIf, 0x40) // i64.lt_s
	o.u32(opCall, o.added.slice)
	o.u32(opBr, 1)
	o.op(opEnd)
}

// function writes the body of a function with its changes.
func (o *output) function(p *planner) {
	at := p.header(o)
	for _, c := range p.changes {
		o.b = append(o.b, p.b[at:c.at]...)
		at = int(c.end)
		switch c.kind {
		case charge:
			a := p.arms[c.arg]
			if a.check && a.kind == armLoop {
				o.recheck()
			}
			if a.cost > 0 {
				o.subtract(a.cost)
			}
			if a.check && a.kind != armLoop {
				o.check()
			}
		case reindex:
			o.u32(p.b[c.at], o.moved(c.arg))
		case callHelper:
			o.u32(opCall, o.helper(c.arg))
		case chargeLength:
			o.u32(opCall, o.added.length)
			o.b = append(o.b, p.b[c.at:c.end]...)
		case tableGrow:
			o.tableGrow(p, p.b[c.at:c.end])
		}
	}
	o.b = append(o.b, p.b[at:]...)
}

// header writes the locals of a function and answers where its instructions begin.
func (p *planner) header(o *output) int {
	if !p.scratch {
		return 0
	}
	s := scanner{b: p.b}
	o.b = appendU32(o.b, s.u32()+1)
	at := int(p.changes[0].at)
	o.b = append(o.b, p.b[s.at:at]...)
	o.op(2, 0x7f) // two i32
	return at
}

// tableGrow pays for the entries that were made, and tells the host about those that were not.
func (o *output) tableGrow(p *planner, instruction []byte) {
	delta, result := uint32(p.locals), uint32(p.locals)+1
	o.u32(opLocalTee, delta)
	o.b = append(o.b, instruction...)
	o.u32(opLocalTee, result)
	o.i32(-1)
	o.op(0x46, opIf, 0x40) // i32.eq
	o.u32(opLocalGet, delta)
	o.u32(opCall, o.added.refused)
	o.op(opElse)
	o.u32(opLocalGet, delta)
	o.u32(opCall, o.added.length)
	o.op(0x1a, opEnd) // drop
	o.u32(opLocalGet, result)
}
