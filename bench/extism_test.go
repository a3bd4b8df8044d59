package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	extism "github.com/extism/go-sdk"

	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// extismWasm answers the folder of the plugins inside Extism's Go module.
func extismWasm(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/extism/go-sdk").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "wasm")
}

// granted are capabilities for plugins: settings, variables in a cache, and an HTTP client that knows two pages.
type granted struct {
	host.Capabilities
	config map[string]string
	allow  []string
	mu     sync.Mutex
	vars   map[string][]byte
}

func (g *granted) Config(key string) (string, bool, error) {
	v, ok := g.config[key]
	return v, ok, nil
}

func (g *granted) CacheGet(key string) ([]byte, uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.vars[key], 1, nil
}

func (g *granted) CachePut(key string, value []byte, _ time.Duration, _ *uint64) (uint64, bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.vars == nil {
		g.vars = map[string][]byte{}
	}
	g.vars[key] = bytes.Clone(value)
	return 1, true, nil
}

func (g *granted) HTTP(_ context.Context, r *host.HTTPRequest) (*host.HTTPResponse, error) {
	for _, a := range g.allow {
		if !strings.HasPrefix(r.URL, a) {
			continue
		}
		if strings.Contains(r.URL, "extism.org") {
			return &host.HTTPResponse{Status: 200, Headers: map[string]string{"content-type": "text/html; charset=utf-8"}, Body: []byte("<html>")}, nil
		}
		return &host.HTTPResponse{Status: 200, Body: []byte(`{"userId":1,"id":1,"title":"delectus aut autem","completed":false}`)}, nil
	}
	return nil, host.Denial("http", "not in the list")
}

type plugin1 struct {
	module, function string
	inputs           []string
	config           map[string]string
	allow            []string
	vars             map[string][]byte
	want             []string // Extism's own expectations: outputs, or parts of errors after "error: "
	exit             uint32   // in Extism's words
	after            func(t *testing.T, g *granted)
	alone            bool // not to be run by Extism's host here
	timeout          time.Duration
	log              []string
	files            bool // /mnt is the folder of Extism's test data
	changes          bool // and may be changed
}

func uintBytes(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// What Extism's own tests expect of the plugins that lie in its Go module has to come out here, too. Every one of them
// also runs on Extism's host in the same test, with the same inputs, and has to give the same bytes.
func TestExtismPlugins(t *testing.T) {
	t.Parallel()
	dir := extismWasm(t)
	h, err := host.New(t.Context(), host.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close(context.Background()) })
	passed := map[string]bool{}
	var mu sync.Mutex
	t.Run("run", func(t *testing.T) {
		for _, p := range extismPlugins {
			t.Run(p.module+"/"+p.function, func(t *testing.T) {
				t.Parallel()
				p.run(t, h, dir)
				if !t.Failed() {
					mu.Lock()
					passed[p.module] = true
					mu.Unlock()
				}
			})
		}
	})
	files, err := filepath.Glob(filepath.Join(dir, "*.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".wasm")
		why, left := notExtism[name]
		if passed[name] == left {
			t.Errorf("%s: passed %v, and left out because of %q", name, passed[name], why)
		}
		if left {
			t.Logf("left out: %s: %s", name, why)
		}
	}
	if n := h.Counters().Retired; n > 0 {
		t.Errorf("%d slots could not be put back to their clean state", n)
	}
	t.Logf("%d of %d modules give Extism's results", len(passed), len(files))
}

func (p plugin1) run(t *testing.T, h *host.Host, dir string) {
	file := filepath.Join(dir, p.module+".wasm")
	wasm, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m, err := h.Load(t.Context(), digest.Of(wasm), func() ([]byte, error) { return wasm, nil })
	if err != nil {
		t.Fatal(err)
	}
	defer m.Release()
	// noop imports nothing of Extism's, and so is a command that exports a function.
	if abi := m.Info().ABI; abi != "extism" && p.module != "noop" {
		t.Errorf("recognised as %s", abi)
	}
	var mounts []host.Mount
	if p.files || p.changes {
		// A copy, since nothing in Go's module cache can be changed, nor should it be.
		data := t.TempDir()
		if err := os.CopyFS(data, os.DirFS(filepath.Join(dir, "..", "testdata"))); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(data, "test.txt"), 0o600); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(data)
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		mounts = []host.Mount{{Path: "/mnt", Root: root, Write: p.changes}}
	}
	g := &granted{config: p.config, allow: p.allow, vars: p.vars}
	var log []string
	for i, in := range p.inputs {
		var out bytes.Buffer
		_, err := m.Call(t.Context(), &host.Call{
			Function: p.function, Input: host.BytesInput([]byte(in)), Output: &out, Capabilities: g, Mounts: mounts,
			Log:    func(l host.Level, s string) { log = append(log, l.String()+": "+s) },
			Limits: host.Limits{Timeout: p.timeout},
		})
		got := out.String()
		if err != nil {
			got = "error: " + err.Error()
		}
		if len(p.want) > 0 {
			if want := p.want[i]; got != want && !(strings.HasPrefix(want, "error: ") && strings.Contains(got, want[7:])) {
				t.Errorf("%q: got %q, want %q", in, got, want)
			}
		}
		if p.exit > 0 && (fault.As(err) == nil || fault.As(err).Fields["exit_status"] != strconv.FormatUint(uint64(p.exit), 10)) {
			t.Errorf("%v, want exit status %d", err, p.exit)
		}
		if p.alone {
			continue
		}
		if theirs, failed := p.extism(t, file, in); failed != (err != nil) || !failed && theirs != got {
			t.Errorf("%q: got %q, Extism's host says %q (failed: %v)", in, got, theirs, failed)
		}
	}
	for _, line := range p.log {
		if !slices.Contains(log, line) {
			t.Errorf("the log %q lacks %q", log, line)
		}
	}
	if t.Failed() {
		t.Logf("log: %q", log)
	}
	if p.after != nil {
		p.after(t, g)
	}
}

// extism runs a call on Extism's own host.
func (p plugin1) extism(t *testing.T, file, in string) (string, bool) {
	ctx := t.Context()
	manifest := extism.Manifest{Wasm: []extism.Wasm{extism.WasmFile{Path: file}}, Config: p.config}
	if p.files {
		manifest.AllowedPaths = map[string]string{"ro:" + filepath.Join(filepath.Dir(file), "..", "testdata"): "/mnt"}
	}
	if manifest.Config == nil {
		manifest.Config = map[string]string{}
	}
	c, err := extism.NewCompiledPlugin(ctx, manifest, extism.PluginConfig{EnableWasi: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	i, err := c.Instance(ctx, extism.PluginInstanceConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close(ctx)
	for k, v := range p.vars {
		i.Var[k] = v
	}
	rc, out, err := i.Call(p.function, []byte(in))
	return string(out), err != nil || rc != 0
}

var extismPlugins = []plugin1{
	{module: "alloc", function: "run_test", inputs: []string{""}},
	{module: "config", function: "run_test", inputs: []string{""}, config: map[string]string{"thing": "hello"}, want: []string{`{"config": "hello"}`}},
	{module: "config", function: "run_test", inputs: []string{""}, want: []string{`{"config": "<unset by host>"}`}},
	{module: "count_vowels", function: "count_vowels", inputs: []string{"hello world"}, want: []string{`{"count":3,"total":3,"vowels":"aeiouAEIOU"}`}},
	{
		module: "count_vowels", function: "count_vowels", inputs: []string{"aaa", "bbba"}, alone: true,
		want: []string{`{"count":3,"total":3,"vowels":"aeiouAEIOU"}`, `{"count":1,"total":4,"vowels":"aeiouAEIOU"}`},
	},
	{module: "count_vowels_std", function: "_start", inputs: []string{"hello world"}},
	{module: "exit", function: "_start", inputs: []string{""}, config: map[string]string{"code": "-1"}, exit: 0xffffffff},
	{module: "exit", function: "_start", inputs: []string{""}, config: map[string]string{"code": "500"}, exit: 500},
	{module: "exit", function: "_start", inputs: []string{""}, config: map[string]string{"code": "abc"}, exit: 1},
	{module: "exit", function: "_start", inputs: []string{""}, exit: 2},
	{module: "fail", function: "run_test", inputs: []string{""}, want: []string{"error: Some error message"}},
	{module: "fs_std", function: "run_test", inputs: []string{"", "/mnt/test.txt"}, files: true},
	{module: "fs", function: "run_test", inputs: []string{""}, changes: true, alone: true, want: []string{"hello world!"}},
	{module: "read_write", function: "try_write", inputs: []string{"hello hello!"}, changes: true, alone: true, config: map[string]string{"path": "/mnt/test.txt"}},
	{module: "read_write", function: "try_read", inputs: []string{""}, files: true, config: map[string]string{"path": "/mnt/test.txt"}, want: []string{"hello world!"}},
	{module: "read_write", function: "try_write", inputs: []string{"hello hello!"}, files: true, config: map[string]string{"path": "/mnt/test.txt"}, want: []string{"error: Failed to write file"}},
	{module: "hello", function: "run_test", inputs: []string{""}, want: []string{"Hello, world!"}},
	{module: "hello_haskell", function: "testing", inputs: []string{"John"}, config: map[string]string{"greeting": "Howdy"}, want: []string{"Howdy, John"}},
	{module: "http", function: "run_test", inputs: []string{""}, alone: true, allow: []string{"https://jsonplaceholder."}, want: []string{`{"userId":1,"id":1,"title":"delectus aut autem","completed":false}`}},
	{module: "http", function: "run_test", inputs: []string{""}, want: []string{"error: HTTP request to 'https://jsonplaceholder.typicode.com/todos/1' is not allowed"}},
	{module: "http", function: "run_test", inputs: []string{""}, alone: true, allow: []string{"https://google."}, want: []string{"error: HTTP request to 'https://jsonplaceholder.typicode.com/todos/1' is not allowed"}},
	{
		module: "http_headers", function: "http_get", inputs: []string{`{"url":"https://extism.org"}`}, alone: true, allow: []string{"https://extism.org"},
		want: []string{`{"content-type":"text/html; charset=utf-8"}`},
	},
	{module: "input_offset", function: "input_offset_length", inputs: []string{"hello world"}, want: []string{"\x0b\x00\x00\x00\x00\x00\x00\x00"}},
	{
		module: "log", function: "run_test", inputs: []string{""},
		log: []string{"debug: this is a trace log", "debug: this is a debug log", "info: this is an info log", "warn: this is a warning log", "error: this is an error log"},
	},
	{module: "noop", function: "run_test", inputs: []string{"", "abc"}},
	{module: "println", function: "run_test", inputs: []string{"", "abc"}},
	{module: "replace", function: "run_test", inputs: []string{"", "Hello %NAME%!", strings.Repeat("x %NAME% ", 1000)}},
	{module: "sleep", function: "run_test", inputs: []string{""}, config: map[string]string{"duration": "0"}, want: []string{"slept for 0 seconds"}},
	{module: "sleep", function: "run_test", inputs: []string{""}, config: map[string]string{"duration": "3"}, alone: true, timeout: 100 * time.Millisecond, want: []string{"error: longer than its limit of 100ms"}},
	{module: "std_command", function: "_start", inputs: []string{"ben"}, want: []string{"hello ben"}},
	{
		module: "var", function: "run_test", inputs: []string{"", ""}, alone: true, vars: map[string][]byte{"a": uintBytes(10)},
		after: func(t *testing.T, g *granted) {
			if n := binary.LittleEndian.Uint32(g.vars["a"]); n != 40 {
				t.Errorf("the variable is %d after two calls, want 40", n)
			}
		},
	},
}

// notExtism says which modules are not expected to run, and why.
var notExtism = map[string]string{
	"host":           "it imports a function of the program that embeds Extism",
	"host_memory":    "it imports a function of the program that embeds Extism",
	"host_multiple":  "it imports functions of the program that embeds Extism",
	"lib":            "half of a program: main imports its functions by name",
	"main":           "half of a program: it imports functions of lib",
	"nested.c.instr": "it imports functions of a tracing SDK",
}
