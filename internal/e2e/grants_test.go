package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// ask has a guest make one host_call: see testdata/wat/hostcall.wat.
func (n *target) ask(t *testing.T, service string, op byte, request string) string {
	t.Helper()
	out, err := n.Invoke(t.Context(), service+"/ask", append([]byte{op}, request...))
	if err != nil {
		t.Fatal(err)
	}
	return string(out[8:])
}

func withHead(head, body string) string {
	return string(protowire.AppendVarint(nil, uint64(len(head)))) + head + body
}

// What a version was granted works, and what it was not is refused with an error that says so; nothing else changes.
func TestCapabilities(t *testing.T) {
	t.Parallel()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page of "+r.URL.Path) }))
	t.Cleanup(web.Close)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "text"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	both(t, node.Config{AllowDirs: []string{folder}}, func(t *testing.T, n *target) {
		n.pushFixture("echo")
		n.push("bare", testdata.Wasm("hostcall"), client.PushOptions{})
		file := filepath.Join(t.TempDir(), "m.wasm")
		if err := os.WriteFile(file, testdata.Wasm("hostcall"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.must("push", file, "--service", "able", "--config", "colour=blue", "--allow-http-private", strings.TrimPrefix(web.URL, "http://"),
			"--allow-call", "echo/*", "--allow-call", "able/ask", "--allow-cache", "--allow-files", "/data="+folder)
		fetch := withHead(`{"url":"`+web.URL+`/one"}`, "")
		invoke := withHead(`{"service":"echo","function":"echo"}`, "hello")
		put := withHead(`{"key":"k"}`, "v")
		for _, c := range []struct {
			op                    byte
			request, able, denied string
		}{
			{5, "colour", "blue", "unknown_setting"},
			{7, fetch, "page of /one", "bare may not send GET requests"},
			{8, invoke, "hello", "bare may not call echo/echo"},
			{8, withHead(`{"service":"able","function":"ask"}`, "\x08"+withHead(`{"service":"able","function":"ask"}`, "\x05colour")), "call_cycle", "bare may not call able/ask"},
			{10, put, "\x01", "bare may not use the node's shared memory"},
			{9, "k", "v", "capability_denied"},
		} {
			if got := n.ask(t, "able", c.op, c.request); !strings.Contains(got, c.able) {
				t.Errorf("op %d: %q, want %q", c.op, got, c.able)
			}
			if got := n.ask(t, "bare", c.op, c.request); !strings.Contains(got, c.denied) {
				t.Errorf("op %d without a grant: %q, want %q", c.op, got, c.denied)
			}
		}
		for _, bad := range []*wattlev1.Capabilities{
			{Http: []*wattlev1.HTTPGrant{{Host: "http://x"}}},
			{Files: []*wattlev1.FilesGrant{{Path: "/etc", Dir: "/etc"}}},
		} {
			_, _, err := n.Push(t.Context(), "bad", testdata.Wasm("hostcall"), client.PushOptions{Capabilities: bad})
			if code := connect.CodeOf(err); code != connect.CodeInvalidArgument && code != connect.CodePermissionDenied || client.Hint(err) == "" {
				t.Errorf("%v: %v", bad, err)
			}
		}
		// The same in a job: what a plan pinned goes with it.
		job := n.complete(n.submit(`
name: ask
stages:
  - {name: ask, function: able/ask, items: ["\u0005colour"]}
`, nil).Id)
		if out := n.output(t, job.Id, "ask", 0); out[8:] != "blue" {
			t.Errorf("the task answers %q", out)
		}
	})
}
