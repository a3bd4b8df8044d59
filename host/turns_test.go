package host

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// taker waits for a turn in a goroutine of its own.
func taker(ctx context.Context, u *turns, until time.Duration) (got chan error) {
	got = make(chan error, 1)
	go func() { got <- u.take(ctx, time.Now(), time.Now().Add(until)) }()
	synctest.Wait()
	return got
}

func has(t *testing.T, got chan error, want bool) {
	t.Helper()
	synctest.Wait()
	if len(got) == 1 != want {
		t.Errorf("it has its turn: %v, want %v", !want, want)
	}
}

func TestTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Second) // no short call was ever
		u := &turns{most: 2}
		first, second := taker(t.Context(), u, time.Minute), taker(t.Context(), u, time.Minute)
		third, fourth := taker(t.Context(), u, time.Minute), taker(t.Context(), u, time.Minute)
		has(t, first, true)
		has(t, second, true)
		has(t, third, false)
		since := time.Now()
		if u.over(time.Now(), since) {
			t.Error("a turn is over at once")
		}
		time.Sleep(turnTime)
		if !u.over(time.Now(), since) {
			t.Error("a turn goes on although others wait")
		}
		u.give()
		has(t, third, true)
		has(t, fourth, false)

		// While short calls come in, one of two turns is taken away.
		u.ended(time.Now())
		if !u.over(time.Now(), time.Now()) {
			t.Error("two go on beside short calls")
		}
		u.give()
		has(t, fourth, false)
		if u.over(time.Now(), time.Now()) {
			t.Error("the last turn is taken away, too")
		}
		time.Sleep(shortTime)
		// Nobody gives one back, but those who run look around.
		if u.over(time.Now(), time.Now()) {
			t.Error("a fresh turn is over")
		}
		has(t, fourth, true)

		late := taker(t.Context(), u, time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		gone := taker(ctx, u, time.Minute)
		cancel()
		synctest.Wait()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if err := <-late; !errors.Is(err, errTimeLimit) {
			t.Error(err)
		}
		u.give()
		u.give()
		if u.running.Load() != 0 || u.waiting.Load() != 0 || u.queue.Len() != 0 {
			t.Errorf("%d run and %d wait in the end", u.running.Load(), u.waiting.Load())
		}
	})
}

func TestBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		idle := uint64(30)
		b := &budget{limit: 100}
		b.spare = func() uint64 {
			freed := min(idle, 10)
			idle -= freed
			return freed
		}
		b.used.Store(idle)
		enter := func(n uint64, wait time.Duration) chan error {
			got := make(chan error, 1)
			go func() { got <- b.enter(t.Context(), time.Now().Add(wait), n, false) }()
			synctest.Wait()
			return got
		}
		if err := <-enter(80, time.Second); err != nil || idle != 20 {
			t.Errorf("%v, %d bytes are idle", err, idle)
		}
		large, small := enter(60, time.Minute), enter(10, time.Minute)
		has(t, large, false)
		has(t, small, false) // behind the large one, though it would fit
		if err := b.enter(t.Context(), time.Now().Add(time.Minute), 50, true); fault.Reason(err) != "node_memory" {
			t.Errorf("a nested call waits: %v", err)
		}
		b.give(80)
		has(t, large, true)
		has(t, small, true)
		if err := <-enter(200, time.Minute); fault.Reason(err) != "node_memory" {
			t.Errorf("more than there is: %v", err)
		}
		late := enter(90, time.Second)
		time.Sleep(time.Second)
		if err := <-late; fault.Reason(err) != "node_memory" || fault.As(err).Help == "" {
			t.Error(err)
		}
		b.give(70)
		if b.used.Load() != idle || b.waiting.Load() != 0 {
			t.Errorf("%d bytes are used, %d wait", b.used.Load(), b.waiting.Load())
		}
	})
}
