package services

import (
	"context"
	"sync"

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

	mu sync.Mutex
	by shard.NodeID // ran a call meanwhile
}

// load begins to make a module ready, or joins whoever did.
func (s *Services) load(digest string) *loading {
	s.loadings.mu.Lock()
	defer s.loadings.mu.Unlock()
	if l := s.loadings.under[digest]; l != nil {
		return l
	}
	l := &loading{done: make(chan struct{})}
	if s.loadings.under == nil {
		s.loadings.under = map[string]*loading{}
	}
	s.loadings.under[digest] = l
	go func() {
		m, err := jobs.LoadModule(s.Others.Stopping, s.Host, s.Blobs, digest)
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

// over tells whether the wait is over, and nobody else need be asked.
func (l *loading) over() bool {
	select {
	case <-l.done:
		return l.err == nil
	default:
		return false
	}
}

// first puts the node that ran a call before in front of the others.
func (l *loading) first(nodes []shard.NodeID) []shard.NodeID {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, id := range nodes {
		if id == l.by {
			nodes[0], nodes[i] = id, nodes[0]
		}
	}
	return nodes
}

func (l *loading) ran(id shard.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.by = id
}
