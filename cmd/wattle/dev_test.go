package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// The tests that start nodes are not parallel: nodes that start at the same time race for a variable of wazero's.

// devTest is a run of wattle dev on a project whose build takes the guest that its file names, with what follows the name inside.
type devTest struct {
	t      *testing.T
	loop   *devLoop
	source string
	events *bufio.Scanner
	stderr *syncBuffer
	cancel context.CancelFunc
	ended  chan error
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func startDev(t *testing.T, addr, guest string, change func(*devLoop)) *devTest {
	t.Helper()
	r, w := io.Pipe()
	d := &devTest{t: t, events: bufio.NewScanner(r), stderr: &syncBuffer{}, ended: make(chan error, 1)}
	dir := t.TempDir()
	d.source = filepath.Join(dir, "source")
	d.write(guest)
	d.loop = &devLoop{
		app: &app{addr: addr, output: "json", stdout: w, stderr: d.stderr}, dir: dir, service: "project",
		build: func(_ context.Context, dir, out string) error {
			b, err := os.ReadFile(filepath.Join(dir, "source"))
			if err != nil {
				return err
			}
			name, salt, _ := strings.Cut(string(b), " ")
			if name == "broken" {
				return fault.New(fault.Invalid, "build_failed", "source:1: broken").Hint("mend it")
			}
			// A custom section makes it a module of its own.
			return os.WriteFile(out, append(testdata.Wasm(name), append([]byte{0, byte(len(salt) + 1), byte(len(salt))}, salt...)...), 0o600)
		},
	}
	if change != nil {
		change(d.loop)
	}
	ctx, cancel := context.WithCancel(t.Context())
	d.cancel = cancel
	look := time.NewTicker(time.Millisecond) // nothing waits for it to be slow
	go func() { d.ended <- d.loop.run(ctx, look.C); w.Close() }()
	t.Cleanup(func() {
		cancel()
		look.Stop()
		go io.Copy(io.Discard, r) // so that nothing waits for being read
		if err := <-d.ended; err != nil {
			t.Error(err)
		}
	})
	return d
}

// write changes the source; the lengths of texts tell versions apart where the clock of the file system does not.
func (d *devTest) write(guest string) {
	d.t.Helper()
	replace(d.t, d.source, guest)
}

// replace changes a file at once: the loop looks so often that it sees it empty otherwise, and twice so.
func replace(t *testing.T, path, text string) {
	t.Helper()
	next := filepath.Join(t.TempDir(), "next")
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

// want reads the next events, which have to be of these kinds, and answers the last.
func (d *devTest) want(kinds ...string) (e devEvent) {
	d.t.Helper()
	for _, kind := range kinds {
		if !d.events.Scan() {
			d.t.Fatalf("no more events: %v, %s", d.events.Err(), d.stderr)
		}
		e = devEvent{}
		if err := json.Unmarshal(d.events.Bytes(), &e); err != nil || e.Event != kind {
			d.t.Fatalf("got %s, want %s; %s", d.events.Bytes(), kind, d.stderr)
		}
	}
	return e
}

func versionsOf(t *testing.T, c *client.Client, service string) (all []uint64) {
	t.Helper()
	res, err := c.Registry.GetService(t.Context(), connect.NewRequest(&wattlev1.GetServiceRequest{Name: service}))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range res.Msg.Service.Versions {
		all = append(all, v.Number)
	}
	return all
}

func TestDev(t *testing.T) {
	err := withNode(t.Context(), node.Config{Data: t.TempDir(), Addr: "127.0.0.1:0"}, func(_ context.Context, n *node.Node) error {
		c := client.Dial(n.Addr())
		defer c.Close()
		input := filepath.Join(t.TempDir(), "input")
		replace(t, input, "one")
		d := startDev(t, n.Addr(), "echo", func(d *devLoop) { d.file, d.function = input, "echo" })
		d.want("watching", "built")
		if e := d.want("pushed"); e.Service != "project" || e.Version != 1 {
			t.Errorf("%+v", e)
		}
		if e := d.want("called"); e.Function != "echo" || e.Output != "one" {
			t.Errorf("%+v", e)
		}

		// What goes in is watched, too; the module is the same, and so is its version.
		replace(t, input, "other")
		if e := d.want("changed"); len(e.Files) != 1 || e.Files[0] != input {
			t.Errorf("%+v", e)
		}
		if e := d.want("built", "pushed"); e.Version != 1 {
			t.Errorf("%+v", e)
		}
		if e := d.want("called"); e.Output != "other" {
			t.Errorf("%+v", e)
		}

		// A mistake is shown, and does not end it.
		d.write("broken")
		d.want("changed", "failed")
		d.write("echo 222")
		d.want("changed", "built")
		if e := d.want("pushed"); e.Version != 2 {
			t.Errorf("%+v", e)
		}
		d.want("called")
		if s := d.stderr.String(); !strings.Contains(s, "source:1: broken") || !strings.Contains(s, "mend it") {
			t.Errorf("%q", s)
		}
		if all := versionsOf(t, c, "project"); !slices.Equal(all, []uint64{2}) {
			t.Errorf("versions %v", all)
		}

		// A version that something else points at is not removed.
		if _, err := c.Registry.SetAlias(t.Context(), connect.NewRequest(&wattlev1.SetAliasRequest{Service: "project", Alias: "live", Number: 2})); err != nil {
			t.Fatal(err)
		}
		d.write("echo 33333")
		if e := d.want("changed", "built", "pushed", "kept"); e.Version != 2 {
			t.Errorf("%+v", e)
		}
		d.want("called")
		// Nor is one that was there before, although this run has pushed it again.
		d.write("echo 222")
		if e := d.want("changed", "built", "pushed"); e.Version != 2 {
			t.Errorf("%+v", e)
		}
		d.want("called")
		d.write("echo 4444444")
		if e := d.want("changed", "built", "pushed"); e.Version != 4 {
			t.Errorf("%+v", e)
		}
		d.want("called")
		if all := versionsOf(t, c, "project"); !slices.Equal(all, []uint64{2, 4}) {
			t.Errorf("versions %v", all)
		}

		// A function that is gone is missed by name.
		d.write("noop")
		d.want("changed", "built", "pushed", "failed")
		d.write("echo again")
		d.want("changed", "built", "pushed", "called")
		if s := d.stderr.String(); !strings.Contains(s, "project@5 has no function echo; it has: noop") {
			t.Errorf("%q", s)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A change stops what runs, and so does an interruption.
func TestDevStopsCalls(t *testing.T) {
	err := withNode(t.Context(), node.Config{Data: t.TempDir(), Addr: "127.0.0.1:0"}, func(_ context.Context, n *node.Node) error {
		d := startDev(t, n.Addr(), "spin", nil)
		d.want("watching", "built", "pushed") // and the only function runs forever
		d.write("noop with more to say")
		d.want("changed", "built", "pushed")
		if e := d.want("called"); e.Function != "noop" {
			t.Errorf("%+v", e)
		}
		d.write("spin again")
		d.want("changed", "built", "pushed")
		d.cancel()
		if err := <-d.ended; err != nil {
			t.Error(err)
		}
		d.ended <- nil
		if s := d.stderr.String(); s != "" {
			t.Errorf("%q", s)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A node that is not there is waited for, at first and later; what changes meanwhile is built.
func TestDevOutlivesNodes(t *testing.T) {
	data := t.TempDir()
	var d *devTest
	addr := "127.0.0.1:0"
	for _, guest := range []string{"noop", "noop after a restart"} {
		err := withNode(t.Context(), node.Config{Data: data, Addr: addr}, func(_ context.Context, n *node.Node) error {
			if d == nil {
				addr = n.Addr()
				d = startDev(t, addr, guest, nil)
				d.want("watching", "built")
			}
			d.want("pushed", "called")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if guest == "noop" {
			d.write("noop in between")
			d.want("changed", "built", "waiting")
			d.write("noop after a restart")
			d.want("changed", "built")
		}
	}
	if s := d.stderr.String(); strings.Count(s, "no node answers at "+addr) != 1 {
		t.Errorf("%q", s)
	}
}

func TestStamps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	look := func() stamps {
		t.Helper()
		s, err := stampsOf(dir, filepath.Join(dir, "x.wasm"), filepath.Join(dir, "not there"))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	put("a", "1")
	put("sub/b", "1")
	before := look()
	if changed := before.changed(look()); len(changed) > 0 {
		t.Errorf("%v", changed)
	}
	for _, name := range []string{"y.wasm", ".git/x", ".hidden", "node_modules/x/y", "target/x", "sub/build/x"} {
		put(name, "not looked at")
	}
	put("sub/b", "22")
	put("sub/deep/er/c", "")
	put("x.wasm", "asked for")
	if err := os.Remove(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "x.wasm"), "a", filepath.Join("sub", "b"), filepath.Join("sub", "deep", "er", "c")}
	if changed := before.changed(look()); !slices.Equal(changed, want) {
		t.Errorf("%v, want %v", changed, want)
	}
	if s := fewOf([]string{"a", "b", "c"}) + "; " + fewOf(want); !strings.HasPrefix(s, "a, b, c; ") || !strings.HasSuffix(s, " and 1 more") {
		t.Error(s)
	}
	if _, err := stampsOf(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a folder that is not there was looked at")
	}
}
