package host

import (
	"sync"

	"github.com/wattlehq/wattle/internal/fault"
)

// gates count the calls of functions that have a limit of concurrency. It is safe for concurrent use.
type gates struct {
	mu      sync.Mutex
	running map[gate]uint32
}

// gate is what such a limit holds for.
type gate struct {
	service  string
	version  uint64
	function string
}

func gateOf(c *Call) gate { return gate{c.Context.Service, c.Context.Version, c.Function} }

func (g *gates) enter(at gate, limit uint32) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.running[at] >= limit {
		return nil, fault.New(fault.Exhausted, "concurrency_limit", "function %s runs %d times already, which is its limit of concurrency", at.function, limit).
			With("limit", "concurrency").With("value", limit).
			Hint("try again in a moment, or raise the function's concurrency limit")
	}
	if g.running == nil {
		g.running = map[gate]uint32{}
	}
	g.running[at]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.running[at]--; g.running[at] == 0 {
			delete(g.running, at)
		}
	}, nil
}
