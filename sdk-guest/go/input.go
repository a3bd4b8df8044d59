package guest

import (
	"errors"

	"github.com/wattlehq/wattle/sdk-guest/go/internal/abi"
)

// input reads the host's input in blocks.
type input struct {
	host abi.Host
	buf  []byte // allocated on first use
	r, w int    // buf[r:w] is read from the host and not used yet
	off  int64  // of buf[w] in the input
}

// all answers the rest of the input.
func (in *input) all() []byte {
	n := in.host.InputLen()
	if n < 0 {
		n = blockSize
	}
	// One byte more than the length makes the last read see the end without growing.
	b := make([]byte, 0, n+1)
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		got := in.host.InputRead(b[len(b):cap(b)], in.off)
		if got == 0 {
			return b
		}
		b = b[:len(b)+got]
		in.off += int64(got)
	}
}

// fill makes sure that at least n bytes are in buf[r:w], growing buf where needed; false at the end of the input.
func (in *input) fill(n int) bool {
	for in.w-in.r < n {
		if in.r > 0 && in.r == in.w {
			in.r, in.w = 0, 0
		}
		if n > len(in.buf)-in.r || in.w == len(in.buf) {
			next := in.buf
			if n > len(in.buf) || len(in.buf) == 0 {
				next = make([]byte, max(blockSize, n+n/4))
			}
			in.w = copy(next, in.buf[in.r:in.w])
			in.r, in.buf = 0, next
		}
		got := in.host.InputRead(in.buf[in.w:], in.off)
		if got == 0 {
			return false
		}
		in.w += got
		in.off += int64(got)
	}
	return true
}

// errCut can only mean a fault of the host.
var errCut = errors.New("the input ends in the middle of a record")

// uvarint reads one length. ok is false at the end of the input.
func (in *input) uvarint() (v uint64, ok bool, err error) {
	for i := range 10 {
		if !in.fill(1) {
			if i == 0 {
				return 0, false, nil
			}
			return 0, false, errCut
		}
		c := in.buf[in.r]
		in.r++
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return v, true, nil
		}
	}
	return 0, false, errors.New("the input has a malformed length")
}

// next answers the next n bytes, valid until the next use of the input.
func (in *input) next(n uint64) ([]byte, error) {
	if n > 1<<31-1 || !in.fill(int(n)) {
		return nil, errCut
	}
	b := in.buf[in.r : in.r+int(n)]
	in.r += int(n)
	return b, nil
}

// counted reads a length and as many bytes.
func (in *input) counted() ([]byte, error) {
	n, ok, err := in.uvarint()
	if err == nil && !ok {
		err = errCut
	}
	if err != nil {
		return nil, err
	}
	return in.next(n)
}

// skip passes over n bytes without asking the host for them.
func (in *input) skip(n uint64) {
	have := min(n, uint64(in.w-in.r))
	in.r += int(have)
	in.off += int64(n - have)
}
