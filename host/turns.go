package host

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// turns shares the processors among guests that compute for long. A guest's code cannot be interrupted but where it
// asks for fuel, so each of them that runs keeps a processor from everything else in the process. Short calls need
// no turn; what outlasts its first slice waits for one, and hands it on after a while when others wait. While short
// calls come in, one processor is left to them.
type turns struct {
	most  int          // processors
	short atomic.Int64 // when a short call last ended, in Unix nanoseconds

	waiting atomic.Int64 // len of queue, to be read without mu
	running atomic.Int64 // changed with mu only
	mu      sync.Mutex
	queue   list.List // of chan struct{}, the oldest in front
}

const (
	// turnTime is how long a guest computes before those who wait are let in.
	turnTime = 2 * time.Millisecond
	// shortTime is how long a short call is taken to announce another.
	shortTime = 20 * time.Millisecond
)

// ended notes the end of a short call.
func (t *turns) ended(now time.Time) {
	if n := now.UnixNano(); n-t.short.Load() > int64(time.Millisecond) {
		t.short.Store(n)
	}
}

// allowed is how many may have a turn.
func (t *turns) allowed(now time.Time) int64 {
	if t.most > 1 && now.UnixNano()-t.short.Load() < int64(shortTime) {
		return int64(t.most - 1)
	}
	return int64(t.most)
}

// over tells one who has had a turn since then whether it is over.
func (t *turns) over(now, since time.Time) bool {
	allowed := t.allowed(now)
	if t.running.Load() > allowed {
		return true
	}
	if t.waiting.Load() == 0 {
		return false
	}
	if t.running.Load() < allowed {
		t.mu.Lock()
		t.admit(now)
		t.mu.Unlock()
	}
	return now.Sub(since) >= turnTime
}

// take waits for a turn, behind all who wait already.
func (t *turns) take(ctx context.Context, now, until time.Time) error {
	t.mu.Lock()
	if t.queue.Len() == 0 && t.running.Load() < t.allowed(now) {
		t.running.Add(1)
		t.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	at := t.queue.PushBack(ready)
	t.waiting.Add(1)
	t.admit(now)
	t.mu.Unlock()
	timer := time.NewTimer(until.Sub(now))
	defer timer.Stop()
	var err error
	select {
	case <-ready:
		return nil
	case <-timer.C:
		err = errTimeLimit
	case <-ctx.Done():
		err = ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-ready: // both at once
		t.running.Add(-1)
		t.admit(time.Now())
	default:
		t.queue.Remove(at)
		t.waiting.Add(-1)
	}
	return err
}

// give hands a turn on.
func (t *turns) give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running.Add(-1)
	t.admit(time.Now())
}

func (t *turns) admit(now time.Time) {
	for t.queue.Len() > 0 && t.running.Load() < t.allowed(now) {
		next := t.queue.Remove(t.queue.Front()).(chan struct{})
		t.waiting.Add(-1)
		t.running.Add(1)
		close(next)
	}
}
