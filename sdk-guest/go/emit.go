package guest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"
)

// Emit passes a record on. What comes of it is seen in the next stage: all values of one key together.
//
// Values travel as JSON, but for []byte, which travels as it is.
type Emit[V any] func(key string, value V)

// Bytes is like calling e with string(key), without the copy. key may be changed afterwards.
func (e Emit[V]) Bytes(key []byte, value V) {
	e(unsafe.String(unsafe.SliceData(key), len(key)), value)
}

// emitter collects records and hands them to the host in batches.
type emitter[V any] struct {
	ctx    *Context
	encode encoder[V]
	buf    []byte
	err    error // the first value that could not be encoded
}

func newEmitter[V any](ctx *Context, encode encoder[V]) *emitter[V] {
	return &emitter[V]{ctx: ctx, encode: encode, buf: make([]byte, 0, blockSize+4096)}
}

func (e *emitter[V]) emit(key string, value V) {
	b := e.buf
	if len(key) < 0x80 {
		b = append(b, byte(len(key)))
	} else {
		b = binary.AppendUvarint(b, uint64(len(key)))
	}
	b = append(b, key...)
	// The length comes before the value and is not known yet: leave the one byte that is nearly always enough.
	at := len(b)
	b = append(b, 0)
	b, err := e.encode(b, value)
	if err != nil {
		if e.err == nil {
			e.err = Permanent(fmt.Errorf("the value emitted for key %q cannot be encoded: %w", key, err))
		}
		return
	}
	if n := len(b) - at - 1; n < 0x80 {
		b[at] = byte(n)
	} else {
		b = slices.Replace(b, at, at+1, binary.AppendUvarint(nil, uint64(n))...)
	}
	e.buf = b
	if len(b) >= blockSize {
		e.flush()
	}
}

func (e *emitter[V]) flush() {
	if len(e.buf) > 0 {
		e.ctx.emitted = true
		e.ctx.host.Emit(e.buf)
		e.buf = e.buf[:0]
	}
}

// finish sends what is left, unless something went wrong.
func (e *emitter[V]) finish() error {
	if e.err == nil {
		e.flush()
	}
	return e.err
}
