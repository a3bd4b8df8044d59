package shuffle

import (
	"bytes"
	"encoding/binary"
	"io"
)

// groups is a sorted sequence of keys with their values, by partition and key, each key once.
type groups interface {
	// group moves to the next key, or answers io.EOF. The values of the one before must have been taken. The key is
	// valid until the next call of group.
	group() (part uint32, key []byte, err error)
	// values returns the next of the key's values, encoded as in a groups stream, many at a time and cut anywhere,
	// and how many values begin in them; nil at the end. The bytes are valid until the next call.
	values() (piece []byte, begun int64, err error)
}

// pieceReader makes a reader of a function that gives piece after piece, then io.EOF.
type pieceReader struct {
	next func() ([]byte, error)
	left []byte
	err  error
}

// Read implements io.Reader. It fills p as far as it can: every call crosses into the guest.
func (r *pieceReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(r.left) == 0 {
			if r.err == nil {
				r.left, r.err = r.next()
			}
			if r.err != nil {
				break
			}
		}
		m := copy(p[n:], r.left)
		r.left, n = r.left[m:], n+m
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, r.err
}

// groupStream gives the ABI's groups stream, piece by piece.
type groupStream struct {
	src  groups
	head []byte
	in   bool
}

var groupEnd = []byte{0}

func (s *groupStream) next() ([]byte, error) {
	if s.in {
		piece, _, err := s.src.values()
		if err != nil || piece != nil {
			return piece, err
		}
		s.in = false
		return groupEnd, nil
	}
	_, key, err := s.src.group()
	if err != nil {
		return nil, err
	}
	s.in = true
	s.head = append(binary.AppendUvarint(s.head[:0], uint64(len(key))), key...)
	return s.head, nil
}

// lookahead is groups that can be looked at before they are taken.
type lookahead struct {
	groups
	part uint32
	key  []byte
	err  error
	full bool
}

func (l *lookahead) peek() (uint32, []byte, error) {
	if !l.full {
		l.part, l.key, l.err = l.groups.group()
		l.full = true
	}
	return l.part, l.key, l.err
}

func (l *lookahead) group() (uint32, []byte, error) {
	part, key, err := l.peek()
	l.full = err != nil
	return part, key, err
}

// groupReader reads groups from a framed stream. With tagged, the partition stands before each key.
type groupReader struct {
	frames frameReader
	tagged bool
	buf    []byte
	// r is how much of buf has been read.
	r int
	// left is how much of the current value is still to come.
	left uint64
	part uint32
	key  []byte
	last []byte
	any  bool
	done bool
}

func newGroupReader(r io.Reader, tagged bool) *groupReader {
	return &groupReader{frames: frameReader{r: r}, tagged: tagged}
}

// fill reads another frame behind what is left of the last one.
func (g *groupReader) fill() error {
	if g.done {
		return io.EOF
	}
	g.buf = g.buf[:copy(g.buf, g.buf[g.r:])]
	g.r = 0
	var err error
	g.buf, err = g.frames.next(g.buf)
	g.done = err == io.EOF
	return err
}

func (g *groupReader) uvarint() (uint64, error) {
	for {
		if g.r < len(g.buf) && g.buf[g.r] < 0x80 {
			g.r++
			return uint64(g.buf[g.r-1]), nil
		}
		v, n := binary.Uvarint(g.buf[g.r:])
		if n > 0 {
			g.r += n
			return v, nil
		}
		if n < 0 {
			return 0, errDamaged
		}
		if err := g.fill(); err != nil {
			return 0, truncated(err)
		}
	}
}

func (g *groupReader) group() (uint32, []byte, error) {
	if g.r == len(g.buf) {
		// The only place where the stream may end.
		if err := g.fill(); err != nil {
			return 0, nil, err
		}
	}
	part := uint64(g.part)
	var err error
	if g.tagged {
		if part, err = g.uvarint(); err != nil {
			return 0, nil, err
		}
	}
	length, err := g.uvarint()
	if err != nil {
		return 0, nil, err
	}
	g.last, g.key = g.key, g.last[:0]
	for length > 0 {
		if g.r == len(g.buf) {
			if err := g.fill(); err != nil {
				return 0, nil, truncated(err)
			}
		}
		take := min(length, uint64(len(g.buf)-g.r))
		g.key = append(g.key, g.buf[g.r:g.r+int(take)]...)
		g.r, length = g.r+int(take), length-take
	}
	if part > 1<<32-1 || g.any && !less(g.part, g.last, uint32(part), g.key) {
		return 0, nil, errDamaged
	}
	g.part, g.any = uint32(part), true
	return g.part, g.key, nil
}

func (g *groupReader) values() ([]byte, int64, error) {
	if g.r == len(g.buf) {
		if err := g.fill(); err != nil {
			return nil, 0, truncated(err)
		}
	}
	begun := int64(0)
	for start := g.r; ; {
		if g.left > 0 {
			take := min(g.left, uint64(len(g.buf)-g.r))
			g.r, g.left = g.r+int(take), g.left-take
		}
		if g.r == len(g.buf) {
			return g.buf[start:], begun, nil
		}
		n, width := uint64(g.buf[g.r]), 1
		if n >= 0x80 {
			n, width = binary.Uvarint(g.buf[g.r:])
		}
		switch {
		case width < 0:
			return nil, 0, errDamaged
		case width == 0 && g.r > start:
			return g.buf[start:g.r], begun, nil
		case width == 0:
			if err := g.fill(); err != nil {
				return nil, 0, truncated(err)
			}
			start = 0
		case n == 0 && g.r > start:
			// The end stays for the next call.
			return g.buf[start:g.r], begun, nil
		case n == 0:
			g.r += width
			return nil, 0, nil
		default:
			g.r, g.left = g.r+width, n-1
			begun++
		}
	}
}

func less(ap uint32, a []byte, bp uint32, b []byte) bool {
	return ap < bp || ap == bp && bytes.Compare(a, b) < 0
}

// groupWriter writes groups, of records or whole.
type groupWriter struct {
	w io.Writer
	// tagged puts the partition before each key.
	tagged bool
	// enter, if set, is called before the first group of a partition is written.
	enter func(part uint32) error

	part       uint32
	key        []byte
	open, any  bool
	head       []byte
	keys, recs int64
}

func (g *groupWriter) begin(part uint32, key []byte) error {
	if err := g.end(); err != nil {
		return err
	}
	if g.enter != nil && (!g.any || part != g.part) {
		if err := g.enter(part); err != nil {
			return err
		}
	}
	g.part, g.key, g.open, g.any = part, append(g.key[:0], key...), true, true
	g.keys++
	g.head = g.head[:0]
	if g.tagged {
		g.head = binary.AppendUvarint(g.head, uint64(part))
	}
	g.head = append(binary.AppendUvarint(g.head, uint64(len(key))), key...)
	_, err := g.w.Write(g.head)
	return err
}

// record writes one record; those of a key come one after the other.
func (g *groupWriter) record(part uint32, key, value []byte) error {
	if !g.open || part != g.part || !bytes.Equal(key, g.key) {
		if err := g.begin(part, key); err != nil {
			return err
		}
	}
	g.recs++
	g.head = binary.AppendUvarint(g.head[:0], uint64(len(value))+1)
	if _, err := g.w.Write(g.head); err != nil {
		return err
	}
	_, err := g.w.Write(value)
	return err
}

func (g *groupWriter) end() error {
	if !g.open {
		return nil
	}
	g.open = false
	_, err := g.w.Write(groupEnd)
	return err
}

// copy writes all of src.
func (g *groupWriter) copy(src groups) error {
	for {
		part, key, err := src.group()
		if err == io.EOF {
			return g.end()
		}
		if err != nil {
			return err
		}
		if err := g.begin(part, key); err != nil {
			return err
		}
		for {
			piece, begun, err := src.values()
			if err != nil {
				return err
			}
			if piece == nil {
				break
			}
			g.recs += begun
			if _, err := g.w.Write(piece); err != nil {
				return err
			}
		}
	}
}
