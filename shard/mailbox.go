package shard

import (
	"io"
	stdlog "log"
	"sync"
)

var discard = stdlog.New(io.Discard, "", 0)

// mailbox is an unbounded queue with one reader, who takes all of it at once: that is how batches form by
// themselves, without a timer. What may be put in is bounded by its producers.
type mailbox[T any] struct {
	mu   sync.Mutex
	q    []T
	wake chan struct{}
}

func newMailbox[T any]() *mailbox[T] { return &mailbox[T]{wake: make(chan struct{}, 1)} }

func (m *mailbox[T]) put(v ...T) {
	m.mu.Lock()
	m.q = append(m.q, v...)
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox[T]) take() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	q := m.q
	m.q = nil
	return q
}

func (m *mailbox[T]) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.q)
}
