package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/testdata"
)

// A caller that gives up does not spoil the load for those who wait with it.
func TestLoadOutlivesItsFirstCaller(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{MaxModules: 1})
	wasm := testdata.Wasm("noop")
	ctx, cancel := context.WithCancel(t.Context())
	opening, first := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := h.Load(ctx, digest.Of(wasm), func() ([]byte, error) {
			close(opening)
			<-ctx.Done() // as a reader that follows its caller's context
			return nil, ctx.Err()
		})
		first <- err
	}()
	<-opening
	second := make(chan error, 1)
	go func() {
		m, err := h.Load(t.Context(), digest.Of(wasm), func() ([]byte, error) { return wasm, nil })
		if err == nil {
			m.Release()
		}
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first got %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the second got %v", err)
	}
}

// Many modules through a small cache, with failing loads and callers that give up among them: run with -race.
func TestLoadUnderPressure(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{MaxModules: 2})
	mine := errors.New("mine")
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for i := range 60 {
				wasm := append(bytes.Clone(testdata.Wasm("noop")), module(fmt.Sprintf("\x00\x01%c", 'a'+(i+worker)%5))[8:]...)
				ctx, cancel := context.WithCancel(t.Context())
				if i%7 == 0 {
					cancel()
				}
				m, err := h.Load(ctx, digest.Of(wasm), func() ([]byte, error) {
					if i%5 == 0 {
						return nil, mine
					}
					return wasm, nil
				})
				switch {
				case err == nil:
					if _, err := m.Call(t.Context(), &Call{Function: "noop"}); err != nil {
						t.Error(err)
					}
					m.Release()
				case !errors.Is(err, mine) && fault.KindOf(err) != fault.Canceled:
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	h.modules.mu.Lock()
	entries := slices.Collect(maps.Values(h.modules.entries))
	h.modules.mu.Unlock()
	for _, e := range entries {
		<-e.ready // what callers gave up goes on
	}
	h.modules.mu.Lock()
	defer h.modules.mu.Unlock()
	size := 0
	for _, e := range h.modules.entries {
		size += e.size
	}
	if h.modules.order.Len() != len(h.modules.entries) || size != h.modules.size {
		t.Errorf("%d in order, %d entries, size %d counted as %d", h.modules.order.Len(), len(h.modules.entries), size, h.modules.size)
	}
}

// A load that failed leaves nothing behind.
func TestAFailedLoadIsTriedAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{})
	wasm := testdata.Wasm("noop")
	for _, bytes := range [][]byte{nil, wasm[:10]} {
		_, err := h.Load(t.Context(), digest.Of(wasm), func() ([]byte, error) { return bytes, nil })
		wantFault(t, err, fault.Corrupt, "damaged_module", "")
	}
	m := load(t, h, wasm)
	if _, err := m.Call(t.Context(), &Call{Function: "noop"}); err != nil {
		t.Error(err)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{})
	wasm := testdata.Wasm("noop")
	var opened int
	open := func() ([]byte, error) { opened++; return wasm, nil }
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			m, err := h.Load(t.Context(), digest.Of(wasm), open)
			if err != nil {
				t.Error(err)
				return
			}
			m.Release()
			m.Release()
		})
	}
	wg.Wait()
	if opened != 1 {
		t.Errorf("opened %d times", opened)
	}
	mine := errors.New("no such chunk")
	d := digest.Of([]byte("other"))
	if _, err := h.Load(t.Context(), d, func() ([]byte, error) { return nil, mine }); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	_, err := h.Load(t.Context(), d, open)
	wantFault(t, err, fault.Corrupt, "damaged_module", d.String())
}

func TestModulesInUseAreKept(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{MaxModules: 1})
	spin, noop, echo := testdata.Wasm("spin"), testdata.Wasm("noop"), testdata.Wasm("echo")
	m := load(t, h, spin)
	done := make(chan error, 1)
	go func() {
		_, err := m.Call(t.Context(), &Call{Function: "spin", Limits: Limits{Timeout: 300 * time.Millisecond}})
		done <- err
	}()
	for range 20 {
		for _, wasm := range [][]byte{noop, echo} {
			if _, err := h.Inspect(t.Context(), wasm); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantFault(t, <-done, fault.Limit, "time_limit", "")
	if n := len(h.modules.entries); n > 2 {
		t.Errorf("%d modules are kept", n)
	}
	m.Release()
	if _, err := m.Call(t.Context(), &Call{Function: "spin"}); err == nil {
		t.Error("a released module runs")
	}
}

func TestCloseWaitsForCalls(t *testing.T) {
	t.Parallel()
	h, err := New(t.Context(), Config{})
	if err != nil {
		t.Fatal(err)
	}
	wasm := testdata.Wasm("echo")
	m := load(t, h, wasm)
	r, w := io.Pipe()
	done := make(chan error, 1)
	var out bytes.Buffer
	go func() {
		_, err := m.Call(context.Background(), &Call{Function: "echo", Input: StreamInput(r), Output: &out})
		done <- err
	}()
	if _, err := w.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Close did not wait: %v", err)
	}
	_, err = m.Call(t.Context(), &Call{Function: "echo"})
	wantFault(t, err, fault.Unavailable, "host_closed", "")
	_ = w.Close()
	if err := <-done; err != nil || out.String() != "a" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	_, err = h.Inspect(t.Context(), wasm)
	wantFault(t, err, fault.Unavailable, "host_closed", "")
}
