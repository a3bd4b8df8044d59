package instrument

import (
	"bytes"
	"unicode/utf8"
)

func (m *module) readCustom(s *scanner) *Error {
	name := s.name()
	if s.bad || !utf8.Valid(name) {
		return invalid("a custom section has no proper name")
	}
	if string(name) == "name" {
		if m.names != nil {
			return invalid("it has more than one name section")
		}
		m.names = s.b[s.at:]
	}
	s.at = len(s.b)
	return nil
}

func (m *module) readTypes(s *scanner) *Error {
	for range s.count() {
		group := 1
		if s.at < len(s.b) && s.b[s.at] == 0x4e { // types that may refer to each other
			s.at++
			group = s.count()
		}
		for range group {
			t, err := m.readType(s)
			if err != nil {
				return err
			}
			m.types = append(m.types, t)
		}
	}
	return nil
}

func (m *module) readType(s *scanner) (t funcType, err *Error) {
	switch form := s.byte(); {
	case s.bad:
		return t, nil
	case form == 0x5e || form == 0x5f || form == 0x50 || form == 0x4f:
		return t, unsupported("type %d is an array or a struct: garbage collection is not supported", len(m.types))
	case form != 0x60:
		s.fail()
		return t, nil
	}
	for _, n := range []*uint32{&t.params, &t.results} {
		*n = s.u32()
		if *n > m.options.MaxParams {
			return t, invalid("type %d has %d parameters or results; the most is %d", len(m.types), *n, m.options.MaxParams)
		}
		for range *n {
			s.valueType(noTypes) // may refer to types that follow; the engine checks that
		}
	}
	return t, nil
}

// noTypes stands for the number of types where references to types are checked by someone else.
const noTypes = 1 << 32

// valueType answers the first byte of a type, all of them are in s. Indices are below types.
func (s *scanner) valueType(types int) byte {
	switch b := s.byte(); b {
	case 0x7f, 0x7e, 0x7d, 0x7c, 0x7b, 0x70, 0x6f, 0x69:
		return b
	case 0x63, 0x64: // (ref null? heap type)
		s.heapType(types)
		return b
	}
	s.fail()
	return 0
}

func (s *scanner) heapType(types int) {
	switch t := s.s33(); t {
	case -0x10, -0x11, -0x17: // func, extern, exn
	default:
		if t < 0 || t >= int64(types) {
			s.fail()
		}
	}
}

func (m *module) readImports(s *scanner) *Error {
	for range s.count() {
		in := Import{Module: string(s.name()), Name: string(s.name()), Kind: Kind(s.byte())}
		if in.Module == HookModule && !m.ours {
			return reserved("the module imports %q from %s, which is the host's own", in.Name, HookModule)
		}
		switch in.Kind {
		case Function:
			m.funcs = append(m.funcs, m.typeIndex(s))
		case Table:
			t, err := m.readTable(s)
			if err != nil {
				return err
			}
			m.tables = append(m.tables, t)
			m.reason("it imports the table %s.%s", in.Module, in.Name)
		case Memory:
			s.limits()
			m.memories++
			m.reason("it imports the memory %s.%s", in.Module, in.Name)
		case Global:
			g := m.readGlobalType(s)
			m.globals = append(m.globals, g)
			if g.mutable {
				m.reason("it imports the mutable global %s.%s", in.Module, in.Name)
			}
		case Tag:
			m.readTag(s)
		default:
			return invalid("import %s.%s is of unknown kind %d", in.Module, in.Name, in.Kind)
		}
		if s.bad {
			return nil
		}
		m.imported[in.Kind]++
		m.imports = append(m.imports, in)
	}
	return nil
}

func (m *module) typeIndex(s *scanner) uint32 {
	i := s.u32()
	if int(i) >= len(m.types) {
		s.fail()
		return 0
	}
	return i
}

func (m *module) readFunctions(s *scanner) *Error {
	for range s.count() {
		m.funcs = append(m.funcs, m.typeIndex(s))
		if s.bad {
			break
		}
	}
	return nil
}

func (m *module) readTables(s *scanner) *Error {
	n := s.count()
	if uint64(n) > uint64(m.options.MaxTables) {
		return invalid("it has %d tables; the most is %d", n, m.options.MaxTables)
	}
	for range n {
		t, err := m.readTable(s)
		if err != nil {
			return err
		}
		m.tables = append(m.tables, t)
	}
	return nil
}

func (m *module) readTable(s *scanner) (t tableType, err *Error) {
	withInit := s.at < len(s.b) && s.b[s.at] == 0x40
	if withInit {
		s.at++
		if s.byte() != 0 {
			s.fail()
		}
	}
	from := s.at
	s.valueType(len(m.types))
	t.element = s.b[from:s.at]
	t.limits = s.limits()
	if s.bad {
		return t, nil
	}
	if t.shared() || t.bounded && t.max < t.min {
		s.fail()
	}
	if t.min > m.options.MaxEntries {
		return t, invalid("a table of %d entries is too large; the most is %d", t.min, m.options.MaxEntries)
	}
	if withInit {
		from = s.at
		m.constant(s, nil)
		t.init = s.b[from:s.at]
		s.notNull(t.element[0], from)
	}
	return t, nil
}

func (m *module) readMemory(s *scanner) *Error {
	for range s.count() {
		m.memory = s.limits()
		m.memories++
	}
	if m.memory.shared() {
		m.reason("its memory is shared between threads")
	}
	return nil
}

func (m *module) readTags(s *scanner) *Error {
	for range s.count() {
		m.readTag(s)
	}
	return nil
}

func (m *module) readTag(s *scanner) {
	if s.byte() != 0 {
		s.fail()
	}
	m.typeIndex(s)
	m.tags++
}

func (m *module) readGlobals(s *scanner) *Error {
	n := s.count()
	if uint64(n) > uint64(m.options.MaxGlobals) {
		return invalid("it has %d globals; the most is %d", n, m.options.MaxGlobals)
	}
	for range n {
		g := m.readGlobalType(s)
		from := s.at
		m.constant(s, nil)
		s.notNull(g.kind, from)
		if s.bad {
			break
		}
		index := uint32(len(m.globals))
		m.globals = append(m.globals, g)
		switch {
		case !g.mutable:
		case g.kind >= 0x7c: // numbers
			m.captured = append(m.captured, index)
		default:
			m.reason("global %d is mutable and not a number", index)
		}
	}
	return nil
}

func (m *module) readGlobalType(s *scanner) globalType {
	g := globalType{kind: s.valueType(len(m.types))}
	mutable := s.byte()
	if mutable > 1 {
		s.fail()
	}
	g.mutable = mutable == 1
	return g
}

func (m *module) readExports(s *scanner) *Error {
	for range s.count() {
		name, kind, index := s.name(), Kind(s.byte()), s.u32()
		if s.bad {
			break
		}
		if bytes.HasPrefix(name, []byte(hidden)) && !m.ours {
			return reserved("the module exports %q: names that begin with \\x01 are the host's own", name)
		}
		have := 0
		switch kind {
		case Function:
			have = len(m.funcs)
			m.declare(index)
		case Table:
			have = len(m.tables)
		case Memory:
			have = m.memories
		case Global:
			have = len(m.globals)
		case Tag:
			have = m.tags
		}
		if uint64(index) >= uint64(have) {
			return invalid("it exports %q, which is not there", name)
		}
	}
	return nil
}

// declare notes that a function may be referred to, since exporting the start function would make it so.
func (m *module) declare(function uint32) {
	m.startDeclared = m.startDeclared || int64(function) == m.start
}

func (m *module) readStart(s *scanner) *Error {
	i := s.u32()
	if uint64(i) >= uint64(len(m.funcs)) || m.types[m.funcs[i]] != (funcType{}) {
		return invalid("its start function %d is not there or takes or answers something", i)
	}
	return nil
}

func (m *module) readElements(s *scanner) *Error {
	for range s.count() {
		m.element(s, nil)
		if s.bad {
			break
		}
	}
	return nil
}

func (m *module) readBodies(s *scanner) *Error {
	for i := range s.count() {
		body := s.name()
		if uint64(len(body)) > uint64(m.options.MaxBodyBytes) {
			return invalid("function %d of the code section has %d bytes; the most is %d", i, len(body), m.options.MaxBodyBytes)
		}
		if s.bad {
			break
		}
		m.bodies = append(m.bodies, body)
	}
	return nil
}

func (m *module) readData(s *scanner) *Error {
	for range s.count() {
		switch s.u32() {
		case 0:
			m.constant(s, nil)
		case 1:
		case 2:
			s.u32()
			m.constant(s, nil)
		default:
			s.fail()
		}
		s.name()
		if s.bad {
			break
		}
	}
	return nil
}

func (m *module) readDataCount(s *scanner) *Error {
	s.u32()
	return nil
}
