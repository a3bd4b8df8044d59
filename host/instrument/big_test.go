package instrument_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/wattlehq/wattle/host/instrument"
)

func TestBig(t *testing.T) {
	for name, code := range map[string][]byte{"calls": repeat(4_000_000, 0x10, 1), "br_if": repeat(2_000_000, 0x41, 0, 0x0d, 0), "nop": repeat(8_000_000, 1), "drop": repeat(2_700_000, 0x41, 0, 0x1a)} {
		p := module(function{code: code}, function{code: []byte{0x10, 0}})
		wasm := p.wasm()
		var a, b runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&a)
		t0 := time.Now()
		m, err := instrument.Rewrite(wasm, instrument.Options{})
		d := time.Since(t0)
		runtime.ReadMemStats(&b)
		t.Log(name, len(wasm), len(m.Wasm), d, (b.TotalAlloc-a.TotalAlloc)>>20, "MiB", (b.HeapSys-a.HeapSys)>>20, err)
		if name == "br_if" || name == "nop" || testing.Short() {
			continue
		}
		rt := wazero.NewRuntime(t.Context())
		runtime.GC()
		runtime.ReadMemStats(&a)
		t0 = time.Now()
		_, err = rt.CompileModule(t.Context(), wasm)
		runtime.ReadMemStats(&b)
		t.Log("  plain compile", time.Since(t0), (b.TotalAlloc-a.TotalAlloc)>>20, "MiB", err)
		rt.Close(t.Context())
	}
}
