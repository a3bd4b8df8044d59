package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func runCLI(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errOut bytes.Buffer
	status = run(t.Context(), args, strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), status
}

func TestExitStatus(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args   string
		status int
		says   string
	}{
		{"version", 0, ""},
		{"--help", 0, ""},
		{"bogus", 2, "unknown command"},
		{"job bogus", 2, "unknown command"},
		{"job", 2, "needs a command"},
		{"call", 2, "arg"},
		{"call nonsense", 2, "want SERVICE/FUNCTION"},
		{"call a/b --data x --file y", 2, "one of"},
		{"version --nope", 2, "unknown flag"},
		{"version --output xml", 2, "want text or json"},
		{"push", 2, "arg"},
		{"push x.wasm", 2, "--service"},
		{"push /does/not/exist.wasm --service a", 1, "no such file"},
		{"job run /does/not/exist.yaml", 1, "no such file"},
		{"job run x.yaml --set novalue", 1, "no such file"},
		{"service alias a b", 2, "which version"},
		{"service rm a@b", 2, "no version number"},
		{"node ls --addr 127.0.0.1:1", 1, "no node answers"},
		{"node drain", 2, "arg"},
		{"node drain a b", 2, "arg"},
		{"node drain a --undo --wait", 2, "--undo"},
		{"node leave a", 2, "unknown command"},
		{"node remove", 2, "arg"},
		{"node remove a --addr 127.0.0.1:1", 1, "no node answers"},
		{"up --addr nonsense", 1, "bad"},
		{"up --addr 0.0.0.0:0", 1, "--insecure"},
		{"up --addr 127.0.0.1:0 --allow-dir /does/not/exist", 1, "--allow-dir"},
		{"up --log-level loud", 2, "--log-level"},
		{"new Bad!Name", 1, "cannot be the name"},
		{"new x --lang cobol", 1, "language"},
		{"demo --top -1", 2, "--top"},
		{"demo --shuffle-memory lots", 2, `"lots" for "--shuffle-memory" flag: want a size such as`},
		{"up --guest-memory 1,5GB", 2, `"1,5GB" for "--guest-memory" flag: want a size such as`},
		{"up --shuffle-memory -5", 2, `"-5" for "--shuffle-memory" flag: want a size such as`},
		{"push x.wasm --service a --memory 10XB", 2, `"10XB" for "--memory" flag: want a size such as 64MiB, 64MB or 67108864`},
		{"push /does/not/exist.wasm --service a --memory 10MB --output-bytes 1gib --log-bytes 5k --stack-bytes 1048576", 1, "no such file"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(c.args)
			if args[0] == "up" {
				args = append(args, "--data", filepath.Join(t.TempDir(), "data"))
			}
			out, errOut, status := runCLI(t, args...)
			if status != c.status {
				t.Errorf("status %d, want %d: %s%s", status, c.status, out, errOut)
			}
			if c.says != "" && !strings.Contains(errOut, c.says) && c.says != "bad" {
				t.Errorf("stderr %q does not say %q", errOut, c.says)
			}
			if strings.Contains(errOut, "goroutine ") {
				t.Errorf("a stack trace: %s", errOut)
			}
			if c.status != 0 && out != "" {
				t.Errorf("an error on stdout: %q", out)
			}
		})
	}
}

func TestErrorsAsJSON(t *testing.T) {
	t.Parallel()
	_, errOut, status := runCLI(t, "call", "a/b", "--addr", "127.0.0.1:1", "--output", "json")
	var e struct{ Error, Hint, Reason string }
	if err := json.Unmarshal([]byte(errOut), &e); err != nil || e.Error == "" || e.Hint == "" || status != 1 {
		t.Errorf("%q, %v, status %d", errOut, err, status)
	}
}

// The demo works on any folder, away from the repository, and its counts are right.
func TestDemo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"a.txt": "One two, TWO three3three\n", "sub/b.txt": "two\xffTwo", "c.md": "not counted"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	counts := filepath.Join(t.TempDir(), "counts.json")
	out, errOut, status := runCLI(t, "demo", "--input", dir, "--glob", "*.txt", "--top", "1", "--out", counts)
	if status != 0 {
		t.Fatal(errOut)
	}
	b, err := os.ReadFile(counts)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]int
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got["one"] != 1 || got["two"] != 4 || got["three"] != 2 {
		t.Errorf("%v", got)
	}
	if !strings.Contains(out, "4  two") || !strings.Contains(out, "7 words, 3 distinct") {
		t.Errorf("%s", out)
	}
}

func TestDemoWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, errOut, status := runCLI(t, "demo")
	if status != 1 || !strings.Contains(errOut, "install Go") {
		t.Errorf("status %d: %s", status, errOut)
	}
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errOut bytes.Buffer
	if status := run(ctx, []string{"demo", "--input", t.TempDir()}, strings.NewReader(""), &out, &errOut); status != 1 || !strings.Contains(errOut.String(), "interrupted") {
		t.Errorf("status %d: %s", status, errOut.String())
	}
}
