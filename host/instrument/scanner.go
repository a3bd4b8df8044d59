package instrument

// scanner reads the binary format. Once something does not fit, bad is set and all it answers is zero.
type scanner struct {
	b   []byte
	at  int
	bad bool
}

func (s *scanner) left() int { return len(s.b) - s.at }

func (s *scanner) fail() {
	s.bad = true
	s.at = len(s.b)
}

func (s *scanner) byte() byte {
	if s.at >= len(s.b) {
		s.bad = true
		return 0
	}
	s.at++
	return s.b[s.at-1]
}

func (s *scanner) u32() uint32 {
	if s.at < len(s.b) && s.b[s.at] < 0x80 { // nearly always
		s.at++
		return uint32(s.b[s.at-1])
	}
	var v uint64
	for i := range 5 {
		c := s.byte()
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if v > 1<<32-1 {
				s.fail()
				return 0
			}
			return uint32(v)
		}
	}
	s.fail()
	return 0
}

// s33 reads a block type or heap type: a type index, or below zero a type by itself.
func (s *scanner) s33() int64 {
	var v int64
	for i := range 5 {
		c := s.byte()
		v |= int64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if i == 4 { // two bits and the sign remain
				if top := c & 0x70; top != 0 && top != 0x70 {
					break
				}
			}
			shift := 64 - 7*(i+1)
			return v << shift >> shift
		}
	}
	s.fail()
	return 0
}

// leb skips a number of at most so many bytes.
func (s *scanner) leb(most int) {
	for range most {
		if s.byte() < 0x80 {
			return
		}
	}
	s.fail()
}

func (s *scanner) bytes(n uint32) []byte {
	if uint64(n) > uint64(s.left()) {
		s.fail()
		return nil
	}
	s.at += int(n)
	return s.b[s.at-int(n) : s.at]
}

func (s *scanner) name() []byte { return s.bytes(s.u32()) }

// count reads how many items follow. Each takes a byte at least, so a larger number is a lie that would make someone
// allocate without end.
func (s *scanner) count() int {
	n := s.u32()
	if uint64(n) > uint64(s.left()) {
		s.fail()
		return 0
	}
	return int(n)
}

// limits are the bounds of a memory or table.
type limits struct {
	flag    byte
	min     uint32
	max     uint32
	bounded bool // there is a max
}

func (l limits) shared() bool { return l.flag&2 != 0 }

func (s *scanner) limits() limits {
	l := limits{flag: s.byte(), min: s.u32()}
	if l.flag > 3 {
		s.fail()
	}
	if l.flag&1 != 0 {
		l.bounded, l.max = true, s.u32()
	}
	return l
}

func appendU32(b []byte, v uint32) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

func appendS64(b []byte, v int64) []byte {
	for {
		c := byte(v & 0x7f)
		v >>= 7
		if (v == 0 && c&0x40 == 0) || (v == -1 && c&0x40 != 0) {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func appendName(b []byte, s string) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}
