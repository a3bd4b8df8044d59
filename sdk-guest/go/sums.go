package guest

import (
	"encoding/binary"
	"math/bits"
	"strconv"
)

// Add adds n to the sum of key. A mapper uses it in the place of emit where it counts: emitting every word of a text costs far more
// than adding it up here. Sums are emitted at the end of the call, or before where there are many, as numbers: a key may be emitted
// more than once, for a combiner and a reducer that add up. key may be changed afterwards.
func (c *Context) Add(key []byte, n int) {
	s := &c.sums
	if 2*s.used >= len(s.table) || len(s.keys) > mostKeyBytes {
		c.moreSums()
	}
	// Most keys are short and where they belong: in WebAssembly, the calls it takes to find the others cost as much as all of this.
	if l := len(key); 0 < l && l <= 8 {
		var print uint64
		if l >= 4 {
			print = uint64(binary.LittleEndian.Uint32(key)) | uint64(binary.LittleEndian.Uint32(key[l-4:]))<<32
		} else {
			print = uint64(key[0]) | uint64(key[l/2])<<8 | uint64(key[l-1])<<16
		}
		if e := &s.table[s.slot(print, l)]; e.print == print && int(e.lenPlus1) == l+1 {
			e.n += int64(n)
			return
		}
	}
	s.add(key, int64(n))
}

const (
	firstSums    = 1 << 12
	mostSums     = 1 << 17
	mostKeyBytes = 4 << 20

	mix = 0x9e3779b97f4a7c15
)

// sums is an open-addressing table.
type sums struct {
	table []sum // its length is a power of two
	shift uint  // of a hash, to a place in the table
	used  int
	keys  []byte
}

type sum struct {
	print    uint64 // tells keys of one length up to 8 apart; longer ones are compared in keys
	n        int64
	lenPlus1 uint32 // 0 where nothing is
	at       uint32
}

// printOf is the same for the same keys, and for keys of one length up to 8 for no others. Add has its own copy for those.
func printOf(key []byte) uint64 {
	n := len(key)
	switch {
	case n > 8:
		h := binary.LittleEndian.Uint64(key) * mix
		for i := 8; i+8 < n; i += 8 {
			h = (h ^ h>>29 ^ binary.LittleEndian.Uint64(key[i:])) * mix
		}
		return (h ^ h>>29 ^ binary.LittleEndian.Uint64(key[n-8:])) * mix
	case n >= 4:
		return uint64(binary.LittleEndian.Uint32(key)) | uint64(binary.LittleEndian.Uint32(key[n-4:]))<<32
	case n > 0:
		return uint64(key[0]) | uint64(key[n/2])<<8 | uint64(key[n-1])<<16
	}
	return 0
}

func (s *sums) slot(print uint64, n int) int { return int((print + uint64(n)) * mix >> s.shift) }

func (s *sums) add(key []byte, n int64) {
	print := printOf(key)
	mask := len(s.table) - 1
	for at := s.slot(print, len(key)); ; at = (at + 1) & mask {
		e := &s.table[at&mask]
		if e.print == print && int(e.lenPlus1) == len(key)+1 && (len(key) <= 8 || string(s.keys[e.at:int(e.at)+len(key)]) == string(key)) {
			e.n += n
			return
		}
		if e.lenPlus1 == 0 {
			*e = sum{print: print, n: n, lenPlus1: uint32(len(key)) + 1, at: uint32(len(s.keys))}
			s.keys = append(s.keys, key...)
			s.used++
			return
		}
	}
}

// moreSums makes room for more, or emits what there is where it is enough.
func (c *Context) moreSums() {
	s := &c.sums
	if len(s.table) == mostSums || len(s.keys) > mostKeyBytes {
		c.flushSums()
		clear(s.table)
		s.used, s.keys = 0, s.keys[:0]
		return
	}
	old := s.table
	s.table = make([]sum, max(firstSums, 2*len(old)))
	s.shift = uint(64 - bits.Len(uint(len(s.table)-1)))
	mask := len(s.table) - 1
	for _, e := range old {
		if e.lenPlus1 == 0 {
			continue
		}
		at := s.slot(e.print, int(e.lenPlus1)-1)
		for s.table[at].lenPlus1 > 0 {
			at = (at + 1) & mask
		}
		s.table[at] = e
	}
}

func (c *Context) flushSums() {
	if c.sums.used == 0 {
		return
	}
	out := newEmitter(c, func(dst []byte, n int64) ([]byte, error) { return strconv.AppendInt(dst, n, 10), nil })
	for _, e := range c.sums.table {
		if e.lenPlus1 > 0 {
			out.emit(string(c.sums.keys[e.at:e.at+e.lenPlus1-1]), e.n)
		}
	}
	out.flush()
}
