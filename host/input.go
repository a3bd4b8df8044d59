package host

import (
	"errors"
	"fmt"
	"io"
)

// Input is what a guest reads. One call uses it from one goroutine.
type Input interface {
	// Len is the length in bytes, or -1 for a stream.
	Len() int64
	// ReadAt is like io.ReaderAt, but may answer fewer bytes than asked for without an error; the end is
	// io.EOF. A stream is read from the start to the end: each off is where the last read ended.
	ReadAt(p []byte, off int64) (int, error)
}

// BytesInput makes an Input of b, which must not change during the call.
func BytesInput(b []byte) Input { return bytesInput(b) }

type bytesInput []byte

func (b bytesInput) Len() int64 { return int64(len(b)) }

func (b bytesInput) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(b)) {
		return 0, io.EOF
	}
	return copy(p, b[off:]), nil
}

// StreamInput makes an Input of a reader. Reads may skip forward, never back.
func StreamInput(r io.Reader) Input { return &streamInput{r: r} }

type streamInput struct {
	r   io.Reader
	pos int64
}

func (s *streamInput) Len() int64 { return -1 }

func (s *streamInput) ReadAt(p []byte, off int64) (int, error) {
	if off < s.pos {
		return 0, fmt.Errorf("read of a stream at %d, which is already at %d", off, s.pos)
	}
	if off > s.pos {
		n, err := io.CopyN(io.Discard, s.r, off-s.pos)
		s.pos += n
		if err != nil {
			return 0, err
		}
	}
	n, err := s.r.Read(p)
	s.pos += int64(n)
	return n, err
}

// reader turns an Input into what guests see: bounds, forward-only streams, and no reads without progress.
type reader struct {
	in     Input
	length int64 // as Len said at the start
	pos    int64 // of a stream: where the last read ended
	ended  bool
}

// errBackwards means that the guest broke the rule for streams.
var errBackwards = errors.New("the input is a stream and is read forward only")

const skipChunk = 32 << 10

// read fills p from off. It answers 0 at the end only.
func (r *reader) read(p []byte, off int64) (int, error) {
	if r.in == nil || len(p) == 0 {
		return 0, nil
	}
	if r.length >= 0 {
		if off >= r.length {
			return 0, nil
		}
		if rest := r.length - off; int64(len(p)) > rest {
			p = p[:rest]
		}
		return r.once(p, off)
	}
	if off < r.pos {
		return 0, errBackwards
	}
	if r.ended {
		return 0, nil
	}
	if off > r.pos {
		scratch := make([]byte, min(skipChunk, off-r.pos))
		for off > r.pos {
			n, err := r.once(scratch[:min(int64(len(scratch)), off-r.pos)], r.pos)
			if err != nil || n == 0 {
				return 0, err
			}
		}
	}
	return r.once(p, off)
}

func (r *reader) once(p []byte, off int64) (int, error) {
	for range 100 {
		n, err := r.in.ReadAt(p, off)
		if n < 0 || n > len(p) {
			return 0, fmt.Errorf("input: read of %d bytes answered %d", len(p), n)
		}
		r.pos = off + int64(n)
		switch {
		case err == io.EOF:
			// A sized input that ends early would look complete to the guest.
			if n == 0 && r.length >= 0 {
				return 0, io.ErrUnexpectedEOF
			}
			r.ended = r.length < 0
			return n, nil
		case err != nil:
			return 0, err
		case n > 0:
			return n, nil
		}
	}
	return 0, io.ErrNoProgress
}
