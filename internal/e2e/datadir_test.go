package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// upFails starts "wattle up" where it must not work, and checks that it ends with status 1 and a message for people: what
// is wrong, where, and on a second line what to do.
func upFails(t *testing.T, cfg node.Config, want ...string) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, upArgs(cfg)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("wattle up: %v; %s %s", err, out.String(), errOut.String())
	}
	isMessage(t, errOut.String(), want...)
}

func isMessage(t *testing.T, text string, want ...string) {
	t.Helper()
	lines := slices.Collect(strings.Lines(text))
	// What is logged on the way stands on lines of its own.
	lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "time=") })
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "wattle: ") || strings.Contains(text, "goroutine") || strings.Contains(text, "stack trace") {
		t.Errorf("not a message for people: %q", text)
	}
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("%q does not say %q", text, w)
		}
	}
}

func TestWrongDataDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	with := func(name, format string) node.Config {
		d := filepath.Join(dir, name)
		if err := errors.Join(os.Mkdir(d, 0o755), os.WriteFile(filepath.Join(d, "FORMAT"), []byte(format), 0o644)); err != nil {
			t.Fatal(err)
		}
		return node.Config{Data: d}
	}
	n := asBinary(t, node.Config{Shards: 2})
	n.pushFixture("echo")
	upFails(t, node.Config{Data: n.data}, n.data, "in use", "--data")
	// The one that has it is none the worse for it.
	if got, err := n.Invoke(t.Context(), "echo/echo", []byte("x")); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	upFails(t, with("newer", "wattle data 99\n"), filepath.Join(dir, "newer"), "format 99", "run the release that wrote it")
	upFails(t, with("garbage", "\x00\x00\x00"), filepath.Join(dir, "garbage", "FORMAT"), "--data")
	upFails(t, with("empty", ""), filepath.Join(dir, "empty", "FORMAT"), "--data")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	upFails(t, node.Config{Data: file}, file, "not a directory", "--data")
	upFails(t, node.Config{Data: filepath.Join(file, "below")}, file, "not a directory", "--data")
}

func TestForbiddenDataDirectory(t *testing.T) {
	t.Parallel()
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	upFails(t, node.Config{Data: filepath.Join(dir, "data")}, dir, "--data")
}

// survivor is the data directory of a node that was killed, made once for the tests that damage copies of it.
func survivor(t *testing.T) (string, *ledger) {
	t.Helper()
	s := &sweep{led: newLedger()}
	n := asBinary(t, node.Config{Shards: 2, TrimEntries: 8})
	life := func() *lifetime { return &lifetime{Client: n.Client, addr: n.addr} }
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(s.push(t.Context(), life(), "svc", 1, "mapreduce"))
	n.must("service", "alias", "svc", "stable", "1")
	do(s.job(t.Context(), life(), "big job", bigSpec, wantBig))
	n.stop()
	n = n.again()
	do(s.push(t.Context(), life(), "other", 1, "echo"))
	do(s.job(t.Context(), life(), "long job", longSpec(), wantLong))
	// The end of a log that a crash tore looks like one that was damaged, so that the middle must not be the last record.
	for i := range 30 {
		_, err := n.Registry.SetAlias(t.Context(), connect.NewRequest(&wattlev1.SetAliasRequest{Service: "svc", Alias: fmt.Sprint("tail-", i), Number: 1}))
		do(err)
	}
	n.kill()
	return n.data, s.led
}

// must runs the command line client.
func (n *target) must(args ...string) {
	n.t.Helper()
	if _, errOut, status := n.wattle("", args...); status != 0 {
		n.t.Fatalf("wattle %s: %s", strings.Join(args, " "), errOut)
	}
}

// largest returns the largest file that a pattern below a data directory names: the one that has something in it.
func largest(t *testing.T, data, pattern string) (name string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(data, pattern))
	if err != nil {
		t.Fatal(err)
	}
	size := int64(0)
	for _, n := range names {
		info, err := os.Stat(n)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() > size {
			name, size = n, info.Size()
		}
	}
	if name == "" {
		t.Fatalf("there is no %s in %s", pattern, data)
	}
	rel, err := filepath.Rel(data, name)
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

// liveTable returns the newest table that a database refers to. A kill may leave others, which nobody misses.
func liveTable(t *testing.T, data, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(data, name))); err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open(dir, &pebble.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	levels, err := db.SSTables()
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	newest := pebble.SSTableInfo{}
	for _, tables := range levels {
		for _, table := range tables {
			if table.FileNum > newest.FileNum {
				newest = table
			}
		}
	}
	if newest.FileNum == 0 {
		t.Fatalf("%s has no table", name)
	}
	return filepath.Join(name, fmt.Sprintf("%06d.sst", newest.FileNum))
}

// current returns the newest file of a pattern.
func current(t *testing.T, data, pattern string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(data, pattern))
	if err != nil || len(names) == 0 {
		t.Fatal(pattern, err)
	}
	rel, err := filepath.Rel(data, slices.Max(names))
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

func flipMiddle(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 0x10
	if err := os.WriteFile(name, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The binary refuses a damaged data directory, and says which file it is.
func TestDamagedDataDirectory(t *testing.T) {
	t.Parallel()
	data, led := survivor(t)
	fresh := func(t *testing.T) node.Config {
		t.Helper()
		d := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(d, os.DirFS(data)); err != nil {
			t.Fatal(err)
		}
		return node.Config{Data: d}
	}
	for what, file := range map[string]string{
		"WAL": largest(t, data, "log/*.log"), "log table": liveTable(t, data, "log"), "log MANIFEST": current(t, data, "log/MANIFEST-*"),
		"state table": liveTable(t, data, "state"), "state MANIFEST": current(t, data, "state/MANIFEST-*"), "list of logs": "WAL",
	} {
		t.Run("flipped "+what, func(t *testing.T) {
			t.Parallel()
			cfg := fresh(t)
			flipMiddle(t, filepath.Join(cfg.Data, file))
			upFails(t, cfg, filepath.Join(cfg.Data, file), "restore")
		})
		t.Run("missing "+what, func(t *testing.T) {
			t.Parallel()
			cfg := fresh(t)
			if err := os.Remove(filepath.Join(cfg.Data, file)); err != nil {
				t.Fatal(err)
			}
			stem, _, _ := strings.Cut(filepath.Base(file), ".")
			upFails(t, cfg, cfg.Data, stem, "restore")
		})
	}
	for _, dir := range []string{"log", "state"} {
		t.Run("missing "+dir, func(t *testing.T) {
			t.Parallel()
			cfg := fresh(t)
			if err := os.RemoveAll(filepath.Join(cfg.Data, dir)); err != nil {
				t.Fatal(err)
			}
			upFails(t, cfg, filepath.Join(cfg.Data, dir), "restore")
		})
	}
	t.Run("flipped blob", func(t *testing.T) {
		t.Parallel()
		cfg := fresh(t)
		name := filepath.Join(cfg.Data, moduleFile("echo"))
		flipMiddle(t, name)
		n := asBinary(t, cfg)
		_, err := n.Invoke(t.Context(), "other/echo", nil)
		if client.Reason(err) != "damaged_blob" || !strings.Contains(err.Error(), name) {
			t.Errorf("call of a damaged module: %v", err)
		}
		for what, f := range led.facts {
			if err := f(t.Context(), n.Client); err != nil && what != "other@1" {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
	t.Run("whole", func(t *testing.T) {
		t.Parallel()
		n := asBinary(t, fresh(t))
		for what, f := range led.facts {
			if err := f(t.Context(), n.Client); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	})
}

// moduleFile is where a data directory keeps the module of a fixture.
func moduleFile(fixture string) string {
	h := digest.Of(testdata.Wasm(fixture)).Hex()
	return filepath.Join("blobs", h[:2], h)
}
