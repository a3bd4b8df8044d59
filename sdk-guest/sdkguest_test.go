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

func TestNewProjectRefuses(t *testing.T) {
	t.Parallel()
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "notes"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dir, name, lang, reason string }{
		{full, "hello", "go", "dir_not_empty"},
		{t.TempDir(), "Hello World", "go", "bad_name"},
		{t.TempDir(), "", "go", "bad_name"},
		{t.TempDir(), "../up", "go", "bad_name"},
		{t.TempDir(), "fmt", "go", "bad_name"},
		{t.TempDir(), "main", "go", "bad_name"},
		{t.TempDir(), "hello", "cobol", "unknown_language"},
	} {
		err := NewProject(c.dir, c.name, c.lang)
		if fault.Reason(err) != c.reason || fault.As(err).Help == "" {
			t.Errorf("%+v: got %v", c, err)
		}
	}
	if b, err := os.ReadFile(filepath.Join(full, "notes")); err != nil || string(b) != "mine" {
		t.Error("the folder was touched")
	}
	file := filepath.Join(full, "notes")
	if err := NewProject(file, "hello", "go"); err == nil {
		t.Error("a file was taken for a folder")
	}
}

// offline is what a machine without network and without this repository has.
func offline(cmd *exec.Cmd) *exec.Cmd {
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "GOWORK=off")
	return cmd
}

func TestNewProjectWorksOffline(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "greeter")
	if err := NewProject(dir, "greeter", ""); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := offline(exec.CommandContext(t.Context(), "go", args...))
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	for _, name := range []string{".gitignore", "README.md", "go.mod"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || strings.Contains(string(b), "{{") {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
	out := filepath.Join(t.TempDir(), "greeter.wasm")
	if err := BuildGo(t.Context(), dir, out); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(out); err != nil || !strings.HasPrefix(string(b), "\x00asm") {
		t.Errorf("%.8q, %v", b, err)
	}
	main := filepath.Join(dir, "main.go")
	if err := os.WriteFile(main, []byte("package main\nfunc main() { undefined() }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := BuildGo(t.Context(), dir, out)
	if f := fault.As(err); f == nil || f.Reason != "build_failed" || !strings.Contains(f.Message, "main.go:2:15: undefined: undefined") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := BuildGo(ctx, dir, out); err == nil {
		t.Error("a canceled build succeeds")
	}
}

func TestBuildWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := BuildGo(t.Context(), ".", "x.wasm")
	if fault.Reason(err) != "no_go" || !strings.Contains(fault.As(err).Help, "go.dev/dl") {
		t.Errorf("got %v", err)
	}
}
