package worker

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source hands out numbers up to a limit, then waits for its end.
type source struct {
	limit   int64
	next    atomic.Int64
	done    sync.Map
	results chan int64
}

func (s *source) Next(ctx context.Context) (int64, error) {
	if n := s.next.Add(1); n <= s.limit {
		return n, nil
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

func (s *source) Done(n, outcome int64) {
	if _, twice := s.done.LoadOrStore(n, outcome); twice {
		panic("an attempt was given back twice")
	}
	s.results <- outcome
}

type runner func(ctx context.Context, n int64) int64

func (r runner) Run(ctx context.Context, n int64) int64 { return r(ctx, n) }

// Every attempt comes back once with its outcome, and never more run at once than there are slots.
func TestPool(t *testing.T) {
	t.Parallel()
	const slots, attempts = 4, 1000
	var running, most atomic.Int64
	s := &source{limit: attempts, results: make(chan int64, attempts)}
	pool := New(slots, s, runner(func(_ context.Context, n int64) int64 {
		now := running.Add(1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		defer running.Add(-1)
		return -n
	}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- pool.Run(ctx) }()
	sum := int64(0)
	for range attempts {
		sum += <-s.results
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if want := int64(-attempts * (attempts + 1) / 2); sum != want || most.Load() > slots {
		t.Errorf("outcomes add up to %d, want %d; %d at once", sum, want, most.Load())
	}
}

// All slots are used at once, and the end waits for what runs.
func TestPoolEnds(t *testing.T) {
	t.Parallel()
	const slots = 8
	s := &source{limit: 100, results: make(chan int64, 100)}
	var begun sync.WaitGroup
	begun.Add(slots)
	release := make(chan struct{})
	pool := New(slots, s, runner(func(ctx context.Context, n int64) int64 {
		begun.Done()
		<-ctx.Done()
		<-release
		return n
	}))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- pool.Run(ctx) }()
	begun.Wait() // only comes back if all of them run beside each other
	// From here on each of them gives its slot back; what Next hands out after the end would block above.
	s.next.Store(100)
	cancel()
	select {
	case <-ended:
		t.Fatal("ended although attempts run")
	default:
	}
	close(release)
	if err := <-ended; err != nil || len(s.results) != slots {
		t.Errorf("%v, %d outcomes", err, len(s.results))
	}
}
