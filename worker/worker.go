// Package worker is a node's pool of slots: each takes an attempt from a Source, has a Runner
// run it and gives the outcome back. What attempts and outcomes are is the business of those two.
package worker

import (
	"context"
	"sync"
)

// Source hands out attempts. Its methods are called concurrently.
type Source[A, O any] interface {
	// Next blocks until there is something to run, and returns an error only when ctx has ended.
	Next(ctx context.Context) (A, error)
	// Done takes the outcome of an attempt that Next returned. It is called exactly once for each.
	Done(a A, o O)
}

// Runner runs one attempt. It must return soon after ctx has ended.
type Runner[A, O any] interface {
	Run(ctx context.Context, a A) O
}

// Pool runs attempts, as many at once as it has slots.
type Pool[A, O any] struct {
	slots  int
	source Source[A, O]
	runner Runner[A, O]
}

// New returns a pool. It starts nothing.
func New[A, O any](slots int, source Source[A, O], runner Runner[A, O]) *Pool[A, O] {
	return &Pool[A, O]{slots: slots, source: source, runner: runner}
}

// Run runs attempts until ctx ends and every one has been given back.
func (p *Pool[A, O]) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range p.slots {
		wg.Go(func() {
			for {
				a, err := p.source.Next(ctx)
				if err != nil {
					return
				}
				p.source.Done(a, p.runner.Run(ctx, a))
			}
		})
	}
	wg.Wait()
	return nil
}
