package host

// scanner reads the binary format of a module. Once something does not fit, bad is set and all it answers is zero.
type scanner struct {
	b   []byte
	at  int
	bad bool
}

func (s *scanner) left() int { return len(s.b) - s.at }

func (s *scanner) byte() byte {
	if s.at >= len(s.b) {
		s.bad = true
		return 0
	}
	s.at++
	return s.b[s.at-1]
}

func (s *scanner) u32() uint32 {
	var v uint64
	for i := range 5 {
		c := s.byte()
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if v > 1<<32-1 {
				s.bad = true
			}
			return uint32(v)
		}
	}
	s.bad = true
	return 0
}

// leb skips a number of any width.
func (s *scanner) leb() {
	for range 10 {
		if s.byte() < 0x80 {
			return
		}
	}
	s.bad = true
}

func (s *scanner) bytes(n int) []byte {
	if n < 0 || n > s.left() {
		s.bad = true
		s.at = len(s.b)
		return nil
	}
	s.at += n
	return s.b[s.at-n : s.at]
}

func (s *scanner) name() string { return string(s.bytes(int(s.u32()))) }

// count reads how many items follow. Each takes a byte at least, so a larger number is a lie that would make the
// decoder allocate without end.
func (s *scanner) count() int {
	n := s.u32()
	if uint64(n) > uint64(s.left()) {
		s.bad = true
		return 0
	}
	return int(n)
}

// limits reads the bounds of a memory or table. most is -1 where none is written.
func (s *scanner) limits() (flag byte, least uint64, most int64) {
	flag = s.byte()
	least, most = uint64(s.u32()), -1
	if flag&1 != 0 {
		most = int64(s.u32())
	}
	if flag > 3 {
		s.bad = true
	}
	return flag, least, most
}

// expr skips a constant expression.
func (s *scanner) expr() {
	for !s.bad {
		switch op := s.byte(); op {
		case 0x0b: // end
			return
		case 0x41, 0x42, 0x23, 0xd2, 0xd0: // i32.const, i64.const, global.get, ref.func, ref.null
			s.leb()
		case 0x43:
			s.bytes(4)
		case 0x44:
			s.bytes(8)
		case 0xfd:
			if s.u32() != 12 { // v128.const
				s.bad = true
			}
			s.bytes(16)
		default:
			s.bad = true
		}
	}
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}
