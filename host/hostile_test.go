package host

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/testdata"
)

// strict makes a host whose slots must all come back.
func strict(t testing.TB, c Config) *Host {
	c.onRetire = func(why error) { t.Errorf("a slot was retired: %v", why) }
	return newHost(t, c)
}

func TestHostileGuests(t *testing.T) {
	t.Parallel()
	limits := Limits{Timeout: 300 * time.Millisecond, Memory: 64 << 20, Output: 1 << 20, Log: 10_000, Stack: 1 << 20}
	for _, portable := range []bool{false, true} {
		h := strict(t, Config{portableMemory: portable})
		for _, c := range []struct {
			guest, function string
			fuel            uint64
			reason, message string
		}{
			{"hostile", "spin", 0, "time_limit", "300ms"},
			{"hostile", "fib", 0, "time_limit", "300ms"},
			{"hostile", "recurse", 0, "stack_limit", "1048576"},
			{"hostile", "membomb", 0, "memory_limit", "67108864"},
			{"hostile", "fillflood", 0, "time_limit", "300ms"},
			{"hostile", "outflood", 0, "output_limit", "1048576"},
			{"hostile", "logflood", 0, "", ""},
			{"hostile", "errorflood", 0, "time_limit", "300ms"},
			{"hostile", "callflood", 0, "time_limit", "300ms"},
			{"hostile", "spin", 1_000_000, "fuel_limit", "1000000"},
			{"hostile", "fib", 1_000_000, "fuel_limit", "1000000"},
			{"hostile", "callflood", 100_000, "fuel_limit", "100000"},
			{"hostile", "fillflood", 1_000_000, "fuel_limit", "1000000"},
			{"tables", "bomb", 0, "table_limit", "1048576"},
		} {
			t.Run(fmt.Sprint(c.guest, "/", c.function, "/", c.fuel, "/", portable), func(t *testing.T) {
				t.Parallel()
				m := load(t, h, testdata.Wasm(c.guest))
				l := limits
				l.Fuel = c.fuel
				if c.reason != "time_limit" {
					l.Timeout = time.Minute
				}
				for range 2 {
					stats, err := m.Call(t.Context(), &Call{Function: c.function, Limits: l, Log: func(Level, string) {}})
					if c.reason == "" {
						if err != nil {
							t.Fatal(err)
						}
						continue
					}
					f := wantFault(t, err, fault.Limit, c.reason, c.message)
					if f.Fields["limit"] == "" || f.Fields["value"] == "" || f.Help == "" {
						t.Errorf("the error does not say enough: %+v", f)
					}
					if c.fuel > 0 && (stats.Fuel < c.fuel || stats.Fuel > c.fuel+100_000) {
						t.Errorf("stopped at %d units of fuel", stats.Fuel)
					}
				}
			})
		}
	}
}

// No call may find what another one did: by its return, by a trap, or by growing.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	calls := 100_000
	if testing.Short() {
		calls = 5_000
	}
	for name, portable := range map[string]bool{"mapped": false, "portable": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := strict(t, Config{portableMemory: portable})
			m := load(t, h, testdata.Wasm("hostile"))
			if m.Info().Fresh != "" {
				t.Fatal(m.Info().Fresh)
			}
			input := bytes.Repeat([]byte("x"), 400)
			var wg sync.WaitGroup
			for g := range 2 {
				wg.Go(func() {
					for i := range calls / 2 {
						function := "keep"
						if i%8 == 7 {
							function = "grown"
						}
						size := (i*7 + g) % 400
						_, err := m.Call(t.Context(), &Call{Function: function, Input: BytesInput(input[:size])})
						if function == "keep" && size%7 == 0 {
							if fault.Reason(err) != "trap" {
								t.Errorf("call %d: %v", i, err)
								return
							}
						} else if err != nil {
							t.Errorf("call %d of %s: it found something of an earlier call: %v", i, function, err)
							return
						}
					}
				})
			}
			wg.Wait()
			if n := h.Counters().Idle; n < 1 || n > 2 {
				t.Errorf("%d idle slots after two callers", n)
			}
		})
	}
}

// Whatever limit of the call stack is asked for, the one that is reached is named.
func TestStackLimits(t *testing.T) {
	t.Parallel()
	m := load(t, strict(t, Config{}), testdata.Wasm("hostile"))
	for asked, named := range map[uint64]string{1: "1 bytes", 1 << 20: "1048576", 1 << 40: "41943040"} {
		_, err := m.Call(t.Context(), &Call{Function: "recurse", Limits: Limits{Stack: asked}})
		wantFault(t, err, fault.Limit, "stack_limit", named)
	}
}

// A slot whose calls have long needed no further page is not looked through: a call that then writes somewhere else must not be missed.
func TestPagesOfSettledSlots(t *testing.T) {
	t.Parallel()
	m := load(t, strict(t, Config{}), testdata.Wasm("hostile"))
	settled := 0
	for size := 2; size < 380; size += 14 { // each writes to another place; none traps or grows
		for i := range 6 {
			if _, err := m.Call(t.Context(), &Call{Function: "keep", Input: BytesInput(make([]byte, size))}); err != nil {
				t.Fatalf("call %d with %d bytes: %v", i, size, err)
			}
		}
		m.entry.slots.mu.Lock()
		if m.entry.slots.idle[0].memory.region.settled() {
			settled++
		}
		m.entry.slots.mu.Unlock()
	}
	if newMapped(wasmPage) != nil && settled == 0 {
		t.Error("no slot has settled")
	}
}

func TestWhatCannotBeCapturedGetsFreshInstances(t *testing.T) {
	t.Parallel()
	m := load(t, newHost(t, Config{}), testdata.Wasm("tables"))
	if why := m.Info().Fresh; !strings.Contains(why, "table.grow") && !strings.Contains(why, "table.set") {
		t.Errorf("it says %q", why)
	}
	for range 10 {
		if _, err := m.Call(t.Context(), &Call{Function: "keep"}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFreshOnRequest(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{})
	m := load(t, h, testdata.Wasm("hostile"))
	var fuel uint64
	for i := range 4 {
		stats, err := m.Call(t.Context(), &Call{Function: "keep", Input: BytesInput([]byte("x")), Fresh: i%2 == 0})
		if err != nil {
			t.Fatal(err)
		}
		if fuel == 0 {
			fuel = stats.Fuel
		}
		if stats.Fuel != fuel || fuel == 0 {
			t.Errorf("call %d used %d units of fuel, the first %d", i, stats.Fuel, fuel)
		}
	}
}

// section makes one section of a module for module.
func vector(items int, item string) string {
	return string(binary.AppendUvarint(nil, uint64(items))) + strings.Repeat(item, items)
}

func TestModulesThatAreALot(t *testing.T) {
	t.Parallel()
	const types, one, export = "\x01\x01\x60\x00\x01\x7f", "\x03\x01\x00", "\x07\x01\x03run\x00\x00"
	code := func(body string) string {
		return "\x0a\x01" + string(binary.AppendUvarint(nil, uint64(len(body)))) + body
	}
	const depth = 20_000
	deep := "\x00" + strings.Repeat("\x02\x40", depth) + strings.Repeat("\x0b", depth) + "\x41\x00\x0b"
	large := "\x00" + strings.Repeat("\x41\x00\x1a", 1_000_000) + "\x41\x00\x0b"
	for name, wasm := range map[string][]byte{
		"10,000 globals": module(types, one, "\x06"+vector(10_000, "\x7f\x01\x41\x07\x0b"), export, code("\x00\x41\x00\x0b")),
		"deep nesting":   module(types, one, export, code(deep)),
		"a long body":    module(types, one, export, code(large)),
		"nested loops":   module(types, one, export, code("\x00"+strings.Repeat("\x03\x40", 500)+strings.Repeat("\x0b", 500)+"\x41\x00\x0b")),
		"50 MB": module(types, one, "\x05\x01\x00\x01", export, code("\x00\x41\x00\x0b"),
			"\x0b\x01\x01"+vector(50<<20, "x")),
	} {
		t.Run(name, func(t *testing.T) {
			m := load(t, strict(t, Config{}), wasm)
			for range 3 {
				if _, err := m.Call(t.Context(), &Call{Function: "run"}); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestConcurrencyLimit(t *testing.T) {
	t.Parallel()
	m := load(t, newHost(t, Config{}), testdata.Wasm("echo"))
	inside, leave := make(chan struct{}), make(chan struct{})
	limits := Limits{Concurrency: 1}
	var first error
	var wg sync.WaitGroup
	wg.Go(func() {
		_, first = m.Call(t.Context(), &Call{Function: "echo", Limits: limits, Input: BytesInput([]byte("x")), Output: writerFunc(func(b []byte) (int, error) {
			close(inside)
			<-leave
			return len(b), nil
		})})
	})
	<-inside
	_, err := m.Call(t.Context(), &Call{Function: "echo", Limits: limits})
	wantFault(t, err, fault.Exhausted, "concurrency_limit", "1 times")
	if _, err := m.Call(t.Context(), &Call{Function: "echo", Limits: limits, Context: Context{Service: "another"}}); err != nil {
		t.Error(err)
	}
	close(leave)
	wg.Wait()
	if first != nil {
		t.Error(first)
	}
	if _, err := m.Call(t.Context(), &Call{Function: "echo", Limits: limits}); err != nil {
		t.Error(err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }

// With a budget for a few guests only, more of them wait, and idle slots of others make room.
func TestMemoryBudget(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{GuestMemory: 4 << 20})
	hostile, echo := load(t, h, testdata.Wasm("hostile")), load(t, h, testdata.Wasm("echo"))
	var wg sync.WaitGroup
	for range 50 {
		for _, m := range []*Module{hostile, echo} {
			function := m.Info().Functions[0].Name
			if m == hostile {
				function = "grown"
			}
			wg.Go(func() {
				for range 20 {
					if _, err := m.Call(t.Context(), &Call{Function: function}); err != nil && fault.Reason(err) != "node_memory" {
						t.Error(err)
					}
					if used := h.Counters().Memory; used > 4<<20 {
						t.Errorf("guests are charged with %d bytes", used)
					}
				}
			})
		}
	}
	wg.Wait()
	_, err := hostile.Call(t.Context(), &Call{Function: "membomb"})
	f := wantFault(t, err, fault.Limit, "node_memory", "get 4194304")
	if f.Help == "" {
		t.Error("no help")
	}
	hostile.Release()
	echo.Release()
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := h.budget.used.Load(); left != 0 {
		t.Errorf("%d bytes are still charged after the end", left)
	}
}
