package rpc

import (
	"context"
	"io"
	"net/http"

	"connectrpc.com/connect"
)

// Memory is what the node has for guests, with what they are given and what they answer.
type Memory interface {
	// Reserve takes bytes, or answers a *fault.Error where they are not left. Release gives them back.
	Reserve(bytes uint64) error
	Release(bytes uint64)
}

// Small is up to how many bytes a request or an answer does not count: there are never many of those.
const Small = 64 << 10

// weigh reserves memory for large requests until they are answered.
func weigh(next http.Handler, m Memory, opts ...connect.HandlerOption) http.Handler {
	errors := connect.NewErrorWriter(opts...)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := r.ContentLength; {
		case n < 0: // it is not known, as always with gRPC
			b := &weighed{ReadCloser: r.Body, memory: m}
			defer func() { m.Release(b.held) }()
			r.Body = b
		case n > Small:
			// More than anything may have is refused when it is read.
			n := uint64(min(n, MaxRequest+maxEnvelope))
			if err := m.Reserve(n); err != nil {
				if errors.IsSupported(r) {
					_ = errors.Write(w, r, toConnect(err)) // whoever asked is gone
				} else {
					writeHTTP(w, err)
				}
				return
			}
			defer m.Release(n)
		}
		next.ServeHTTP(w, r)
	})
}

// weighed reserves memory for a body as it is read.
type weighed struct {
	io.ReadCloser
	memory     Memory
	read, held uint64
}

func (b *weighed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.read += uint64(n); b.read > b.held && b.read > Small {
		more := max(b.read-b.held, Small)
		if err := b.memory.Reserve(more); err != nil {
			return n, err
		}
		b.held += more
	}
	return n, err
}

// keep reserves memory for a large answer until its request is over.
func keep(ctx context.Context, m Memory, n int) error {
	if n <= Small {
		return nil
	}
	if err := m.Reserve(uint64(n)); err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { m.Release(uint64(n)) })
	return nil
}
