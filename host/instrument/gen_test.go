package instrument_test

// source hands out the choices that make up a module. Once it is empty it answers zero, which always ends things.
type source struct{ b []byte }

func (s *source) byte() byte {
	if len(s.b) == 0 {
		return 0
	}
	c := s.b[0]
	s.b = s.b[1:]
	return c
}

func (s *source) below(n int) int { return int(s.byte()) % n }

func (s *source) chance(of int) bool { return s.below(of) == 1 }

func (s *source) u64() (v uint64) {
	switch s.below(4) {
	case 0:
		return uint64(s.below(8))
	case 1:
		return uint64(int64(int8(s.byte())))
	case 2:
		return uint64(s.byte())<<8 | uint64(s.byte())
	}
	for range 8 {
		v = v<<8 | uint64(s.byte())
	}
	return v
}

type valueType = byte

const (
	i32  valueType = 0x7f
	i64  valueType = 0x7e
	f32  valueType = 0x7d
	f64  valueType = 0x7c
	v128 valueType = 0x7b
)

var numbers = []valueType{i32, i64, f32, f64}

type signature struct{ in, out []valueType }

// generator makes a valid module of whatever bytes it is given. All its loops and calls end: each turn and each call
// takes one from the global budget.
type generator struct {
	*source
	types   []signature
	imports int   // functions; they have the first types
	funcs   []int // type of each, imports first
	globals []valueType
	entries int // of the table
	passive int // data segments
	// exceptions are thrown and caught in some modules only: see world.
	exceptions bool
	body       *body
}

// Globals that every module has. They are followed by random ones.
const (
	budgetGlobal = iota
	firstGlobal
)

const (
	budget    = 200
	memoryMax = 4
)

func u32(b []byte, v int) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func s64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func text(b []byte, s string) []byte { return append(u32(b, len(s)), s...) }

func list(items ...[]byte) []byte {
	b := u32(nil, len(items))
	for _, i := range items {
		b = append(b, i...)
	}
	return b
}

func section(b []byte, id byte, content []byte) []byte {
	return append(u32(append(b, id), len(content)), content...)
}

// generated is a module with functions exported as f0 and so on.
type generated struct {
	wasm       []byte
	signatures []signature
	exceptions bool
}

func generate(choices []byte) *generated {
	g := &generator{source: &source{choices}}
	g.exceptions = g.chance(4)
	g.types = []signature{{[]valueType{i32, i64}, []valueType{i32}}, {[]valueType{f64, f32}, nil}, {nil, nil}, {[]valueType{i32}, nil}}
	for range 1 + g.below(4) {
		g.types = append(g.types, signature{g.someTypes(3), g.someTypes(3)})
	}
	g.imports = g.below(3)
	for i := range g.imports {
		g.funcs = append(g.funcs, i)
	}
	for range 1 + g.below(5) {
		g.funcs = append(g.funcs, g.below(len(g.types)))
	}
	g.globals = []valueType{i32}
	for range g.below(5) {
		g.globals = append(g.globals, g.someType())
	}
	g.entries = g.below(8)
	g.passive = g.below(3)
	start := -1
	if g.chance(6) {
		start = len(g.funcs)
		g.funcs = append(g.funcs, 2)
	}
	code := g.codeSection() // adds types of blocks
	wasm := append([]byte(nil), "\x00asm\x01\x00\x00\x00"...)
	wasm = section(wasm, 1, g.typeSection())
	if g.imports > 0 {
		wasm = section(wasm, 2, g.importSection())
	}
	wasm = section(wasm, 3, g.functionSection())
	wasm = section(wasm, 4, list([]byte{0x70, 0, 8}))
	wasm = section(wasm, 5, list([]byte{1, byte(1 + g.below(2)), memoryMax}))
	wasm = section(wasm, 13, list([]byte{0, 3})) // a tag, of one i32
	wasm = section(wasm, 6, g.globalSection())
	wasm = section(wasm, 7, g.exportSection())
	if start >= 0 {
		wasm = section(wasm, 8, u32(nil, start))
	}
	wasm = section(wasm, 9, g.elementSection())
	wasm = section(wasm, 12, u32(nil, g.passive+1))
	wasm = section(wasm, 10, code)
	wasm = section(wasm, 11, g.dataSection())
	out := &generated{wasm: wasm, exceptions: g.exceptions}
	for _, t := range g.funcs[g.imports:] {
		out.signatures = append(out.signatures, g.types[t])
	}
	return out
}

func (g *generator) someType() valueType { return numbers[g.below(len(numbers))] }

func (g *generator) someTypes(most int) (t []valueType) {
	for range g.below(most + 1) {
		t = append(t, g.someType())
	}
	return t
}

func (g *generator) typeSection() []byte {
	var items [][]byte
	for _, t := range g.types {
		b := append(u32([]byte{0x60}, len(t.in)), t.in...)
		items = append(items, append(u32(b, len(t.out)), t.out...))
	}
	return list(items...)
}

func (g *generator) importSection() []byte {
	var items [][]byte
	for i := range g.imports {
		items = append(items, u32(append(text(text(nil, "env"), string(rune('a'+i))), 0), i))
	}
	return list(items...)
}

func (g *generator) functionSection() []byte {
	var items [][]byte
	for _, t := range g.funcs[g.imports:] {
		items = append(items, u32(nil, t))
	}
	return list(items...)
}

func (g *generator) globalSection() []byte {
	var items [][]byte
	for i, t := range g.globals {
		init := g.constant(t)
		if i == budgetGlobal {
			init = s64([]byte{0x41}, budget)
		}
		items = append(items, append(append([]byte{t, 1}, init...), 0x0b))
	}
	return list(items...)
}

func (g *generator) exportSection() []byte {
	items := [][]byte{append(text(nil, "memory"), 2, 0)}
	for i := range g.globals {
		items = append(items, u32(append(text(nil, "g"+string(rune('0'+i))), 3), i))
	}
	for i := g.imports; i < len(g.funcs); i++ {
		items = append(items, u32(append(text(nil, "f"+string(rune('0'+i-g.imports))), 0), i))
	}
	return list(items...)
}

// elementSection fills part of the table, so that calls through it sometimes trap, and has a segment for table.init.
func (g *generator) elementSection() []byte {
	active := []byte{0, 0x41, 0, 0x0b}
	passive := []byte{1, 0}
	some := func(b []byte, n int) []byte {
		b = u32(b, n)
		for range n {
			b = u32(b, g.below(len(g.funcs)))
		}
		return b
	}
	return list(some(active, g.entries), some(passive, g.below(4)))
}

func (g *generator) dataSection() []byte {
	items := [][]byte{text([]byte{0, 0x41, byte(g.below(64)), 0x0b}, "a string in memory")}
	for range g.passive {
		items = append(items, text([]byte{1}, "passive"[:g.below(7)]))
	}
	return list(items...)
}

func (g *generator) constant(t valueType) []byte {
	v := g.u64()
	switch t {
	case i32:
		return s64([]byte{0x41}, int64(int32(v)))
	case i64:
		return s64([]byte{0x42}, int64(v))
	case f32:
		return []byte{0x43, 0, byte(v), byte(v >> 8), byte(v>>16) & 0x7f} // little but finite, mostly
	case f64:
		return []byte{0x44, 0, 0, 0, 0, byte(v), byte(v >> 8), byte(v >> 16), byte(v>>24) & 0x7f}
	}
	b := []byte{0xfd, 0x0c}
	for i := range 16 {
		b = append(b, byte(v>>(i%8*8)))
	}
	return b
}
