package instrument_test

import (
	"context"
	"errors"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/host/instrument"
	"github.com/wattlehq/wattle/testdata"
)

var errStopped = errors.New("out of fuel")

// meter is the host's side of the hooks. It hands out slices of a fixed size and remembers how many.
type meter struct {
	slice   int64
	granted int64
	longest int64 // the most that was overdrawn
	refills int
	refused []uint32
	seen    func(api.Module)
	most    int64 // stops the guest beyond; 0: never
}

func (m *meter) offer(t testing.TB, ctx context.Context, rt wazero.Runtime) {
	t.Helper()
	_, err := rt.NewHostModuleBuilder(instrument.HookModule).
		NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(_ context.Context, mod api.Module, _ []uint64) {
		if m.grant(mod); m.most > 0 && m.granted > m.most {
			panic(errStopped)
		}
		m.refills++
	}), nil, nil).Export("slice").
		NewFunctionBuilder().WithFunc(func(delta uint32) { m.refused = append(m.refused, delta) }).Export("table_refused").
		Instantiate(ctx)
	if err != nil {
		t.Fatal(err)
	}
}

// grant refills the fuel. A slice of 0 makes it zero, so that every check calls the host.
func (m *meter) grant(mod api.Module) {
	g := mod.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal)
	fuel := int64(g.Get())
	if m.seen != nil {
		m.seen(mod)
	}
	m.longest = max(m.longest, -fuel)
	add := -fuel
	if m.slice > 0 {
		add = (-fuel + m.slice - 1) / m.slice * m.slice
	}
	m.granted += add
	g.Set(uint64(fuel + add))
}

func (m *meter) used(mod api.Module) int64 {
	return m.granted - int64(mod.ExportedGlobal(instrument.FuelExport).Get())
}

// Every guest there is goes through the rewriter and is accepted by the engine.
func TestFixtures(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, name := range testdata.Names() {
		rt := wazero.NewRuntime(ctx)
		defer rt.Close(ctx)
		wasm := testdata.Wasm(name)
		_, plain := rt.CompileModule(ctx, wasm)
		m, err := instrument.Rewrite(wasm, instrument.Options{})
		if err != nil {
			t.Errorf("%s: %v (plain: %v)", name, err, plain)
			continue
		}
		_, err = rt.CompileModule(ctx, m.Wasm)
		if (plain == nil) != (err == nil) {
			t.Errorf("%s: %v (plain: %v)", name, err, plain)
		}
	}
}

// A guest without end is stopped by its slices, whether it loops or recurses.
func TestStops(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, name := range []string{"spin", "recurse"} {
		rt := wazero.NewRuntime(ctx)
		defer rt.Close(ctx)
		m, err := instrument.Rewrite(testdata.Wasm(name), instrument.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f := &meter{slice: 1000, most: 1 << 20}
		f.offer(t, ctx, rt)
		mod, err := rt.Instantiate(ctx, m.Wasm)
		if err != nil {
			t.Fatal(err)
		}
		for name := range mod.ExportedFunctionDefinitions() {
			if _, err := mod.ExportedFunction(name).Call(ctx); !errors.Is(err, errStopped) {
				t.Errorf("%s ended with %v", name, err)
			}
		}
	}
}
