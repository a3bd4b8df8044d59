package sdkguest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/internal/fault"
)

func TestRustCrate(t *testing.T) {
	t.Parallel()
	needs(t, "cargo", "rustc")
	dir := t.TempDir()
	if err := languageNamed("rust").copySDK("rust", dir, "x"); err != nil {
		t.Fatal(err)
	}
	in(t, dir, "cargo", "test", "--offline", "--quiet")
}

func TestNewRustProject(t *testing.T) {
	t.Parallel()
	needs(t, "cargo", "rustc")
	dir := filepath.Join(t.TempDir(), "first-greeter")
	if err := NewProject(dir, "first-greeter", "rust"); err != nil {
		t.Fatal(err)
	}
	in(t, dir, "cargo", "test", "--offline", "--locked", "--quiet")
	out := filepath.Join(t.TempDir(), "greeter.wasm")
	if err := Build(t.Context(), dir, out); fault.KindOf(err) == fault.Precondition {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(b), "\x00asm") || len(b) > 200<<10 {
		t.Errorf("%d bytes, %.8q, %v", len(b), b, err)
	}
	if err := write(filepath.Join(dir, "src", "lib.rs"), []byte("fn broken() { undefined() }\n")); err != nil {
		t.Fatal(err)
	}
	err := Build(t.Context(), dir, out)
	if f := fault.As(err); f == nil || f.Reason != "build_failed" || !strings.Contains(f.Message, "src/lib.rs:1:15") || !strings.Contains(f.Message, "cannot find function `undefined`") {
		t.Errorf("got %v", err)
	}
}

// A Rust with the target is found behind one without, and what is missing is named.
func TestFindRust(t *testing.T) {
	t.Parallel()
	tool := func(path, says string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho "+says+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	first, second := t.TempDir(), t.TempDir()
	folders := []string{first, second}
	check := func(reason string) {
		t.Helper()
		_, _, err := findRust(t.Context(), ".", folders)
		if f := fault.As(err); f == nil || f.Reason != reason || !strings.Contains(f.Help, "rustup target add "+rustTarget) || !strings.Contains(f.Help, "libstd-rust-dev-wasm32") {
			t.Errorf("got %v, want %s", err, reason)
		}
	}
	check("no_rust")
	tool(filepath.Join(first, "rustc"), first)
	tool(filepath.Join(first, "cargo"), "")
	check("no_rust_target")
	tool(filepath.Join(second, "rustc"), second)
	if err := os.MkdirAll(filepath.Join(second, "lib", "rustlib", rustTarget, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	check("no_cargo")
	tool(filepath.Join(second, "cargo"), "")
	if cargo, rustc, err := findRust(t.Context(), ".", folders); cargo != filepath.Join(second, "cargo") || rustc != filepath.Join(second, "rustc") || err != nil {
		t.Errorf("%s, %s, %v", cargo, rustc, err)
	}
}
