// Package run is the lifecycle contract of everything long-lived in a node: a constructor starts
// nothing, Run(ctx) blocks until ctx ends and everything it started has ended, and returns nil on a clean stop.
package run

import (
	"context"
	"errors"
	"fmt"
)

// Part is one long-lived thing.
type Part struct {
	// Name appears in errors.
	Name string
	// Run blocks until ctx is done and the part has stopped. A part that returns earlier, with an
	// error or without, stops all the others.
	Run func(ctx context.Context) error
	// Ready, if set, is closed when the next part may start.
	Ready <-chan struct{}
}

// ErrEnded says that a part returned although nobody asked it to.
var ErrEnded = errors.New("ended by itself")

// Ordered runs the parts: each starts when the one before it is ready, and they are stopped in reverse
// order, each having returned before the one below it is told to stop. It returns the error of the first
// part that failed, or nil when ctx ended.
func Ordered(ctx context.Context, parts ...Part) error {
	type running struct {
		cancel context.CancelFunc
		done   chan error
	}
	failed := make(chan error, len(parts))
	var started []running
	var first error
	base := context.WithoutCancel(ctx)
start:
	for _, p := range parts {
		pctx, cancel := context.WithCancel(base)
		r := running{cancel: cancel, done: make(chan error, 1)}
		go func() {
			err := p.Run(pctx)
			if err == nil && pctx.Err() == nil {
				err = ErrEnded
			}
			if err != nil && (pctx.Err() == nil || !errors.Is(err, context.Canceled)) {
				err = fmt.Errorf("%s: %w", p.Name, err)
				failed <- err
			} else {
				err = nil
			}
			r.done <- err
		}()
		started = append(started, r)
		if p.Ready == nil {
			continue
		}
		select {
		case <-p.Ready:
		case first = <-failed:
			break start
		case <-ctx.Done():
			break start
		}
	}
	if first == nil {
		select {
		case first = <-failed:
		case <-ctx.Done():
		}
	}
	for i := len(started) - 1; i >= 0; i-- {
		started[i].cancel()
		if err := <-started[i].done; err != nil && first == nil {
			first = err
		}
	}
	return first
}
