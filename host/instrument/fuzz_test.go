package instrument_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/host/instrument"
)

// FuzzSame makes modules and compares how they run with how they run rewritten: results, traps, memory, globals and
// calls of the host, in slices of several sizes, and the fuel these take.
func FuzzSame(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomBytes(seed))
	}
	w := newWorld(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) < 1<<12 {
			w.compare(t, choices)
		}
	})
}

// TestSame does the same with some modules, always.
func TestSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := uint64(400)
	if testing.Short() {
		n = 40
	}
	for seed := range n {
		w.compare(t, randomBytes(seed))
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func randomBytes(seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 50+r.IntN(1500))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// world has engines with the host's functions. What throws exceptions is interpreted: where a call stack grew since an
// exception's handler was set up, the compiler of wazero 1.12 puts back a frame of the old stack, and hangs or worse.
// The host does not switch exceptions on.
type world struct {
	compiled, interpreted wazero.Runtime
}

// seen is what a host gets to see of one run.
type seen struct {
	events  []string
	fuel    int64
	longest int64 // between two chances to stop it
}

type run struct {
	*seen
	slice   int64
	granted int64
	last    int64
}

type runKey struct{}

func newWorld(t testing.TB) *world {
	t.Helper()
	return &world{compiled: engine(t, wazero.NewRuntimeConfigCompiler()), interpreted: engine(t, wazero.NewRuntimeConfigInterpreter())}
}

func engine(t testing.TB, config wazero.RuntimeConfig) wazero.Runtime {
	t.Helper()
	ctx := context.Background()
	rt := wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(allFeatures))
	t.Cleanup(func() { _ = rt.Close(ctx) })
	_, err := rt.NewHostModuleBuilder("env").
		NewFunctionBuilder().WithFunc(func(ctx context.Context, a int32, b int64) int32 {
		note(ctx, "a(%d, %d)", a, b)
		return a ^ int32(b)
	}).Export("a").
		NewFunctionBuilder().WithFunc(func(ctx context.Context, a float64, b float32) { note(ctx, "b(%v, %v)", a, b) }).Export("b").
		Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = rt.NewHostModuleBuilder(instrument.HookModule).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, _ []uint64) {
		ctx.Value(runKey{}).(*run).grant(mod)
	}), nil, nil).Export("slice").
		NewFunctionBuilder().WithFunc(func(uint32) {}).Export("table_refused").
		Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

func note(ctx context.Context, format string, args ...any) {
	r := ctx.Value(runKey{}).(*run)
	r.events = append(r.events, fmt.Sprintf(format, args...))
}

// grant refills the fuel. A slice of 0 makes it zero, so that every check calls the host.
func (r *run) grant(mod api.Module) {
	g := mod.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal)
	fuel := int64(g.Get())
	r.longest = max(r.longest, r.last-fuel)
	add := r.slice
	if r.slice == 0 {
		add = -fuel
	} else if fuel < 0 {
		add += (-fuel - 1) / r.slice * r.slice
	}
	r.granted += add
	r.last = fuel + add
	g.Set(uint64(r.last))
}

func (w *world) compare(t *testing.T, choices []byte) {
	g := generate(choices)
	rewritten, err := instrument.Rewrite(g.wasm, instrument.Options{Features: instrument.Features(allFeatures)})
	if err != nil {
		t.Fatalf("a generated module is refused: %v", err)
	}
	verify(t, g.wasm, rewritten)
	rt := w.compiled
	if g.exceptions {
		rt = w.interpreted
	}
	plain := execute(t, rt, g.wasm, g.signatures, 0)
	var fuel int64
	for i, slice := range []int64{1 << 30, 0, 1, 1000} {
		got := execute(t, rt, rewritten.Wasm, g.signatures, slice)
		if a, b := strings.Join(plain.events, "\n"), strings.Join(got.events, "\n"); a != b {
			t.Fatalf("slices of %d: plain\n%s\nrewritten\n%s", slice, a, b)
		}
		if i == 0 {
			fuel = got.fuel
		} else if got.fuel != fuel {
			t.Fatalf("slices of %d: %d units of fuel instead of %d", slice, got.fuel, fuel)
		}
		if most := int64(3*instrument.Stretch + budget*instrument.AfterCall); slice == 0 && got.longest > most {
			t.Fatalf("%d units without a check", got.longest)
		}
	}
}

func verify(t *testing.T, wasm []byte, rewritten instrument.Module) {
	t.Helper()
	if err := instrument.Verify(rewritten); err != nil {
		t.Fatal(err)
	}
	if err := instrument.VerifyTight(wasm, instrument.Options{Features: instrument.Features(allFeatures)}); err != nil {
		t.Fatalf("with small numbers: %v", err)
	}
}

// TestThrowBeforeCheck calls a function again and again that an exception leads out of after long code without a check.
func TestThrowBeforeCheck(t *testing.T) {
	t.Parallel()
	for _, n := range []int{4, 12, 20, 30} {
		thrown := join([]byte{0x02, 0x40, 0x1f, 0x40, 1, 2, 0}, repeat(n, 0x41, 0, 0x1a), []byte{0x08, 0, 0x0b, 0x0b})
		wasm := module(function{code: thrown}, function{code: repeat(20, 0x10, 0)}).with(13, list([]byte{0, 0})).wasm()
		if err := instrument.VerifyTight(wasm, instrument.Options{Features: instrument.Features(allFeatures)}); err != nil {
			t.Errorf("%d instructions: %v", n, err)
		}
	}
}

// TestVerify looks at the code of many modules without running it.
func TestVerify(t *testing.T) {
	t.Parallel()
	n := uint64(2000)
	if testing.Short() {
		n = 500
	}
	for seed := range n {
		wasm := generate(randomBytes(seed)).wasm
		rewritten, err := instrument.Rewrite(wasm, instrument.Options{Features: instrument.Features(allFeatures)})
		if err != nil {
			t.Fatal(err)
		}
		verify(t, wasm, rewritten)
	}
}

// execute starts a module, calls all its functions and answers what was to be seen. Modules without fuel are not metered.
func execute(t *testing.T, rt wazero.Runtime, wasm []byte, signatures []signature, slice int64) *seen {
	s := &seen{}
	r := &run{seen: s, slice: slice}
	ctx := context.WithValue(t.Context(), runKey{}, r)
	mod, err := rt.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().WithName("").WithStartFunctions())
	if err == nil {
		defer mod.Close(ctx)
		if start := mod.ExportedFunction(instrument.StartExport); start != nil {
			_, err = start.Call(ctx)
		}
	}
	if err != nil {
		if !strings.Contains(err.Error(), "wasm error") {
			t.Fatalf("not valid: %v", err)
		}
		s.events = append(s.events, "start: "+trapOf(err))
		return s
	}
	defer func() {
		if g := mod.ExportedGlobal(instrument.FuelExport); g != nil {
			s.fuel = r.granted - int64(g.Get())
		}
	}()
	for i, sig := range signatures {
		for round := range uint64(2) {
			mod.ExportedGlobal("g0").(api.MutableGlobal).Set(budget)
			args := make([]uint64, len(sig.in))
			for j := range args {
				args[j] = round * uint64(i+j) * 0x9e3779b9
			}
			out, err := mod.ExportedFunction(fmt.Sprint("f", i)).Call(ctx, args...)
			s.events = append(s.events, fmt.Sprintf("f%d: %x %s", i, out, trapOf(err)), state(mod))
		}
	}
	return s
}

func trapOf(err error) string {
	if err == nil {
		return ""
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	if _, trap, ok := strings.Cut(text, "wasm error: "); ok {
		return trap
	}
	return errors.Unwrap(err).Error()
}

// state is all that a module's functions can change.
func state(mod api.Module) string {
	h := fnv.New64a()
	memory, _ := mod.Memory().Read(0, mod.Memory().Size())
	_, _ = h.Write(memory)
	text := fmt.Sprintf("memory %d %x", len(memory), h.Sum64())
	for i := 0; ; i++ {
		g := mod.ExportedGlobal(fmt.Sprint("g", i))
		if g == nil {
			return text
		}
		text += fmt.Sprintf(" %x", g.Get())
	}
}
