package e2e

import (
	"bytes"
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
	"github.com/wattlehq/wattle/internal/fault"
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
	writable := t.TempDir()
	both(t, node.Config{AllowDirs: []string{folder}, WriteDirs: []string{writable}}, func(t *testing.T, n *target) {
		n.pushFixture("echo")
		n.push("bare", testdata.Wasm("hostcall"), client.PushOptions{})
		file := filepath.Join(t.TempDir(), "m.wasm")
		if err := os.WriteFile(file, testdata.Wasm("hostcall"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.must("push", file, "--service", "able", "--config", "colour=blue", "--allow-http-private", strings.TrimPrefix(web.URL, "http://"),
			"--allow-call", "echo/*", "--allow-call", "able/ask", "--allow-cache", "--allow-files", "/data="+folder, "--allow-files", "/more="+writable, "--allow-files-write", "/out="+writable)
		if out, _, _ := n.wattle("", "service", "get", "able"); !strings.Contains(out, "read and change "+writable+" as /out") {
			t.Errorf("service get says nothing of the folder it may change: %s", out)
		}
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
			{Files: []*wattlev1.FilesGrant{{Path: "/data", Dir: folder, Write: true}}},
			{Secrets: []string{"a b"}},
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

// What a node no longer allows is not read any more, whatever was granted, and links that come later lead nowhere.
func TestFoldersAreCheckedAtEachCall(t *testing.T) {
	t.Parallel()
	allowed := t.TempDir()
	folder, outside := filepath.Join(allowed, "folder"), t.TempDir()
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg := node.Config{Data: filepath.Join(t.TempDir(), "data"), AllowDirs: []string{allowed}}
	n := inProcess(t, cfg)
	n.push("echo", testdata.Wasm("echo"), client.PushOptions{Capabilities: &wattlev1.Capabilities{Files: []*wattlev1.FilesGrant{{Path: "/data", Dir: folder}}}})
	wants := func(want string) {
		t.Helper()
		if out, err := n.Invoke(t.Context(), "echo/echo", []byte("x")); client.Reason(err) != want || want == "" && string(out) != "x" {
			t.Errorf("%q, %v, want %q", out, err, want)
		}
	}
	wants("")
	if s, err := n.Registry.GetService(t.Context(), connect.NewRequest(&wattlev1.GetServiceRequest{Name: "echo"})); err != nil || s.Msg.Service.Versions[0].FreshReason == "" {
		t.Errorf("nothing says that the calls run in fresh instances: %v, %v", s, err)
	}
	if err := os.Remove(folder); err != nil {
		t.Fatal(err)
	}
	wants("bad_capabilities")
	if err := os.Symlink(outside, folder); err != nil {
		t.Fatal(err)
	}
	wants("forbidden_dir")
	n.stop()
	cfg.AllowDirs = []string{outside}
	n = inProcess(t, cfg)
	wants("") // now it is what the node allows
	n.stop()
	cfg.AllowDirs = nil
	n = inProcess(t, cfg)
	wants("forbidden_dir")
}

func TestConfigsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--slots=-1", "--collect-interval=-1s", "--retention=-1h", "--grace=-5m", "--linger=-1s"} {
		_, stderr, status := runWattle(t, "", "", "up", "--data", filepath.Join(t.TempDir(), "data"), "--addr", "127.0.0.1:0", flag)
		if name, _, _ := strings.Cut(flag, "="); status != 1 || !strings.Contains(stderr, name+" is negative") {
			t.Errorf("%s: %d %s", flag, status, stderr)
		}
	}
	for flag, want := range map[string]string{
		"--discover": "--insecure", "--gossip-addr=0.0.0.0:0": "--insecure", "--peer-addr=0.0.0.0:0": "--insecure", "--gossip-addr=nowhere": "--gossip-addr",
		"--peer-addr=nowhere": "--peer-addr", "--advertise=me": "--advertise", "--join=": "names no address", "--join=a,,b": "names no address",
		"--join=nonsense": "HOST:PORT", "--join=127.0.0.1:99999": "HOST:PORT", "--join=http://127.0.0.1:7070/x": "HOST:PORT", "--grace=1ns": "too short", "--zone=a\nb": "--zone",
	} {
		_, stderr, status := runWattle(t, "", "", "up", "--data", filepath.Join(t.TempDir(), "data"), "--addr", "127.0.0.1:0", flag)
		if status == 0 || !strings.Contains(stderr, want) || strings.Contains(stderr, "goroutine") {
			t.Errorf("%s: %d %s", flag, status, stderr)
		}
	}
	// No flag can say this, but a Config can.
	if _, err := node.New(t.Context(), node.Config{Data: filepath.Join(t.TempDir(), "data"), Addr: "127.0.0.1:0", ShuffleBytes: -5}); fault.Reason(err) != "bad_config" {
		t.Error(err)
	}
}

// A secret is read by the functions that were granted it and by nobody else; it is nowhere on the disk, and outlives the node.
func TestSecrets(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		const value = "correct horse battery staple"
		n.push("able", testdata.Wasm("hostcall"), client.PushOptions{Capabilities: &wattlev1.Capabilities{Secrets: []string{"db/password", "later"}}})
		n.push("bare", testdata.Wasm("hostcall"), client.PushOptions{})
		wants := func(service, name, want string) {
			t.Helper()
			if got := n.ask(t, service, 6, name); !strings.Contains(got, want) {
				t.Errorf("%s reads %q from %s, want %q", service, got, name, want)
			}
		}
		wants("able", "later", "unknown_secret")
		wants("able", "other", "capability_denied")
		out, stderr, status := n.wattle(value+"\n", "secret", "set", "db/password")
		if status != 0 || strings.Contains(out+stderr, value) {
			t.Fatalf("secret set: %d %s %s", status, out, stderr)
		}
		wants("able", "db/password", value)
		wants("bare", "db/password", "capability_denied")
		file := filepath.Join(t.TempDir(), "value")
		if err := os.WriteFile(file, []byte("\x00binary\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		n.must("secret", "set", "later", "--file", file)
		wants("able", "later", "\x00binary\n")
		out, _, _ = n.wattle("", "secret", "ls", "--output", "json")
		if !strings.Contains(out, "db/password") || !strings.Contains(out, "later") || strings.Contains(out, "horse") {
			t.Errorf("secret ls: %s", out)
		}
		for _, bad := range []struct {
			stdin, want string
			args        []string
		}{
			{"", "nothing came on stdin", []string{"set", "x"}},
			{"v", "is no name for a secret", []string{"set", "a b"}},
			{strings.Repeat("x", 70_000), "the most is 65536", []string{"set", "x"}},
			{"", "there is no secret", []string{"rm", "x"}},
		} {
			if _, stderr, status := n.wattle(bad.stdin, append([]string{"secret"}, bad.args...)...); status != 1 || !strings.Contains(stderr, bad.want) {
				t.Errorf("secret %v: %d %s", bad.args, status, stderr)
			}
		}
		n.stop()
		// What the node wrote, and the file with the key.
		err := filepath.WalkDir(n.data, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if bytes.Contains(b, []byte("horse battery")) {
				t.Errorf("%s has the secret in the clear", path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		key := filepath.Join(n.data, "secret.key")
		if st, err := os.Stat(key); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("the key: %v, %v", st, err)
		}
		n = n.again()
		wants("able", "db/password", value)
		n.must("secret", "rm", "later")
		wants("able", "later", "unknown_secret")

		// Without the key the node runs, but for what needs it; with a file that is no key it does not start.
		n.stop()
		if err := os.Rename(key, key+".away"); err != nil {
			t.Fatal(err)
		}
		n = n.again()
		wants("able", "db/password", "no_secret_key")
		n.must("secret", "set", "later", "--file", file)
		wants("able", "later", "\x00binary\n")
		wants("able", "db/password", "secret_key_missing")
		n.stop()
		for _, content := range []string{"garbage", ""} {
			if err := os.WriteFile(key, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, stderr, status := runWattle(t, "", "", "up", "--data", n.data, "--addr", "127.0.0.1:0"); status != 1 || !strings.Contains(stderr, "keys for secrets cannot be read") {
				t.Errorf("up with a key of %q: %d %s", content, status, stderr)
			}
		}
		if err := os.Rename(key+".away", key); err != nil {
			t.Fatal(err)
		}
		n = n.again()
		wants("able", "db/password", value)
		wants("able", "later", "secret_key_missing")
	})
}

// A call belongs to its caller's trace, whatever way it came, and so does what it calls.
func TestTraces(t *testing.T) {
	t.Parallel()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	const parent = "00-" + id + "-00f067aa0ba902b7-01"
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.pushFixture("context")
		n.push("able", testdata.Wasm("hostcall"), client.PushOptions{Capabilities: &wattlev1.Capabilities{Calls: []string{"context/*"}}})
		call := func(service, function, payload, header string) (string, error) {
			r := connect.NewRequest(&wattlev1.InvokeRequest{Service: service, Function: function, Payload: []byte(payload)})
			r.Header().Set("traceparent", header)
			res, err := n.Functions.Invoke(t.Context(), r)
			return string(res.Msg.GetPayload()), err
		}
		nested := "\x08" + withHead(`{"service":"context","function":"context"}`, "")
		for what, got := range map[string]func() (string, error){
			"a call":        func() (string, error) { return call("context", "context", "", parent) },
			"a nested call": func() (string, error) { return call("able", "ask", nested, parent) },
			"plain HTTP": func() (string, error) {
				_, body := n.do(t, "POST", "/fn/context/context", map[string]string{"Traceparent": parent}, nil)
				return body, nil
			},
		} {
			if text, err := got(); err != nil || !strings.Contains(text, `"traceparent":"00-`+id+"-") || strings.Contains(text, "00f067aa0ba902b7") {
				t.Errorf("%s: %q, %v", what, text, err)
			}
		}
		for _, header := range []string{"", "garbage", strings.ToUpper(parent)} {
			text, err := call("context", "context", "", header)
			if _, rest, ok := strings.Cut(text, `"traceparent":"`); err != nil || !ok || strings.Contains(rest, id) || !strings.HasPrefix(rest, "00-") {
				t.Errorf("with the header %q: %q, %v", header, text, err)
			}
		}
	})
}
