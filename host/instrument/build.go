package instrument

import "strings"

// lay decides where the added things go: types, functions and globals at the end of their kind, so that only defined
// functions get new indices.
func (m *module) lay() layout {
	a := layout{shift: 1, fuel: uint32(len(m.globals)), slice: uint32(m.imported[Function])}
	if m.uses.grow {
		a.refused = a.slice + 1
		a.shift = 2
	}
	a.helperFrom = uint32(len(m.funcs)) + a.shift
	kind := func(used bool) uint32 {
		if used {
			a.types++
		}
		return uint32(len(m.types)) + a.types - 1
	}
	helper := func(used bool) uint32 {
		if used {
			a.functions++
		}
		return a.helperFrom + a.functions - 1
	}
	a.typeHook = kind(true)
	a.typeDelta = kind(m.uses.grow)
	a.typeLength = kind(m.uses.bulk)
	a.typeCopy = kind(m.uses.fill || m.uses.copy)
	a.length = helper(m.uses.bulk)
	a.fill = helper(m.uses.fill)
	a.copy = helper(m.uses.copy)
	return a
}

// build writes the new module.
func (m *module) build() ([]byte, *Error) {
	out := &output{m: m, added: m.lay(), b: make([]byte, 0, len(m.wasm)+len(m.wasm)/4+256)}
	out.op(m.wasm[:8]...)
	writers := map[byte]func(*output, []byte) *Error{
		secType: m.writeTypes, secImport: m.writeImports, secGlobal: m.writeGlobals, secExport: m.writeExports,
		secTable: m.writeTables, secElement: m.writeElements, secCode: m.writeCode,
	}
	needed := []byte{secType, secImport, secGlobal, secExport}
	if out.added.functions > 0 {
		writers[secFunction] = m.writeFunctions
		needed = []byte{secType, secImport, secFunction, secGlobal, secExport, secCode}
	}
	write := func(id byte, body []byte) *Error {
		w := writers[id]
		if w == nil {
			out.section(id, body)
			return nil
		}
		o := &output{m: m, added: out.added, b: make([]byte, 0, len(body)+len(body)/4+64)}
		err := w(o, body)
		out.section(id, o.b)
		return err
	}
	for _, sec := range m.sections {
		for sec.id != secCustom && len(needed) > 0 && order[needed[0]] <= order[sec.id] {
			if needed[0] != sec.id {
				if err := write(needed[0], []byte{0}); err != nil {
					return nil, err
				}
			}
			needed = needed[1:]
		}
		switch sec.id {
		case secStart:
		case secCustom:
			m.writeCustom(out, sec.body)
		default:
			if err := write(sec.id, sec.body); err != nil {
				return nil, err
			}
		}
	}
	for _, id := range needed {
		if err := write(id, []byte{0}); err != nil {
			return nil, err
		}
	}
	return out.b, nil
}

func (o *output) section(id byte, body []byte) {
	o.b = appendU32(append(o.b, id), uint32(len(body)))
	o.b = append(o.b, body...)
}

// grown writes the number of items a section has with some more, and its items.
func (o *output) grown(body []byte, more uint32) {
	s := scanner{b: body}
	o.b = appendU32(o.b, s.u32()+more)
	o.b = append(o.b, body[s.at:]...)
}

func (m *module) writeTypes(o *output, body []byte) *Error {
	o.grown(body, o.added.types)
	o.op(0x60, 0, 0)
	if m.uses.grow {
		o.op(0x60, 1, typeI32, 0)
	}
	if m.uses.bulk {
		o.op(0x60, 1, typeI32, 1, typeI32)
	}
	if m.uses.fill || m.uses.copy {
		o.op(0x60, 3, typeI32, typeI32, typeI32, 0)
	}
	return nil
}

func (m *module) writeImports(o *output, body []byte) *Error {
	o.grown(body, o.added.shift)
	hook := func(name string, t uint32) {
		o.b = appendName(appendName(o.b, HookModule), name)
		o.u32(byte(Function), t)
	}
	hook("slice", o.added.typeHook)
	if m.uses.grow {
		hook("table_refused", o.added.typeDelta)
	}
	return nil
}

func (m *module) writeFunctions(o *output, body []byte) *Error {
	o.grown(body, o.added.functions)
	if m.uses.bulk {
		o.b = appendU32(o.b, o.added.typeLength)
	}
	for _, used := range []bool{m.uses.fill, m.uses.copy} {
		if used {
			o.b = appendU32(o.b, o.added.typeCopy)
		}
	}
	return nil
}

func (m *module) writeTables(o *output, _ []byte) *Error {
	tables := m.tables[m.imported[Table]:]
	o.b = appendU32(o.b, uint32(len(tables)))
	for _, t := range tables {
		if t.init != nil {
			o.op(0x40, 0)
		}
		o.op(t.element...)
		o.u32(t.flag, t.min)
		if t.bounded {
			o.b = appendU32(o.b, t.max)
		}
		if t.init != nil {
			m.constant(&scanner{b: t.init}, o)
		}
	}
	return nil
}

func (m *module) writeGlobals(o *output, body []byte) *Error {
	s := scanner{b: body}
	n := s.u32()
	o.b = appendU32(o.b, n+1)
	for range n {
		from := s.at
		m.readGlobalType(&s)
		o.raw(&s, from)
		m.constant(&s, o)
	}
	o.op(typeI64, 1) // the fuel
	o.i64(0)
	o.op(opEnd)
	return nil
}

func (m *module) writeExports(o *output, body []byte) *Error {
	s := scanner{b: body}
	n := s.u32()
	added := uint32(len(m.captured)) + 1
	defined := m.memories > m.imported[Memory]
	if defined {
		added++
	}
	if m.start >= 0 {
		added++
	}
	o.b = appendU32(o.b, n+added)
	for range n {
		from := s.at
		s.name()
		kind := s.byte()
		o.raw(&s, from)
		index := s.u32()
		if Kind(kind) == Function {
			index = o.moved(index)
		}
		o.b = appendU32(o.b, index)
	}
	o.export(FuelExport, Global, o.added.fuel)
	if defined {
		o.export(MemoryExport, Memory, 0)
	}
	if m.start >= 0 {
		o.export(StartExport, Function, o.moved(uint32(m.start)))
	}
	for i, g := range m.captured {
		o.export(GlobalExport(i), Global, g)
	}
	return nil
}

func (o *output) export(name string, kind Kind, index uint32) {
	o.b = appendName(o.b, name)
	o.u32(byte(kind), index)
}

func (m *module) writeElements(o *output, body []byte) *Error {
	s := scanner{b: body}
	n := s.u32()
	o.b = appendU32(o.b, n)
	for range n {
		m.element(&s, o)
	}
	return nil
}

func (m *module) writeCode(o *output, _ []byte) *Error {
	o.b = appendU32(o.b, uint32(len(m.bodies))+o.added.functions)
	p := &planner{decoder: decoder{m: m}, tuning: m.tuning}
	body := &output{m: m, added: o.added}
	done := func() {
		o.b = appendU32(o.b, uint32(len(body.b)))
		o.b = append(o.b, body.b...)
		body.b = body.b[:0]
	}
	for i := range m.bodies {
		if err := p.plan(m.imported[Function] + i); err != nil {
			return err
		}
		body.function(p)
		done()
	}
	for _, h := range []struct {
		used  bool
		write func()
	}{{m.uses.bulk, body.lengthBody}, {m.uses.fill, body.fillBody}, {m.uses.copy, body.copyBody}} {
		if h.used {
			h.write()
			done()
		}
	}
	return nil
}

// writeCustom copies a custom section, unless it holds places in the code, which are others now.
func (m *module) writeCustom(o *output, body []byte) {
	s := scanner{b: body}
	name := string(s.name())
	switch {
	case s.left() == 0: // wazero fails at one at the end
	case name == "name":
		m.writeNames(o, body[s.at:])
	case strings.HasPrefix(name, ".debug_"), strings.HasPrefix(name, "reloc."), strings.HasPrefix(name, "metadata.code."):
	case name == "sourceMappingURL", name == "external_debug_info", name == "linking":
	default:
		o.section(secCustom, body)
	}
}
