package instrument_test

// operation takes values of some types and answers one.
type operation struct {
	op  []byte
	in  []valueType
	out valueType
}

var operations = func() (all []operation) {
	add := func(from, to byte, out valueType, in ...valueType) {
		for op := int(from); op <= int(to); op++ {
			all = append(all, operation{[]byte{byte(op)}, in, out})
		}
	}
	add(0x45, 0x45, i32, i32)      // eqz
	add(0x46, 0x4f, i32, i32, i32) // comparisons
	add(0x50, 0x50, i32, i64)      //
	add(0x51, 0x5a, i32, i64, i64) //
	add(0x5b, 0x60, i32, f32, f32) //
	add(0x61, 0x66, i32, f64, f64) //
	add(0x67, 0x69, i32, i32)      // clz, ctz, popcnt
	add(0x6a, 0x78, i32, i32, i32) // arithmetic
	add(0x79, 0x7b, i64, i64)      //
	add(0x7c, 0x8a, i64, i64, i64) //
	add(0x8b, 0x91, f32, f32)      //
	add(0x92, 0x98, f32, f32, f32) //
	add(0x99, 0x9f, f64, f64)      //
	add(0xa0, 0xa6, f64, f64, f64) //
	add(0xa7, 0xa7, i32, i64)      // conversions
	add(0xa8, 0xa9, i32, f32)      //
	add(0xaa, 0xab, i32, f64)      //
	add(0xac, 0xad, i64, i32)      //
	add(0xae, 0xaf, i64, f32)      //
	add(0xb0, 0xb1, i64, f64)      //
	add(0xb2, 0xb3, f32, i32)      //
	add(0xb4, 0xb5, f32, i64)      //
	add(0xb6, 0xb6, f32, f64)      //
	add(0xb7, 0xb8, f64, i32)      //
	add(0xb9, 0xba, f64, i64)      //
	add(0xbb, 0xbb, f64, f32)      //
	add(0xc0, 0xc1, i32, i32)      // sign extension
	add(0xc2, 0xc4, i64, i64)      //
	for i, s := range []struct{ out, in valueType }{{i32, f32}, {i32, f64}, {i64, f32}, {i64, f64}} {
		for j := range 2 {
			all = append(all, operation{[]byte{0xfc, byte(i*2 + j)}, []valueType{s.in}, s.out})
		}
	}
	return all
}()

func (g *generator) numeric() {
	o := operations[(int(g.byte())<<8|int(g.byte()))%len(operations)]
	g.want(o.in)
	g.op(o.op...)
	g.pop(len(o.in))
	g.push(o.out)
}

// address pushes one that is in memory, mostly.
func (g *generator) address() {
	g.value(i32)
	if !g.chance(6) {
		g.body.code = append(s64(append(g.body.code, 0x41), 0xffff), 0x71) // i32.and
	}
}

func (g *generator) memarg() []byte { return u32([]byte{0}, g.below(16)) }

var loads = []operation{
	{[]byte{0x28}, nil, i32},
	{[]byte{0x29}, nil, i64},
	{[]byte{0x2a}, nil, f32},
	{[]byte{0x2b}, nil, f64},
	{[]byte{0x2c}, nil, i32},
	{[]byte{0x2f}, nil, i32},
	{[]byte{0x31}, nil, i64},
	{[]byte{0x34}, nil, i64},
	{[]byte{0x35}, nil, i64},
}

var stores = []operation{
	{[]byte{0x36}, nil, i32},
	{[]byte{0x37}, nil, i64},
	{[]byte{0x38}, nil, f32},
	{[]byte{0x39}, nil, f64},
	{[]byte{0x3a}, nil, i32},
	{[]byte{0x3b}, nil, i32},
	{[]byte{0x3c}, nil, i64},
	{[]byte{0x3e}, nil, i64},
}

func (g *generator) load() {
	o := loads[g.below(len(loads))]
	g.address()
	g.op(append(o.op[:1:1], g.memarg()...)...)
	g.pop(1)
	g.push(o.out)
}

func (g *generator) store() {
	o := stores[g.below(len(stores))]
	g.address()
	g.value(o.out)
	g.op(append(o.op[:1:1], g.memarg()...)...)
	g.pop(2)
}

func (g *generator) setLocal() {
	b := g.body
	if len(b.locals) == 0 {
		return
	}
	i := g.below(len(b.locals))
	g.want(b.locals[i : i+1])
	if g.chance(3) {
		b.code = u32(append(b.code, 0x22), i)
		return
	}
	b.code = u32(append(b.code, 0x21), i)
	g.pop(1)
}

func (g *generator) setGlobal() {
	if len(g.globals) == firstGlobal {
		return
	}
	i := firstGlobal + g.below(len(g.globals)-firstGlobal)
	g.want(g.globals[i : i+1])
	g.body.code = u32(append(g.body.code, 0x24), i)
	g.pop(1)
}

func (g *generator) call() {
	f := g.below(len(g.funcs))
	g.passTo(g.types[g.funcs[f]])
	g.body.code = u32(append(g.body.code, 0x10), f)
}

func (g *generator) passTo(t signature) {
	g.want(t.in)
	g.pop(len(t.in))
	g.push(t.out...)
}

func (g *generator) callIndirect() {
	i := g.funcs[g.below(len(g.funcs))]
	t := g.types[i]
	g.want(t.in)
	g.value(i32)
	g.op(0x41, 7, 0x71) // i32.and
	g.pop(1)
	g.passed(t)
	g.body.code = append(u32(append(g.body.code, 0x11), i), 0)
}

func (g *generator) passed(t signature) {
	g.pop(len(t.in))
	g.push(t.out...)
}

// bulk makes an operation on much memory or many entries. Lengths are masked so that most are possible.
func (g *generator) bulk() {
	args := func(masks ...int64) {
		for _, m := range masks {
			g.value(i32)
			g.body.code = append(s64(append(g.body.code, 0x41), m), 0x71)
		}
		g.pop(len(masks))
	}
	switch g.below(8) {
	case 0:
		args(0xffff, 0xff, 0xfff)
		g.op(0xfc, 11, 0) // memory.fill
	case 1:
		args(0x1ffff, 0xff, 0x7fff)
		g.op(0xfc, 11, 0)
	case 2:
		args(0xffff, 0xffff, 0x3fff)
		g.op(0xfc, 10, 0, 0) // memory.copy
	case 3:
		if g.passive > 0 {
			args(0xffff, 3, 3)
			g.op(0xfc, 8, byte(1+g.below(g.passive)), 0) // memory.init
		}
	case 4:
		args(7, 3, 3)
		g.op(0xfc, 12, 1, 0) // table.init
	case 5:
		args(7, 7, 3)
		g.op(0xfc, 14, 0, 0) // table.copy
	case 6:
		g.op(0xd0, 0x70) // ref.null
		args(3)
		g.op(0xfc, 15, 0) // table.grow
		g.push(i32)
	case 7:
		if g.passive > 0 && g.chance(4) {
			g.op(0xfc, 9, 1) // data.drop
		}
	}
}

func (g *generator) vector() {
	g.value(v128)
	switch g.below(4) {
	case 0:
		g.value(v128)
		g.op(0xfd, 0xae, 0x01) // i32x4.add
		g.pop(1)
	case 1:
		g.value(i32)
		g.op(0xfd, 0x1c, byte(g.below(4))) // i32x4.replace_lane
		g.pop(1)
	case 2:
		g.op(0xfd, 0xe0, 0x01) // f32x4.abs
	}
	g.op(0xfd, 0x1b, byte(g.below(4))) // i32x4.extract_lane
	g.pop(1)
	g.push(i32)
}

func (g *generator) various() {
	switch g.below(6) {
	case 0:
		g.op(0x01) // nop
	case 1:
		if len(g.free()) > 0 {
			g.op(0x1a) // drop
			g.pop(1)
		}
	case 2:
		t := g.someType()
		g.value(t)
		g.value(t)
		g.value(i32)
		g.op(0x1b) // select
		g.pop(2)
	case 3:
		g.op(0x3f, 0) // memory.size
		g.push(i32)
	case 4:
		g.op(0x41, byte(g.below(2)), 0x40, 0) // memory.grow
		g.push(i32)
	case 5:
		for range g.below(64) { // much straight code
			g.op(0x41, 1, 0x1a)
		}
	}
}
