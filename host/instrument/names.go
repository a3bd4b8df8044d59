package instrument

import (
	"fmt"
	"unicode/utf8"
)

// functionName names a function for people.
func (m *module) functionName(f int) string {
	name := ""
	s := scanner{b: m.names}
	for s.left() > 0 && !s.bad && name == "" {
		id, sub := s.byte(), scanner{b: s.name()}
		if id != nameFunctions {
			continue
		}
		for range sub.count() {
			if i, n := sub.u32(), sub.name(); int64(i) == int64(f) {
				name = string(n)
				break
			}
		}
	}
	if name == "" || !utf8.ValidString(name) {
		return fmt.Sprintf("function %d", f)
	}
	return fmt.Sprintf("function %d (%.80s)", f, name)
}

const (
	nameModule    = 0
	nameFunctions = 1
	nameLocals    = 2
	nameLabels    = 3
)

// writeNames writes the name section anew. A part of it that is malformed is left out, as the standard allows.
func (m *module) writeNames(o *output, body []byte) {
	out := &output{m: m, added: o.added}
	out.b = appendName(out.b, "name")
	s := scanner{b: body}
	last := -1
	for s.left() > 0 {
		id, sub := s.byte(), scanner{b: s.name()}
		if s.bad || int(id) <= last {
			break
		}
		last = int(id)
		part := &output{m: m, added: o.added}
		switch id {
		case nameFunctions:
			m.writeFunctionNames(part, &sub)
		case nameModule:
			if n := sub.name(); utf8.Valid(n) {
				part.raw(&sub, 0)
			}
		case nameLocals, nameLabels:
			m.writeLocalNames(part, &sub)
		default: // of types, tables and so on, which have kept their indices
			part.b = sub.b
			sub.at = len(sub.b)
		}
		if !sub.bad && sub.left() == 0 && len(part.b) > 0 {
			out.section(id, part.b)
		}
	}
	o.section(secCustom, out.b)
}

func (m *module) writeFunctionNames(o *output, s *scanner) {
	list := &output{m: m, added: o.added}
	n, last, hooked := uint32(0), int64(-1), false
	add := func(f uint32, name string) {
		n++
		list.b = appendName(appendU32(list.b, f), name)
	}
	for range s.count() {
		i, name := s.u32(), s.name()
		if s.bad || int64(i) <= last || !utf8.Valid(name) {
			s.fail()
			return
		}
		last = int64(i)
		if int(i) >= len(m.funcs) {
			continue
		}
		if !hooked && i >= o.added.slice {
			m.nameHooks(o.added, add)
			hooked = true
		}
		add(o.moved(i), string(name))
	}
	if !hooked {
		m.nameHooks(o.added, add)
	}
	m.nameHelpers(o.added, add)
	o.b = appendU32(o.b, n)
	o.b = append(o.b, list.b...)
}

func (m *module) nameHooks(a layout, add func(uint32, string)) {
	add(a.slice, HookModule+".slice")
	if m.uses.grow {
		add(a.refused, HookModule+".table_refused")
	}
}

func (m *module) nameHelpers(a layout, add func(uint32, string)) {
	if m.uses.bulk {
		add(a.length, HookModule+".length")
	}
	if m.uses.fill {
		add(a.fill, "memory.fill")
	}
	if m.uses.copy {
		add(a.copy, "memory.copy")
	}
}

// writeLocalNames does for the names of locals and labels, which are listed by function.
func (m *module) writeLocalNames(o *output, s *scanner) {
	list := &output{m: m, added: o.added}
	n, last := uint32(0), int64(-1)
	for range s.count() {
		f := s.u32()
		if s.bad || int64(f) <= last {
			s.fail()
			return
		}
		last = int64(f)
		from := s.at
		inner := int64(-1)
		for range s.count() {
			i, name := s.u32(), s.name()
			if s.bad || int64(i) <= inner || !utf8.Valid(name) {
				s.fail()
				return
			}
			inner = int64(i)
		}
		if int(f) < len(m.funcs) {
			n++
			list.b = appendU32(list.b, o.moved(f))
			list.raw(s, from)
		}
	}
	o.b = appendU32(o.b, n)
	o.b = append(o.b, list.b...)
}
