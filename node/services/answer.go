package services

import "sync"

// answer gathers what a function writes. It grows by pieces, so that nothing is copied on the way and a call that
// fails leaves no large memory behind.
type answer struct {
	first  []byte
	pieces [][]byte
	size   int
}

const (
	firstPiece = 4 << 10
	mostPiece  = 1 << 20
)

var answers = sync.Pool{New: func() any { return &answer{first: make([]byte, 0, firstPiece)} }}

// Write implements io.Writer.
func (a *answer) Write(b []byte) (int, error) {
	n := len(b)
	a.size += n
	if len(a.pieces) == 0 {
		take := min(len(b), cap(a.first)-len(a.first))
		a.first = append(a.first, b[:take]...)
		b = b[take:]
	}
	for len(b) > 0 {
		last := len(a.pieces) - 1
		if last < 0 || len(a.pieces[last]) == cap(a.pieces[last]) {
			a.pieces = append(a.pieces, make([]byte, 0, max(min(a.size, mostPiece), len(b))))
			last++
		}
		take := min(len(b), cap(a.pieces[last])-len(a.pieces[last]))
		a.pieces[last] = append(a.pieces[last], b[:take]...)
		b = b[take:]
	}
	return n, nil
}

// bytes answers all of it, in memory of its own.
func (a *answer) bytes() []byte {
	out := append(make([]byte, 0, a.size), a.first...)
	for _, p := range a.pieces {
		out = append(out, p...)
	}
	return out
}

// free makes it ready for another call.
func (a *answer) free() {
	a.first, a.pieces, a.size = a.first[:0], nil, 0
	answers.Put(a)
}
