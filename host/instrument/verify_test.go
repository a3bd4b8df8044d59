package instrument

import "fmt"

// verify walks through the functions of a rewritten module and tells where one breaks a promise: that what runs was paid
// for, that little more was paid than runs, that every loop begins with a check, that every call of another function
// comes after one, and that no way between two checks is long. It knows the engine's view only: the code.
func verify(result Module, tuning tuning) error {
	m := &module{options: Options{Features: ^Features(0)}.withDefaults(), wasm: result.Wasm, ours: true}
	if err := m.split(); err != nil {
		return err
	}
	if err := m.read(); err != nil {
		return err
	}
	v := &verifier{m: m, fuel: uint32(len(m.globals) - 1), functions: result.Functions, tuning: tuning}
	for i, in := range m.imports {
		if in.Module == HookModule && in.Name == "slice" {
			v.slice = functionsAmong(m.imports[:i])
		}
	}
	v.calls = make([]bool, len(m.bodies))
	v.bare = make([]int64, len(m.bodies))
	for pass := range 2 { // the second one knows which functions call
		for i := range v.functions {
			if err := v.function(i, pass == 1); err != nil {
				return fmt.Errorf("function %d: %w", i, err)
			}
		}
	}
	return nil
}

func functionsAmong(imports []Import) (n uint32) {
	for _, in := range imports {
		if in.Kind == Function {
			n++
		}
	}
	return n
}

type verifier struct {
	m     *module
	fuel  uint32
	slice uint32

	tuning    tuning
	functions int // that are the guest's; helpers follow
	calls     []bool
	bare      []int64

	at     int
	code   []step
	labels []reached
	now    reached
	err    error
}

// step is one instruction.
type step struct {
	op      byte
	index   uint32
	value   int64 // of i64.const
	targets []uint32
	price   int64
	delay   int64
}

// reached is what all ways to some place have in common.
type reached struct {
	op      byte // of the block
	alive   bool
	least   int64 // paid and not used up yet, at least
	back    int64 // the same since the last call that may have been deep; plenty: there was none
	since   int64 // the longest delay since a check
	bare    int64 // the longest delay without one; below zero: there is none
	begin   *reached
	catches []uint32
}

func (r reached) or(o reached) reached {
	if !r.alive {
		return r.with(o)
	}
	if !o.alive {
		return r
	}
	r.least, r.back = min(r.least, o.least), min(r.back, o.back)
	r.since, r.bare = max(r.since, o.since), max(r.bare, o.bare)
	return r
}

const plenty = 1 << 40

func (v *verifier) function(i int, judge bool) error {
	d := v.m.enter(v.m.imported[Function] + i)
	own := int64(d.locals - v.m.params(v.m.imported[Function]+i))
	d.depth = 1
	v.code = v.code[:0]
	for d.depth > 0 && d.next() {
		s := step{op: d.op, index: d.index, price: price(d.op), delay: v.tuning.delay(&d)}
		switch d.op {
		case opI64Const:
			s.value = sleb(d.b[d.from+1 : d.at])
		case opBrTable, opTryTable:
			s.targets = append(s.targets, d.targets...)
		case opMisc:
			switch d.sub {
			case miscTableGrow:
				return nil // has locals and code of its own
			case miscMemoryInit, miscTableInit, miscTableCopy, miscTableFill:
				v.code[len(v.code)-1] = step{op: 0x01} // the call that charges for it is no call of the guest's
			}
		}
		switch d.op {
		case opBlock, opLoop, opIf, opTryTable:
			d.depth++
		case opEnd:
			d.depth--
		}
		v.code = append(v.code, s)
	}
	if d.bad {
		return fmt.Errorf("malformed at %d", d.from)
	}
	v.err = nil
	v.now = reached{alive: true, least: -own, back: plenty, since: own, bare: own}
	v.labels = append(v.labels[:0], reached{op: opBlock})
	v.bare[i] = 0
	for at := 0; at < len(v.code) && v.err == nil; at++ {
		v.at = at
		at += v.step(i, at)
	}
	if judge {
		return v.err
	}
	return nil
}

func (v *verifier) is(at int, ops ...byte) bool {
	for i, op := range ops {
		if at+i >= len(v.code) || v.code[at+i].op != op {
			return false
		}
	}
	return true
}

func (v *verifier) ofFuel(at int) bool { return v.is(at, opGlobalGet) && v.code[at].index == v.fuel }

// checkAt tells how many instructions a check takes that begins here.
func (v *verifier) checkAt(at int) int {
	switch {
	case v.is(at, opBlock, opGlobalGet, opI64Const, 0x59, opBrIf, opCall, opEnd) && v.ofFuel(at+1) && v.code[at+5].index == v.slice:
		return 7
	case v.is(at, opGlobalGet, opI64Const, i64LtS, opIf, opCall, opBr, opEnd) && v.ofFuel(at) && v.code[at+4].index == v.slice:
		return 7
	}
	return 0
}

// step looks at one instruction, or at a sequence that was added, and answers how many more that took.
func (v *verifier) step(f, at int) int {
	s := v.code[at]
	if n := v.checkAt(at); n > 0 {
		v.now.since, v.now.bare = 0, never
		return n - 1
	}
	if v.ofFuel(at) && v.is(at, opGlobalGet, opI64Const, i64Sub, opGlobalSet) {
		v.now.least += v.code[at+1].value
		v.now.back += v.code[at+1].value
		return 3
	}
	v.use(s)
	switch s.op {
	case opLoop:
		if next := at + 1; v.now.alive && v.checkAt(next) == 0 && (!v.is(next, opGlobalGet, opI64Const, i64Sub, opGlobalSet) || v.checkAt(next+4) == 0) {
			v.fail("a loop begins without a check")
		}
		v.push(s.op)
	case opBlock, opIf:
		v.push(s.op)
	case opTryTable:
		v.push(s.op)
		v.labels[len(v.labels)-1].catches = s.targets
	case opElse:
		l := &v.labels[len(v.labels)-1]
		*l = l.with(l.or(v.now))
		v.now = *l.begin
		l.op = opElse
	case opEnd:
		v.pop(f)
	case opBr:
		v.jump(s.index)
		v.now.alive = false
	case opBrIf, opBrOnNull, opBrOnNonNull:
		v.jump(s.index)
	case opBrTable:
		for _, l := range s.targets {
			v.jump(l)
		}
		v.now.alive = false
	case opReturn, opUnreachable:
		if s.op == opReturn {
			v.leave(f)
		}
		v.now.alive = false
	case opThrow, opThrowRef:
		v.throw()
		v.now.alive = false
	case opCall, opCallIndirect, opCallRef, opReturnCall, opReturnCallIndirect, opReturnCallRef:
		v.call(f, s)
	}
	return 0
}

func (v *verifier) fail(format string, args ...any) {
	if v.now.alive && v.err == nil {
		v.err = fmt.Errorf(format, args...)
	}
}

// use takes what an instruction costs from what was paid.
func (v *verifier) use(s step) {
	v.now.least -= s.price
	v.now.back -= s.price
	v.now.since += s.delay
	v.now.bare += s.delay
	if s.price == 0 {
		return
	}
	switch {
	case v.now.least < 0:
		v.fail("instruction %d, %#x, runs without being paid", v.at, s.op)
	case v.now.back < -v.tuning.afterCall:
		v.fail("%d units after a call were paid for before", -v.now.back)
	case v.now.since-s.delay > v.tuning.stretch+v.tuning.leave+3:
		v.fail("a delay of %d without a check", v.now.since)
	case v.now.bare-s.delay > v.tuning.entry+v.tuning.leave+3:
		v.fail("a delay of %d without a first check", v.now.bare)
	}
}

func (v *verifier) push(op byte) {
	begin := v.now
	v.labels = append(v.labels, reached{op: op, begin: &begin})
}

func (r reached) with(o reached) reached {
	o.op, o.begin, o.catches = r.op, r.begin, r.catches
	return o
}

func (v *verifier) pop(f int) {
	l := v.labels[len(v.labels)-1]
	v.labels = v.labels[:len(v.labels)-1]
	switch l.op {
	case opIf:
		v.now = v.now.or(l).or(*l.begin)
	case opLoop:
	default:
		v.now = v.now.or(l)
	}
	if len(v.labels) == 0 {
		v.leave(f)
	}
}

func (v *verifier) jump(label uint32) {
	if l := &v.labels[len(v.labels)-1-int(label)]; v.now.alive {
		*l = l.with(l.or(v.now))
		if int(label) == len(v.labels)-1 {
			v.leave(f0)
		}
	}
}

// f0 stands for no function: jumps out of one come to its end, which counts.
const f0 = -1

func (v *verifier) leave(f int) {
	if v.now.alive && f >= 0 {
		v.bare[f] = max(v.bare[f], v.now.bare)
	}
}

func (v *verifier) call(f int, s step) {
	deep, unchecked := true, v.tuning.entry
	if s.op == opCall || s.op == opReturnCall {
		i := int(s.index) - v.m.imported[Function]
		if i < 0 {
			v.now.since += v.tuning.leave
			v.now.bare += v.tuning.leave
			return
		}
		if i >= v.functions {
			return
		}
		deep, unchecked = v.calls[i], max(0, v.bare[i])
	}
	if v.now.bare >= 0 {
		v.fail("a call without a check before it")
	}
	if v.now.alive {
		v.calls[f] = true
	}
	v.now.since += unchecked
	if deep {
		v.now.back = 0
		v.now.since = max(v.now.since, v.tuning.stretch-v.tuning.afterCall)
	}
	if s.op != opCall && s.op != opCallIndirect && s.op != opCallRef {
		v.now.alive = false
	}
	v.throw()
}

// throw goes on in all handlers around.
func (v *verifier) throw() {
	now := v.now
	v.now.since = min(v.now.since, v.tuning.stretch) // the planner puts a check there
	for i := range v.labels {
		for _, l := range v.labels[i].catches {
			v.jump(uint32(len(v.labels)-i) + l)
		}
	}
	v.now = now
}

func sleb(b []byte) (v int64) {
	for i, c := range b {
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if shift := 64 - 7*(i+1); shift > 0 {
				v = v << shift >> shift
			}
			break
		}
	}
	return v
}
