package instrument_test

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wattlehq/wattle/host/instrument"
)

// TestCost measures what metering costs on the guests in the folder GUESTS, made of bench/guests: run it alone, with -v.
func TestCost(t *testing.T) {
	dir := os.Getenv("GUESTS")
	if dir == "" {
		t.Skip("GUESTS names no folder with c.wasm and so on")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	logs, n := 0.0, 0
	for _, file := range files {
		wasm, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		m, err := instrument.Rewrite(wasm, instrument.Options{})
		if err != nil {
			t.Fatal(err)
		}
		plain, _ := instance(t, wasm)
		metered, fuel := instance(t, m.Wasm)
		for _, f := range []struct {
			name string
			arg  uint64
		}{{"fib", 30}, {"sha", 1 << 20}, {"matmul", 128}} {
			before := fuel.granted
			a, b, answers := compare(t, plain.ExportedFunction(f.name), metered.ExportedFunction(f.name), f.arg)
			if answers[0] != answers[1] {
				t.Errorf("%s %s: %x is not %x", file, f.name, answers[1], answers[0])
			}
			ratio := float64(b) / float64(a)
			logs, n = logs+math.Log(ratio), n+1
			name := strings.TrimSuffix(filepath.Base(file), ".wasm")
			t.Logf("%-6s %-7s plain %8v metered %8v ratio %.2f  %d units, %.2f ns each", name, f.name, a, b, ratio, (fuel.granted-before)/rounds,
				float64(b)*rounds/float64(fuel.granted-before))
		}
	}
	t.Logf("geometric mean %.3f", math.Exp(logs/float64(n)))
}

const rounds = 31

// compare calls both in turns and answers the medians.
func compare(t *testing.T, plain, metered api.Function, arg uint64) (a, b time.Duration, answers [2]uint64) {
	t.Helper()
	var took [2][]time.Duration
	for i := range rounds {
		for j, f := range []api.Function{plain, metered} {
			begin := time.Now()
			out, err := f.Call(t.Context(), arg)
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 {
				took[j] = append(took[j], time.Since(begin))
			}
			answers[j] = out[0]
		}
	}
	median := func(all []time.Duration) time.Duration {
		slices.SortFunc(all, cmp.Compare[time.Duration])
		return all[len(all)/2]
	}
	return median(took[0]), median(took[1]), answers
}

// instance starts a module with WASI and the hooks.
func instance(t *testing.T, wasm []byte) (api.Module, *meter) {
	t.Helper()
	ctx := t.Context()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithDebugInfoEnabled(false))
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, rt); err != nil {
		t.Fatal(err)
	}
	f := &meter{slice: 1 << 20}
	f.offer(t, ctx, rt)
	mod, err := rt.InstantiateWithConfig(ctx, wasm, wazero.NewModuleConfig().
		WithStartFunctions(instrument.StartExport, "_initialize"))
	if err != nil {
		t.Fatal(fmt.Errorf("instantiate: %w", err))
	}
	return mod, f
}
