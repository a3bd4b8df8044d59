package services

import (
	"context"
	"sync"
	"time"

	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/node/jobs"
	"github.com/wattlehq/wattle/shard"
)

// loadings are the modules that are made ready here, each once for all calls that want it. The zero value is usable.
type loadings struct {
	mu    sync.Mutex
	under map[string]*loading // by digest
}

type loading struct {
	done chan struct{}
	err  error // once done

	mu    sync.Mutex
	by    shard.NodeID  // runs the calls meanwhile
	found chan struct{} // closed when there is one
	asked map[shard.NodeID]asked
}

// asked is what became of asking a node to run a call.
type asked struct {
	times int
	again time.Time // not before
}

// A node that refused is asked again after a while, which doubles: it may just not have heard of the version.
const (
	askAgain     = 10 * time.Millisecond
	askAgainMost = 500 * time.Millisecond
)

// load begins to make a module ready, or joins whoever did.
func (s *Services) load(digest string) *loading {
	s.loadings.mu.Lock()
	defer s.loadings.mu.Unlock()
	if l := s.loadings.under[digest]; l != nil {
		return l
	}
	l := &loading{done: make(chan struct{}), found: make(chan struct{}), asked: map[shard.NodeID]asked{}}
	if s.loadings.under == nil {
		s.loadings.under = map[string]*loading{}
	}
	s.loadings.under[digest] = l
	go func() {
		ctx := s.Others.Stopping
		if len(s.Others.there()) > 0 { // who may run the calls meanwhile
			ctx = host.InBackground(ctx)
		}
		m, err := jobs.LoadModule(ctx, s.Host, s.Blobs, digest)
		if err == nil {
			m.Release()
		}
		s.loadings.mu.Lock()
		delete(s.loadings.under, digest)
		s.loadings.mu.Unlock()
		l.err = err
		close(l.done)
	}()
	return l
}

// Load makes a module ready for calls.
func (s *Services) Load(ctx context.Context, digest string) error { return s.load(digest).wait(ctx) }

// next answers which node to ask, or how long to wait for one. What one call asks, others need not ask at the same time.
func (l *loading) next(nodes []shard.NodeID) (to shard.NodeID, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.by != "" && !now.Before(l.asked[l.by].again) {
		return l.by, 0
	}
	wait = askAgainMost
	for _, n := range nodes {
		a := l.asked[n]
		if left := a.again.Sub(now); left > 0 {
			wait = min(wait, left)
			continue
		}
		l.asked[n] = asked{a.times + 1, now.Add(min(askAgain<<min(a.times, 10), askAgainMost))}
		return n, 0
	}
	return "", wait
}

// refused notes that a node did not begin a call.
func (l *loading) refused(n shard.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == n {
		l.asked[n] = asked{again: time.Now().Add(askAgain)}
	}
}

// ran notes that a node ran a call: it can run more.
func (l *loading) ran(n shard.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by == "" {
		close(l.found)
	}
	l.by = n
	delete(l.asked, n)
}

// pause waits for a while, or until it is known who can run calls, or the load is done.
func (l *loading) pause(ctx context.Context, d time.Duration) {
	l.mu.Lock()
	found := l.found
	if l.by != "" {
		found = nil
	}
	l.mu.Unlock()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-found:
	case <-l.done:
	case <-ctx.Done():
	}
}

// wait waits until the load is done.
func (l *loading) wait(ctx context.Context) error {
	select {
	case <-l.done:
		return l.err
	case <-ctx.Done():
		return host.Interrupted(ctx)
	}
}
