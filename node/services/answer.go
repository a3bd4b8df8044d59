package services

import "sync"

// answer gathers what a function writes. It grows by pieces, so that nothing is copied on the way, and the large ones are used
// again, so that a flood of calls that write much leaves no garbage behind.
type answer struct {
	// reserve has to allow for each piece beyond the first, and release gets all of it back.
	reserve  func(bytes uint64) error
	release  func(bytes uint64)
	first    []byte
	pieces   [][]byte
	size     int
	reserved uint64
}

const (
	firstPiece = 4 << 10
	mostPiece  = 1 << 20
)

var (
	answers = sync.Pool{New: func() any { return &answer{first: make([]byte, 0, firstPiece)} }}
	pieces  = sync.Pool{New: func() any { return new([mostPiece]byte) }}
)

// newAnswer answers an empty one. free has to be called when it is no longer needed.
func newAnswer(reserve func(uint64) error, release func(uint64)) *answer {
	a := answers.Get().(*answer)
	a.reserve, a.release = reserve, release
	return a
}

// Write implements io.Writer. It fails only where reserve does.
func (a *answer) Write(b []byte) (int, error) {
	n := 0
	if len(a.pieces) == 0 {
		n = min(len(b), cap(a.first)-len(a.first))
		a.first = append(a.first, b[:n]...)
		a.size += n
	}
	for n < len(b) {
		last := len(a.pieces) - 1
		if last < 0 || len(a.pieces[last]) == cap(a.pieces[last]) {
			piece, err := a.piece()
			if err != nil {
				return n, err
			}
			a.pieces = append(a.pieces, piece)
			last++
		}
		take := min(len(b)-n, cap(a.pieces[last])-len(a.pieces[last]))
		a.pieces[last] = append(a.pieces[last], b[n:n+take]...)
		n += take
		a.size += take
	}
	return n, nil
}

// piece answers an empty one, as large as all before it.
func (a *answer) piece() ([]byte, error) {
	size := min(a.size, mostPiece)
	if err := a.reserve(uint64(size)); err != nil {
		return nil, err
	}
	a.reserved += uint64(size)
	if size == mostPiece {
		return pieces.Get().(*[mostPiece]byte)[:0], nil
	}
	return make([]byte, 0, size), nil
}

// bytes answers all of it, in memory of its own.
func (a *answer) bytes() []byte {
	out := append(make([]byte, 0, a.size), a.first...)
	for _, p := range a.pieces {
		out = append(out, p...)
	}
	return out
}

// free gives everything back.
func (a *answer) free() {
	for _, p := range a.pieces {
		if cap(p) == mostPiece {
			pieces.Put((*[mostPiece]byte)(p[:mostPiece]))
		}
	}
	if a.reserved > 0 {
		a.release(a.reserved)
	}
	*a = answer{first: a.first[:0]}
	answers.Put(a)
}
