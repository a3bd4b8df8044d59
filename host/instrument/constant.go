package instrument

// constant reads a constant expression and writes it with the functions' new indices, where out is not nil.
func (m *module) constant(s *scanner, out *output) {
	from := s.at
	for !s.bad {
		switch s.byte() {
		case opEnd:
			out.raw(s, from)
			return
		case opI32Const:
			s.leb(5)
		case opI64Const:
			s.leb(10)
		case 0x43: // f32.const
			s.bytes(4)
		case 0x44: // f64.const
			s.bytes(8)
		case opGlobalGet:
			if uint64(s.u32()) >= uint64(len(m.globals)) {
				s.fail()
			}
		case 0xd0: // ref.null
			s.heapType(len(m.types))
		case opRefFunc:
			out.raw(s, from)
			m.functionIndex(s, out)
			from = s.at
		case opVector:
			if s.byte() != 0x0c { // v128.const
				s.fail()
			}
			s.bytes(16)
		case 0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e: // add, sub, mul
		default:
			s.fail()
		}
	}
}

// notNull refuses a null for a type without it. wazero takes it for a reference to the first function.
func (s *scanner) notNull(kind byte, from int) {
	if !s.bad && kind == 0x64 && s.b[from] == 0xd0 {
		s.fail()
	}
}

func (m *module) functionIndex(s *scanner, out *output) {
	i := s.u32()
	if uint64(i) >= uint64(len(m.funcs)) {
		s.fail()
		return
	}
	m.declare(i)
	if out != nil {
		out.b = appendU32(out.b, out.moved(i))
	}
}

// element reads an element segment and writes it anew, where out is not nil.
func (m *module) element(s *scanner, out *output) {
	from := s.at
	flag := s.u32()
	passive, explicit, exprs := flag&1 != 0, flag&2 != 0, flag&4 != 0
	if flag > 7 {
		s.fail()
		return
	}
	if !passive {
		if explicit {
			s.u32()
		}
		out.raw(s, from)
		m.constant(s, out)
		from = s.at
	}
	var kind byte
	if passive || explicit {
		if exprs {
			kind = s.valueType(len(m.types))
		} else if s.byte() != 0 {
			s.fail()
		}
	}
	n := s.count()
	out.raw(s, from)
	for range n {
		if exprs {
			from = s.at
			m.constant(s, out)
			s.notNull(kind, from)
		} else {
			m.functionIndex(s, out)
		}
		if s.bad {
			return
		}
	}
}
