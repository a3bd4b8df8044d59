package host

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// budget is the memory of a node that its guests share. What runs is charged with all it can reach, what is idle with
// what it keeps. It is safe for concurrent use.
type budget struct {
	limit uint64
	used  atomic.Uint64
	// spare frees a piece of memory that nobody uses now and answers how many bytes it was charged with, 0 if there is none.
	spare func() uint64

	waiting atomic.Int64 // len of queue, to be read without mu
	mu      sync.Mutex
	queue   list.List // of *admission, the oldest in front
}

// maxWaiting bounds the calls that wait for memory.
const maxWaiting = 10_000

type admission struct {
	need  uint64
	ready chan struct{} // closed once it has what it needs
}

// take takes n bytes where they are left. It does not wait.
func (b *budget) take(n uint64) bool {
	for {
		used := b.used.Load()
		if n <= b.limit && used <= b.limit-n {
			if b.used.CompareAndSwap(used, used+n) {
				return true
			}
			continue
		}
		freed := b.spare()
		if freed == 0 {
			return false
		}
		b.used.Add(-freed)
	}
}

// give gives n bytes back.
func (b *budget) give(n uint64) {
	if n == 0 {
		return
	}
	b.used.Add(-n)
	if b.waiting.Load() > 0 {
		b.admit()
	}
}

// admit lets in those who wait, in their order.
func (b *budget) admit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := b.queue.Front(); at != nil; at = b.queue.Front() {
		a := at.Value.(*admission)
		if !b.take(a.need) {
			return
		}
		b.leave(at)
		close(a.ready)
	}
}

func (b *budget) leave(at *list.Element) {
	b.queue.Remove(at)
	b.waiting.Add(-1)
}

// enter takes n bytes for a call that begins, and waits for them behind those who came before. The calls that run hold
// what they have and never wait for more, so that waiting ends.
func (b *budget) enter(ctx context.Context, until time.Time, n uint64, nested bool) error {
	if (nested || b.waiting.Load() == 0) && b.take(n) {
		return nil
	}
	if nested {
		return b.exhausted(n)
	}
	if n > b.limit {
		return b.exhausted(n)
	}
	b.mu.Lock()
	if b.queue.Len() >= maxWaiting {
		b.mu.Unlock()
		return b.exhausted(n)
	}
	a := &admission{need: n, ready: make(chan struct{})}
	at := b.queue.PushBack(a)
	b.waiting.Add(1)
	b.mu.Unlock()
	b.admit() // what was given back in between
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	var err error
	select {
	case <-a.ready:
		return nil
	case <-timer.C:
		err = b.exhausted(n)
	case <-ctx.Done():
		err = Interrupted(ctx)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-a.ready:
		return nil // both at once
	default:
		b.leave(at)
		return err
	}
}

// Reserve takes bytes of what guests may use of memory for something that a caller keeps for one of them, such as its output. It does
// not wait: where there is too little left, it answers Exhausted "node_memory". Release gives them back.
func (h *Host) Reserve(bytes uint64) error {
	if !h.budget.take(bytes) {
		return h.budget.exhausted(bytes)
	}
	return nil
}

// Release gives back what was reserved.
func (h *Host) Release(bytes uint64) { h.budget.give(bytes) }

// exhausted is for n bytes that are not left, or that are more than there are for all guests together: waiting does not help then.
func (b *budget) exhausted(n uint64) *fault.Error {
	if n > b.limit {
		return fault.New(fault.Limit, "node_memory", "the node has no %d bytes of memory for the function: all its guests together get %d", n, b.limit).
			With("limit", "guest_memory").With("value", b.limit).
			Hint("give the node more with --guest-memory, or let the function need less")
	}
	return fault.New(fault.Exhausted, "node_memory", "the node has no %d bytes of memory for the function: its guests use %d of %d", n, b.used.Load(), b.limit).
		With("limit", "guest_memory").With("value", b.limit).
		Hint("try again when less is running on the node, or give it more with --guest-memory")
}
