package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// A service through its life: versions, aliases, roll-back, deletion, all of it seen by a watcher and kept over a restart.
func TestServiceLife(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		// Two modules whose answers differ: one echoes, the other answers nothing.
		echo, noop := testdata.Wasm("echo"), testdata.Wasm("noop")
		events := n.watchServices(t)
		if e := events.next(t); !e.GetSynced() {
			t.Fatalf("an empty registry shows %v", e)
		}
		push := func(wasm []byte, o client.PushOptions) (uint64, bool) {
			t.Helper()
			v, created, err := n.Push(t.Context(), "svc", wasm, o)
			if err != nil {
				t.Fatal(err)
			}
			return v.Number, created
		}
		if v, created := push(echo, client.PushOptions{}); v != 1 || !created {
			t.Errorf("first push: version %d, created %v", v, created)
		}
		if e := events.next(t); e.GetService().GetName() != "svc" || len(e.GetService().Versions) != 1 {
			t.Errorf("after the push: %v", e)
		}
		if v, created := push(echo, client.PushOptions{}); v != 1 || created {
			t.Errorf("the same bytes again: version %d, created %v", v, created)
		}
		if v, _ := push(noop, client.PushOptions{Aliases: []string{"next"}}); v != 2 {
			t.Errorf("other bytes: version %d", v)
		}
		answers := func(ref, want string) {
			t.Helper()
			got, err := n.Invoke(t.Context(), ref, []byte("hi"))
			if err != nil || string(got) != want {
				t.Errorf("%s: %q, %v; want %q", ref, got, err, want)
			}
		}
		answers("svc@1/echo", "hi")
		answers("svc@next/noop", "")
		answers("svc/noop", "") // no default: the newest
		alias := func(name string, number uint64) {
			t.Helper()
			if _, err := n.Registry.SetAlias(t.Context(), connect.NewRequest(&wattlev1.SetAliasRequest{Service: "svc", Alias: name, Number: number})); err != nil {
				t.Error(err)
			}
		}
		alias("default", 1)
		answers("svc/echo", "hi")
		alias("default", 2)
		answers("svc/noop", "")
		alias("default", 1)
		answers("svc/echo", "hi")

		del := func(number uint64) error {
			_, err := n.Registry.DeleteVersion(t.Context(), connect.NewRequest(&wattlev1.DeleteVersionRequest{Service: "svc", Number: number}))
			return err
		}
		if err := del(1); client.Reason(err) != "version_in_use" {
			t.Errorf("deleting what an alias points to: %v", err)
		}
		if _, err := n.Registry.DeleteAlias(t.Context(), connect.NewRequest(&wattlev1.DeleteAliasRequest{Service: "svc", Alias: "next"})); err != nil {
			t.Error(err)
		}
		if err := del(2); err != nil {
			t.Error(err)
		}
		if v, created := push(noop, client.PushOptions{}); v != 3 || !created {
			t.Errorf("a deleted version's bytes again: version %d, created %v", v, created)
		}

		n.stop()
		n = n.again()
		answers("svc/echo", "hi")
		answers("svc@3/noop", "")
		out, _, _ := n.wattle("", "service", "get", "svc")
		if !strings.Contains(out, "aliases default=1") || !strings.Contains(out, "version 3") || strings.Contains(out, "version 2") {
			t.Errorf("wattle service get:\n%s", out)
		}
		events = n.watchServices(t)
		if e := events.next(t); len(e.GetService().GetVersions()) != 2 {
			t.Errorf("a watch begins with %v", e)
		}
		if e := events.next(t); !e.GetSynced() {
			t.Errorf("then %v", e)
		}
		if _, err := n.Registry.DeleteService(t.Context(), connect.NewRequest(&wattlev1.DeleteServiceRequest{Name: "svc"})); err != nil {
			t.Error(err)
		}
		if e := events.next(t); e.GetDeleted() != "svc" {
			t.Errorf("after the deletion: %v", e)
		}
		if _, err := n.Invoke(t.Context(), "svc@1/echo", nil); client.Reason(err) != "unknown_service" {
			t.Errorf("a deleted service answers: %v", err)
		}
		if v, _, err := n.Push(t.Context(), "svc", echo, client.PushOptions{}); err != nil || v.Number != 4 {
			t.Errorf("a service made again begins at %v, %v: numbers must not come back", v, err)
		}
	})
}

type serviceEvents struct {
	stream *connect.ServerStreamForClient[wattlev1.WatchServicesResponse]
}

func (n *target) watchServices(t *testing.T) *serviceEvents {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := n.Registry.WatchServices(ctx, connect.NewRequest(&wattlev1.WatchServicesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); s.Close() })
	return &serviceEvents{s}
}

func (e *serviceEvents) next(t *testing.T) *wattlev1.WatchServicesResponse {
	t.Helper()
	if !e.stream.Receive() {
		t.Fatal("the watch ended:", e.stream.Err())
	}
	return e.stream.Msg()
}

// Whoever pushes a module learns which of its exports are no functions, and so does who looks at the service later.
func TestLeftOutExports(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		file := filepath.Join(t.TempDir(), "m.wasm")
		if err := os.WriteFile(file, testdata.Wasm("leftout"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"push", file, "--service", "svc"}, {"service", "get", "svc"}} {
			out, _, _ := n.wattle("", args...)
			for _, want := range []string{"good", `left out "a b", "a/b": the name has characters`, `left out "malloc": the type is not () -> i32`} {
				if !strings.Contains(out, want) {
					t.Errorf("wattle %v: %q is not in:\n%s", args, want, out)
				}
			}
			if strings.Contains(out, "_own") {
				t.Errorf("wattle %v tells of what is not meant to be called:\n%s", args, out)
			}
			out, _, _ = n.wattle("", append([]string{"--output", "json"}, args...)...)
			if !strings.Contains(out, `"leftOut":["\"a b\", \"a/b\": the name has`) {
				t.Errorf("wattle %v as JSON: %s", args, out)
			}
		}
	})
}
