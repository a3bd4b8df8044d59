package sdkguest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/internal/fault"
)

// The tests of what is built run in scripts/sdks.sh: they need packages from npm.
func TestBuildAssemblyScriptWithoutTools(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "greeter")
	if err := NewProject(dir, "greeter", "as"); err != nil {
		t.Fatal(err)
	}
	tools := t.TempDir()
	t.Setenv("PATH", tools)
	check := func(reason, help string) {
		t.Helper()
		f := fault.As(Build(t.Context(), dir, filepath.Join(dir, "x.wasm")))
		if f == nil || f.Reason != reason || !strings.Contains(f.Help, help) {
			t.Errorf("got %+v", f)
		}
	}
	check("no_node", "apt-get install nodejs npm")
	// It stands in for node: it shows what it is run with.
	if err := os.WriteFile(filepath.Join(tools, "node"), []byte("#!/bin/sh\necho \"$@\"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	check("no_asc", "npm install in "+dir)
	// Packages may lie further up, as they do in a workspace.
	script := filepath.Join(filepath.Dir(dir), "node_modules", "assemblyscript", "bin", "asc.js")
	if err := write(script, nil); err != nil {
		t.Fatal(err)
	}
	f := fault.As(Build(t.Context(), dir, filepath.Join(dir, "out", "x.wasm")))
	if want := "--enable-source-maps " + script + " --target release --outFile out/x.wasm"; f == nil || f.Reason != "build_failed" || f.Message != want {
		t.Errorf("got %v, want %s", f, want)
	}
}
