package host

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// slots are the idle slots of one module.
type slots struct {
	used atomic.Int64 // when one was last taken, in Unix nanoseconds

	mu     sync.Mutex
	idle   []*slot // the one used last is last: its pages are the warmest
	fewest int     // of idle since the last sweep: so many were not needed
	closed bool
}

func (p *slots) pop() *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	s := p.idle[n-1]
	p.idle[n-1] = nil
	p.idle = p.idle[:n-1]
	p.fewest = min(p.fewest, n-1)
	return s
}

func (p *slots) push(s *slot) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.idle = append(p.idle, s)
	return true
}

// take takes out the n slots not used for longest, or all there are.
func (p *slots) take(n int) []*slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	n = min(n, len(p.idle))
	out := append([]*slot(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	p.fewest = min(p.fewest, len(p.idle))
	return out
}

// surplus takes out those that were idle ever since the last call of surplus, but for one.
func (p *slots) surplus() []*slot {
	p.mu.Lock()
	n := min(p.fewest, len(p.idle)-1)
	p.mu.Unlock()
	out := p.take(max(n, 0))
	p.mu.Lock()
	p.fewest = len(p.idle)
	p.mu.Unlock()
	return out
}

// close takes out all and refuses more.
func (p *slots) close() []*slot {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	return p.take(len(p.idle))
}

// slot answers a slot of e for a call, and waits for memory until a deadline.
func (h *Host) slot(ctx context.Context, e *entry, until time.Time, c *Call) (*slot, error) {
	fresh := c.Fresh || e.image == nil || len(c.Mounts) > 0
	if !fresh {
		if s := e.slots.pop(); s != nil {
			if err := h.budget.enter(ctx, until, e.reach(), c.Nested); err != nil {
				h.putIdle(s)
				return nil, err
			}
			s.memory.charged = e.reach()
			return s, nil
		}
	}
	if err := h.budget.enter(ctx, until, e.need(), c.Nested); err != nil {
		return nil, err
	}
	return h.newSlot(e, fresh, c.Mounts)
}

// putBack takes a slot back after a call.
func (h *Host) putBack(s *slot) {
	if s.fresh {
		s.close()
		return
	}
	err := s.reset()
	s.running.endTurn()
	if err != nil {
		h.retire(s, err)
		return
	}
	h.putIdle(s)
}

// retire closes a slot that cannot be used again.
func (h *Host) retire(s *slot, why error) {
	h.retired.Add(1)
	s.close()
	if h.config.onRetire != nil {
		h.config.onRetire(why)
	}
}

func (h *Host) putIdle(s *slot) {
	if !s.entry.slots.push(s) {
		s.close()
		return
	}
	h.sweepLater()
}

// sweepEvery is how long a slot stays that nobody needs.
const sweepEvery = 10 * time.Second

// sweepLater arms the sweep. It runs from time to time while there is something to sweep, and not otherwise.
func (h *Host) sweepLater() {
	if h.sweeping.Load() || !h.sweeping.CompareAndSwap(false, true) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.sweeper = time.AfterFunc(sweepEvery, h.sweep)
	}
}

// sweep closes slots that were not needed since the sweep before.
func (h *Host) sweep() {
	h.sweeping.Store(false)
	if h.begin() != nil {
		return
	}
	defer h.end()
	more := false
	for _, e := range h.modules.all() {
		for _, s := range e.slots.surplus() {
			s.close()
		}
		e.slots.mu.Lock()
		more = more || len(e.slots.idle) > 1
		e.slots.mu.Unlock()
	}
	if more {
		h.sweepLater()
	}
}

// spare closes an idle slot of the module that was not called for longest, and answers what it held of the budget.
func (h *Host) spare() uint64 {
	var oldest *entry
	for _, e := range h.modules.all() {
		e.slots.mu.Lock()
		some := len(e.slots.idle) > 0
		e.slots.mu.Unlock()
		if some && (oldest == nil || e.slots.used.Load() < oldest.slots.used.Load()) {
			oldest = e
		}
	}
	if oldest == nil {
		return 0
	}
	held := uint64(0)
	for _, s := range oldest.slots.take(1) {
		held = s.free()
	}
	return held
}
