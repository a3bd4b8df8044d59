package instrument_test

// body is a function that is being made.
type body struct {
	code   []byte
	locals []valueType
	stack  []valueType
	labels []label
	size   int // instructions left
}

type label struct {
	types []valueType // what a jump to it carries
	base  int         // height of the stack where its block began
	loop  bool
}

func (g *generator) codeSection() []byte {
	var items [][]byte
	for _, t := range g.funcs[g.imports:] {
		b := g.function(g.types[t])
		items = append(items, append(u32(nil, len(b)), b...))
	}
	return list(items...)
}

func (g *generator) function(t signature) []byte {
	b := &body{locals: append([]valueType{}, t.in...), size: 4 + g.below(80)}
	g.body = b
	extra := g.someTypes(4)
	if g.chance(4) {
		extra = append(extra, v128)
	}
	b.locals = append(b.locals, extra...)
	b.labels = []label{{types: t.out}}
	// Without budget nothing happens.
	g.op(0x23, budgetGlobal, 0x41, 1, 0x6b, 0x24, budgetGlobal, 0x23, budgetGlobal, 0x41, 0, 0x48, 0x04, 0x40)
	if g.chance(2) {
		g.op(0x00)
	} else {
		for _, r := range t.out {
			b.code = append(b.code, g.constant(r)...)
		}
		g.op(0x0f)
	}
	g.op(0x0b)
	g.instructions()
	g.leave(t.out)
	g.op(0x0b)
	var groups [][]byte
	for _, l := range extra {
		groups = append(groups, []byte{1, l})
	}
	return append(list(groups...), b.code...)
}

func (g *generator) op(b ...byte) { g.body.code = append(g.body.code, b...) }

func (g *generator) push(t ...valueType) { g.body.stack = append(g.body.stack, t...) }

func (g *generator) pop(n int) { g.body.stack = g.body.stack[:len(g.body.stack)-n] }

func (g *generator) base() int { return g.body.labels[len(g.body.labels)-1].base }

// free is what the current block has on the stack.
func (g *generator) free() []valueType { return g.body.stack[g.base():] }

// want puts values of these types on the stack, unless they are there.
func (g *generator) want(types []valueType) {
	if have := g.free(); len(have) >= len(types) && string(have[len(have)-len(types):]) == string(types) {
		return
	}
	for _, t := range types {
		g.value(t)
	}
}

// value pushes a constant, a local or a global.
func (g *generator) value(t valueType) {
	b := g.body
	pick := g.below(8)
	for i := range b.locals {
		if j := (i + pick) % len(b.locals); pick > 2 && b.locals[j] == t {
			b.code = u32(append(b.code, 0x20), j)
			g.push(t)
			return
		}
	}
	if i := firstGlobal + pick; pick < 3 && i < len(g.globals) && g.globals[i] == t {
		b.code = u32(append(b.code, 0x23), i)
	} else {
		b.code = append(b.code, g.constant(t)...)
	}
	g.push(t)
}

// leave makes what the block has on the stack just these types.
func (g *generator) leave(types []valueType) {
	if string(g.free()) == string(types) {
		return
	}
	for range g.free() {
		g.op(0x1a)
	}
	g.body.stack = g.body.stack[:g.base()]
	for _, t := range types {
		g.value(t)
	}
}

func (g *generator) instructions() {
	b := g.body
	for n := g.below(24); n > 0 && b.size > 0; n-- {
		b.size--
		if done := g.instruction(); done {
			return
		}
	}
}

// instruction makes one, and answers whether nothing can come after it.
func (g *generator) instruction() bool {
	switch g.below(26) {
	case 0, 1:
		g.value(g.someType())
	case 2, 3, 4, 5:
		g.numeric()
	case 6:
		g.store()
	case 7:
		g.load()
	case 8, 9:
		g.setLocal()
	case 10:
		g.setGlobal()
	case 11, 12:
		g.block(0x02)
	case 13:
		g.block(0x03)
	case 14, 15:
		g.conditional()
	case 16, 17:
		g.branchIf()
	case 18:
		return g.jump()
	case 19:
		g.call()
	case 20:
		g.callIndirect()
	case 21:
		g.bulk()
	case 22:
		g.vector()
	case 23:
		g.various()
	case 24:
		if g.exceptions {
			g.try()
		}
	case 25:
		return g.tail()
	}
	return false
}

// try makes a block that exceptions leave, and sometimes throws one into it.
func (g *generator) try() {
	b := g.body
	all := g.chance(2)
	l := label{types: []valueType{i32}, base: len(b.stack)}
	catch := []byte{0, 0, 0} // of the tag, to the block around it
	g.blockOf(0x02, &l.types, all)
	if all {
		catch = []byte{2, 0}
	}
	b.labels = append(b.labels, l, label{base: len(b.stack)})
	g.op(append([]byte{0x1f, 0x40, 1}, catch...)...)
	g.instructions()
	g.close(nil)
	g.close(l.types)
}

// blockOf begins a block that answers what a catch leaves: of all exceptions nothing.
func (g *generator) blockOf(op byte, types *[]valueType, all bool) {
	if all {
		*types = nil
	}
	g.op(op)
	g.blockType(nil, *types)
}

// tail ends the function with a call of one that answers the same, or with an exception.
func (g *generator) tail() bool {
	b := g.body
	if g.exceptions && g.chance(3) {
		g.want([]valueType{i32})
		g.op(0x08, 0)
		b.stack = b.stack[:g.base()]
		return true
	}
	f := g.below(len(g.funcs))
	if t := g.types[g.funcs[f]]; string(t.out) == string(b.labels[0].types) {
		g.want(t.in)
		b.code = u32(append(b.code, 0x12), f)
		b.stack = b.stack[:g.base()]
		return true
	}
	return false
}

func (g *generator) block(op byte) {
	b := g.body
	in, out := g.someTypes(2), g.someTypes(2)
	if g.chance(2) {
		in = nil
	}
	g.want(in)
	g.op(op)
	g.blockType(in, out)
	l := label{types: out, base: len(b.stack) - len(in), loop: op == 0x03}
	if l.loop {
		l.types = in
	}
	b.labels = append(b.labels, l)
	g.instructions()
	if l.loop && g.chance(2) {
		g.again(in)
	}
	g.close(out)
}

// again goes round a loop while there is budget.
func (g *generator) again(in []valueType) {
	g.want(in)
	g.op(0x23, budgetGlobal, 0x41, 1, 0x6b, 0x24, budgetGlobal, 0x23, budgetGlobal, 0x41, 0, 0x4a, 0x0d, 0)
}

func (g *generator) close(out []valueType) {
	b := g.body
	g.leave(out)
	g.op(0x0b)
	b.stack = append(b.stack[:g.base()], out...)
	b.labels = b.labels[:len(b.labels)-1]
}

func (g *generator) conditional() {
	b := g.body
	in, out := g.someTypes(1), g.someTypes(2)
	g.want(in)
	g.value(i32)
	g.pop(1)
	g.op(0x04)
	half := g.chance(3)
	if half {
		out = in
	}
	g.blockType(in, out)
	b.labels = append(b.labels, label{types: out, base: len(b.stack) - len(in)})
	g.instructions()
	if !half {
		g.leave(out)
		g.op(0x05)
		b.stack = append(b.stack[:g.base()], in...)
		g.instructions()
	}
	g.close(out)
}

// blockType writes the type of a block. Types of functions that are needed are added to the module.
func (g *generator) blockType(in, out []valueType) {
	b := g.body
	switch {
	case len(in) == 0 && len(out) == 0:
		g.op(0x40)
	case len(in) == 0 && len(out) == 1:
		g.op(out[0])
	default:
		b.code = s64(b.code, int64(g.typeOf(signature{in, out})))
	}
}

func (g *generator) typeOf(s signature) int {
	for i, t := range g.types {
		if string(t.in) == string(s.in) && string(t.out) == string(s.out) {
			return i
		}
	}
	g.types = append(g.types, s)
	return len(g.types) - 1
}

// target picks a label that can be jumped to without a loop that does not end.
func (g *generator) target() (int, label) {
	labels := g.body.labels
	for depth := g.below(len(labels)); depth < len(labels); depth++ {
		if l := labels[len(labels)-1-depth]; !l.loop {
			return depth, l
		}
	}
	return len(labels) - 1, labels[0]
}

func (g *generator) branchIf() {
	depth, l := g.target()
	g.want(l.types)
	g.value(i32)
	g.pop(1)
	g.body.code = u32(append(g.body.code, 0x0d), depth)
}

// jump ends the block, by a jump or a trap, and leaves code behind that is never reached.
func (g *generator) jump() bool {
	b := g.body
	switch g.below(4) {
	case 0:
		depth, l := g.target()
		g.want(l.types)
		b.code = u32(append(b.code, 0x0c), depth)
	case 1:
		g.table()
	case 2:
		g.want(b.labels[0].types)
		g.op(0x0f)
	case 3:
		if !g.chance(4) {
			return false
		}
		g.op(0x00)
	}
	b.stack = b.stack[:g.base()]
	if g.chance(2) {
		g.instructions()
	}
	return true
}

func (g *generator) table() {
	b := g.body
	depth, l := g.target()
	depths := []int{depth}
	for i := range b.labels {
		if o := b.labels[len(b.labels)-1-i]; !o.loop && string(o.types) == string(l.types) && g.chance(2) {
			depths = append(depths, i)
		}
	}
	g.want(l.types)
	g.value(i32)
	b.code = append(s64(append(b.code, 0x41), int64(len(depths))), 0x70, 0x0e) // i32.rem_u, so that all are taken
	b.code = u32(b.code, len(depths)-1)
	for _, d := range depths[1:] {
		b.code = u32(b.code, d)
	}
	b.code = u32(b.code, depth)
}
