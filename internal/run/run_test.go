package run

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// log notes what happens, in order.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

// part is ready at once, runs until it is told to stop, and notes both.
func (l *log) part(name string) Part {
	ready := make(chan struct{})
	return Part{Name: name, Ready: ready, Run: func(ctx context.Context) error {
		l.add("+" + name)
		close(ready)
		<-ctx.Done()
		l.add("-" + name)
		return nil
	}}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l log
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- Ordered(ctx, l.part("a"), l.part("b"), l.part("c")) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if want := []string{"+a", "+b", "+c", "-c", "-b", "-a"}; !slices.Equal(l.lines, want) {
			t.Errorf("%v, want %v", l.lines, want)
		}
	})
}

func TestFailureStopsTheOthers(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		run  func(context.Context) error
		want error
	}{
		"error":         {func(context.Context) error { return broken }, broken},
		"ends":          {func(context.Context) error { return nil }, ErrEnded},
		"fails to stop": {func(ctx context.Context) error { <-ctx.Done(); return broken }, broken},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var l log
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					done <- Ordered(ctx, l.part("a"), Part{Name: "middle", Run: c.run}, l.part("c"))
				}()
				synctest.Wait()
				cancel()
				err := <-done
				if !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "middle: ") {
					t.Errorf("%v, want middle: %v", err, c.want)
				}
				if !slices.Contains(l.lines, "-a") {
					t.Errorf("a was not stopped: %v", l.lines)
				}
			})
		})
	}
}

// A part that never gets ready keeps the next from starting, and can be stopped.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l log
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		stuck := Part{Name: "stuck", Ready: make(chan struct{}), Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		go func() { done <- Ordered(ctx, l.part("a"), stuck, l.part("c")) }()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if want := []string{"+a", "-a"}; !slices.Equal(l.lines, want) {
			t.Errorf("%v, want %v", l.lines, want)
		}
	})
}
