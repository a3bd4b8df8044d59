package instrument_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wattlehq/wattle/host/instrument"
	"github.com/wattlehq/wattle/internal/plugintest"
)

// Real modules of several compilers go through, and the engine takes what comes out.
func TestRealModules(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds and compiles large modules")
	}
	rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter())
	defer rt.Close(t.Context())
	try := func(name string, wasm []byte) {
		m, err := instrument.Rewrite(wasm, instrument.Options{})
		if err == nil {
			err = instrument.Verify(m)
		}
		if err == nil {
			var c wazero.CompiledModule
			if c, err = rt.CompileModule(t.Context(), m.Wasm); err == nil {
				err = c.Close(t.Context())
			}
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(m.Uncapturable) > 0 || len(m.Wasm) > len(wasm)+len(wasm)/4+1000 {
			t.Errorf("%s: %d bytes have become %d; %q", name, len(wasm), len(m.Wasm), m.Uncapturable)
		}
	}
	plugins, err := filepath.Glob("../../plugins/*/main.go")
	if err != nil || len(plugins) == 0 {
		t.Fatalf("no plugins: %v", err)
	}
	for _, dir := range plugins {
		try(dir, plugintest.Build(t, filepath.Base(filepath.Dir(dir))))
	}
	out, err := exec.Command("go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	// Extism's own tests: C, Rust, Zig, Go, Haskell. They are there where someone has downloaded them.
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "github.com/extism/go-sdk@v1.7.1/wasm/*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		wasm, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		try(filepath.Base(file), wasm)
	}
	t.Logf("%d plugins, %d modules of Extism", len(plugins), len(files))
}
