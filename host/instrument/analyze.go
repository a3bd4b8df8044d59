package instrument

import "fmt"

// checkLocals looks at how many locals the functions announce, before anything walks through one.
func (m *module) checkLocals() *Error {
	for i := range m.bodies {
		f := m.imported[Function] + i
		d := m.enter(f)
		if own := d.locals - m.params(f); own > uint64(m.options.MaxLocals) {
			return invalid("%s has %d locals; the most is %d", m.functionName(f), own, m.options.MaxLocals)
		}
		if d.bad {
			return invalid("the locals of %s are malformed", m.functionName(f))
		}
	}
	return nil
}

func (m *module) params(f int) uint64 { return uint64(m.types[m.funcs[f]].params) }

// enter reads the locals of a function.
func (m *module) enter(f int) decoder {
	d := decoder{scanner: scanner{b: m.bodies[f-m.imported[Function]]}, m: m, locals: m.params(f)}
	for range d.count() {
		d.locals += uint64(d.u32())
		d.valueType(len(m.types))
		if d.bad {
			break
		}
	}
	return d
}

// analyze reads all code once: it checks every index, and learns what to add to the module.
func (m *module) analyze() *Error {
	m.callees = make([]callee, len(m.bodies))
	p := &planner{decoder: decoder{m: m}, tuning: m.tuning, learn: true}
	for i := range m.bodies {
		if err := p.plan(m.imported[Function] + i); err != nil {
			return err
		}
		m.callees[i] = p.left
	}
	return nil
}

// finish tells whether the function ended where its body does.
func (d *decoder) finish(f int) *Error {
	switch {
	case d.why != nil:
		d.why.Message = fmt.Sprintf("%s has the instruction %s", d.m.functionName(f), d.why.Message)
		return d.why
	case d.bad:
		return invalid("%s has a malformed instruction at byte %d of its body", d.m.functionName(f), d.from)
	case d.depth > 0 || d.left() > 0:
		return invalid("%s has blocks that do not nest", d.m.functionName(f))
	}
	return nil
}

// note learns from one instruction.
func (m *module) note(d *decoder, f int) {
	switch d.op {
	case opTableSet:
		m.stateful(d, f)
	case opRefFunc:
		if int64(d.index) == m.start && !m.startDeclared {
			d.fail() // exporting it would make this valid
		}
	case opMisc:
		m.noteBulk(d, f)
	}
}

func (m *module) noteBulk(d *decoder, f int) {
	switch d.sub {
	case miscMemoryFill:
		m.uses.fill = true
	case miscMemoryCopy:
		m.uses.copy = true
	case miscMemoryInit:
		m.uses.bulk = true
	case miscTableGrow:
		m.uses.grow, m.uses.bulk = true, true
		m.tables[d.index].grows = true
		m.stateful(d, f)
	case miscTableInit, miscTableCopy, miscTableFill:
		m.uses.bulk = true
		m.stateful(d, f)
	case miscDataDrop, miscElemDrop:
		m.stateful(d, f)
	}
}

// stateful notes that the function changes what a snapshot does not hold.
func (m *module) stateful(d *decoder, f int) {
	this := place{f, d.op, d.sub}
	if len(m.reasons) < maxReasons && this != m.noted {
		m.noted = this
		m.reason("%s uses %s", m.functionName(f), d.describe())
	}
}

type place struct {
	f   int
	op  byte
	sub uint32
}

const maxReasons = 8

func (m *module) reason(format string, args ...any) {
	if len(m.reasons) < maxReasons {
		m.reasons = append(m.reasons, fmt.Sprintf(format, args...))
	}
}

func (m *module) uncapturable() []string { return m.reasons }

// describe answers the instruction's name, or its number where it has none here.
func (d *decoder) describe() string {
	name := names[d.op]
	switch d.op {
	case opMisc:
		name = miscNames[d.sub]
	case opAtomic:
		name = "of atomics"
	}
	switch {
	case name != "":
		return name
	case d.op == 0xfb:
		return "0xfb of garbage collection"
	case operands[d.op] == prefixed:
		return fmt.Sprintf("%#x %d", d.op, d.sub)
	}
	return fmt.Sprintf("%#x", d.op)
}
