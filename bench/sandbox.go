package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/host/instrument"
	"github.com/wattlehq/wattle/internal/digest"
)

var sandboxBench = Bench{
	Name: "sandbox",
	About: "Calls of functions that begin with a clean state, within limits of memory, fuel, time and output, in four languages: nothing, an echo of 1 KiB, and the SHA-256 of 1 KiB. " +
		"Beside them, in turn: wazero calling one instance again and again, with nothing limited and whatever calls leave in it; wazero making an instance for each call; V8 doing both, through Node.js; " +
		"and Extism's Go host with its own plugins, as one that is used again (keeping its state) and as one made for each call. " +
		"Then what metering costs: pure computation, instrumented, beside the same on plain wazero and with its own way to stop guests, WithCloseOnContextDone. Nothing is durable on this path.",
	Run: runSandbox,
}

var callMetrics = [][2]string{{"time", "us"}}

// timed calls fn for a while and answers the mean.
func timed(fn func() error) (sample, error) {
	if err := fn(); err != nil {
		return nil, err
	}
	n, start := 0, time.Now()
	for step := 1; time.Since(start) < 150*time.Millisecond; step = min(2*step, 1000) {
		for range step {
			if err := fn(); err != nil {
				return nil, err
			}
		}
		n += step
	}
	return sample{"time": time.Since(start).Seconds() * 1e6 / float64(n)}, nil
}

// both calls two functions at once for a while, and answers the mean of the time from one call's end to the next.
func both(fns [2]func() error) (float64, error) {
	var n [2]int
	var failed [2]error
	start := time.Now()
	var wg sync.WaitGroup
	for i, fn := range fns {
		wg.Go(func() {
			for time.Since(start) < 300*time.Millisecond {
				for range 50 {
					if failed[i] = fn(); failed[i] != nil {
						return
					}
				}
				n[i] += 50
			}
		})
	}
	wg.Wait()
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds() * 1e6 / float64(n[0]+n[1]), nil
}

type sandbox struct {
	rounds int
	host   *host.Host
	rows   []Row
}

func runSandbox(ctx context.Context, rounds int) ([]Row, error) {
	h, err := host.New(ctx, host.Config{})
	if err != nil {
		return nil, err
	}
	defer h.Close(ctx)
	s := &sandbox{rounds: rounds, host: h}
	guests := map[string][]byte{}
	for _, lang := range guestLanguages {
		if guests[lang], err = buildGuest(ctx, lang); err != nil {
			fmt.Fprintf(os.Stderr, "left out: %s: %v\n", lang, err)
			delete(guests, lang)
		}
	}
	for _, lang := range guestLanguages {
		if wasm := guests[lang]; wasm != nil {
			if err := s.calls(ctx, lang, wasm); err != nil {
				return nil, fmt.Errorf("%s: %w", lang, err)
			}
		}
	}
	if err := s.extism(ctx); err != nil {
		return nil, fmt.Errorf("extism: %w", err)
	}
	for _, lang := range guestLanguages {
		if wasm := guests[lang]; wasm != nil {
			if err := s.metering(ctx, lang, wasm); err != nil {
				return nil, fmt.Errorf("metering of %s: %w", lang, err)
			}
		}
	}
	return append(s.rows, means(s.rows)...), nil
}

// side makes a side of a comparison of something to time.
func side(fn func() error) func(context.Context) (sample, error) {
	return func(context.Context) (sample, error) { return timed(fn) }
}

func (s *sandbox) compare(ctx context.Context, name, beside string, ours, theirs func(context.Context) (sample, error)) error {
	rows, err := compare(ctx, "sandbox", name, beside, s.rounds, callMetrics, ours, theirs)
	s.rows = append(s.rows, rows...)
	return err
}

func (s *sandbox) load(ctx context.Context, wasm []byte) (*host.Module, error) {
	return s.host.Load(ctx, digest.Of(wasm), func() ([]byte, error) { return wasm, nil })
}

func (s *sandbox) calls(ctx context.Context, lang string, wasm []byte) error {
	m, err := s.load(ctx, wasm)
	if err != nil {
		return err
	}
	defer m.Release()
	p, err := newPlain(ctx, wasm, wazero.NewRuntimeConfig())
	if err != nil {
		return err
	}
	defer p.close(ctx)
	for _, c := range []struct {
		name, function string
		in             []byte
	}{{"nothing", "noop", nil}, {"echo of 1 KiB", "echo", make([]byte, 1024)}, {"SHA-256 of 1 KiB", "hash", make([]byte, 1024)}} {
		name := lang + ", " + c.name
		what := &host.Call{Function: c.function, Input: host.BytesInput(c.in), Output: io.Discard}
		call := func() error {
			_, err := m.Call(ctx, what)
			return err
		}
		warm, err := p.warm(ctx, c.function, c.in)
		if err != nil {
			return err
		}
		if err := s.compare(ctx, name, "wazero, warm and dirty", side(call), side(warm)); err != nil {
			return err
		}
		if err := s.compare(ctx, name, "wazero, fresh instance", side(call), side(func() error { return p.fresh(ctx, c.function, c.in) })); err != nil {
			return err
		}
		if err := s.v8(ctx, name, wasm, c.function, len(c.in), call); err != nil {
			return err
		}
		other, err := p.warm(ctx, c.function, c.in)
		if err != nil {
			return err
		}
		if err := s.scaling(ctx, name, [2]func() error{call, call}, [2]func() error{warm, other}); err != nil {
			return err
		}
	}
	return nil
}

// scaling is how many times as many calls two goroutines make as one.
func (s *sandbox) scaling(ctx context.Context, name string, ours, theirs [2]func() error) error {
	scaled := func(fns [2]func() error) func(context.Context) (sample, error) {
		return func(context.Context) (sample, error) {
			one, err := timed(fns[0])
			if err != nil {
				return nil, err
			}
			two, err := both(fns)
			return sample{"scaling": one["time"] / two}, err
		}
	}
	rows, err := compare(ctx, "sandbox", name+", two goroutines", "wazero, warm and dirty", s.rounds, [][2]string{{"scaling", "x"}}, scaled(ours), scaled(theirs))
	s.rows = append(s.rows, rows...)
	return err
}

// v8 has Node.js time the same module; its times are those of one run of node.
func (s *sandbox) v8(ctx context.Context, name string, wasm []byte, function string, size int, call func() error) error {
	node, err := exec.LookPath("node")
	if err != nil {
		fmt.Fprintln(os.Stderr, "left out: V8: there is no node on the PATH")
		return nil
	}
	dir, err := os.MkdirTemp("", "wattle-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	script, err := guestSource.ReadFile("guests/v8.mjs")
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "guest.wasm")
	if err := os.WriteFile(file, wasm, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "v8.mjs"), script, 0o600); err != nil {
		return err
	}
	for _, how := range []string{"warm", "fresh"} {
		theirs := func(ctx context.Context) (sample, error) {
			cmd := exec.CommandContext(ctx, node, "--no-warnings", filepath.Join(dir, "v8.mjs"), file, function, fmt.Sprint(size), how)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return nil, err
			}
			us := 0.0
			_, err = fmt.Sscan(string(out), &us)
			return sample{"time": us}, err
		}
		beside := map[string]string{"warm": "V8, warm and dirty", "fresh": "V8, fresh instance"}[how]
		if err := s.compare(ctx, name, beside, side(call), theirs); err != nil {
			return err
		}
	}
	return nil
}

const meteringCase = "metered, "

func (s *sandbox) metering(ctx context.Context, lang string, wasm []byte) error {
	metered, err := instrument.Rewrite(wasm, instrument.Options{})
	if err != nil {
		return err
	}
	var engines []*plain
	for _, e := range []struct {
		wasm   []byte
		config wazero.RuntimeConfig
	}{
		{metered.Wasm, wazero.NewRuntimeConfig()}, {wasm, wazero.NewRuntimeConfig()}, {wasm, wazero.NewRuntimeConfig().WithCloseOnContextDone(true)},
	} {
		p, err := newPlain(ctx, e.wasm, e.config)
		if err != nil {
			return err
		}
		defer p.close(ctx)
		engines = append(engines, p)
	}
	for _, c := range []struct {
		name, function string
		n              uint64
	}{{"fib(24)", "fib", 24}, {"SHA-256 of 64 KiB", "sha", 1 << 16}, {"product of 96 x 96", "matmul", 96}} {
		var sides []func(context.Context) (sample, error)
		for _, e := range engines {
			fn, err := e.computes(ctx, c.function, c.n)
			if err != nil {
				return err
			}
			sides = append(sides, side(fn))
		}
		name := meteringCase + lang + ", " + c.name
		if err := s.compare(ctx, name, "wazero", sides[0], sides[1]); err != nil {
			return err
		}
		if err := s.compare(ctx, name, "wazero, close on context done", sides[0], sides[2]); err != nil {
			return err
		}
	}
	return nil
}

// means sums up the ratios of what metering costs, and how much faster than a fresh instance calls are.
func means(rows []Row) (out []Row) {
	for _, m := range []struct{ name, prefix, beside string }{
		{"metered, all: geometric mean", meteringCase, "wazero"},
		{"metered, all: geometric mean", meteringCase, "wazero, close on context done"},
	} {
		sum, n, worst := 0.0, 0, 0.0
		for _, r := range rows {
			if strings.HasPrefix(r.Case, m.prefix) && r.Beside == m.beside {
				sum += math.Log(r.Ratio)
				worst = max(worst, r.Ratio)
				n++
			}
		}
		if n > 0 {
			out = append(out,
				Row{Bench: "sandbox", Case: m.name, Metric: "time", Unit: "x", Wattle: math.Exp(sum / float64(n)), Beside: m.beside, Other: 1, Ratio: math.Exp(sum / float64(n))},
				Row{Bench: "sandbox", Case: "metered, all: worst", Metric: "time", Unit: "x", Wattle: worst, Beside: m.beside, Other: 1, Ratio: worst})
		}
	}
	return out
}
