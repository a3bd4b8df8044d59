package sdkguest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/internal/fault"
)

// needs skips a test where tools are missing that Go does not bring along. scripts/sdks.sh installs them all.
func needs(t *testing.T, tools ...string) {
	t.Helper()
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
}

// in runs a command in a project.
func in(t *testing.T, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// The header is tested natively, with every complaint of the compiler an error and what runs looked at.
func TestCHeader(t *testing.T) {
	t.Parallel()
	needs(t, "cc")
	dir := t.TempDir()
	if err := languageNamed("c").copySDK("c", dir, "x"); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join("testdata", "wattle_h_test.c"))
	if err != nil {
		t.Fatal(err)
	}
	if err := write(filepath.Join(dir, "test.c"), source); err != nil {
		t.Fatal(err)
	}
	in(t, dir, "cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", "test", "test.c")
	in(t, dir, "./test")
}

func TestNewCProject(t *testing.T) {
	t.Parallel()
	needs(t, "cc", "make", "clang")
	dir := filepath.Join(t.TempDir(), "greeter")
	if err := NewProject(dir, "greeter", "c"); err != nil {
		t.Fatal(err)
	}
	in(t, dir, "make", "test")
	out := filepath.Join(t.TempDir(), "greeter.wasm")
	if err := Build(t.Context(), dir, out); fault.Reason(err) == "no_wasi_libc" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(b), "\x00asm") || len(b) > 40<<10 {
		t.Errorf("%d bytes, %.8q, %v", len(b), b, err)
	}
	if err := write(filepath.Join(dir, "more.c"), []byte("int more(void) { return undefined; }\n")); err != nil {
		t.Fatal(err)
	}
	err := Build(t.Context(), dir, out)
	if f := fault.As(err); f == nil || f.Reason != "build_failed" || !strings.Contains(f.Message, "more.c:1:25: error: use of undeclared identifier 'undefined'") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Build(ctx, dir, out); err != context.Canceled {
		t.Errorf("a canceled build: %v", err)
	}
}

// A compiler that is there but cannot build for WebAssembly is told from a mistake in the project.
func TestBuildCWithoutTools(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "greeter")
	if err := NewProject(dir, "greeter", "c"); err != nil {
		t.Fatal(err)
	}
	tools := t.TempDir()
	t.Setenv("PATH", tools)
	t.Setenv("WASI_SDK_PATH", "")
	check := func(reason, message string) {
		t.Helper()
		f := fault.As(Build(t.Context(), dir, "x.wasm"))
		if f == nil || f.Reason != reason || !strings.Contains(f.Message, message) || !strings.Contains(f.Help, "apt-get install clang lld wasi-libc libclang-rt-dev-wasm32") {
			t.Errorf("got %+v", f)
		}
	}
	check("no_clang", "not on the PATH")
	clang := "#!/bin/sh\necho \"stdlib.h: file not found\" >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(tools, "clang"), []byte(clang), 0o700); err != nil {
		t.Fatal(err)
	}
	check("no_wasi_libc", "stdlib.h: file not found")
	t.Setenv("WASI_SDK_PATH", tools)
	check("no_clang", filepath.Join(tools, "bin", "clang"))
}

func TestNoProject(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Build(t.Context(), dir, "x.wasm"); fault.Reason(err) != "no_project" {
		t.Errorf("got %v", err)
	}
	if err := write(filepath.Join(dir, "only_test.c"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("clang"); err == nil {
		if err := Build(t.Context(), dir, "x.wasm"); fault.Reason(err) != "no_project" {
			t.Errorf("got %v", err)
		}
	}
	if err := Build(t.Context(), filepath.Join(dir, "nowhere"), "x.wasm"); fault.Reason(err) != "no_project" {
		t.Errorf("got %v", err)
	}
}
