package host

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/testdata"
)

// fakeGrants answers what it is told to.
type fakeGrants struct {
	Capabilities
	secret  error
	invoked *Invocation
	asked   *HTTPRequest
}

func (g *fakeGrants) Config(key string) (string, bool, error) { return "v-" + key, key == "known", nil }

func (g *fakeGrants) Secret(string) ([]byte, error) {
	return []byte("hush"), g.secret
}

func (g *fakeGrants) Invoke(ctx context.Context, r *Invocation) ([]byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		return nil, errors.New("no deadline")
	}
	g.invoked = r
	return append([]byte("answer to "), r.Payload...), nil
}

func (g *fakeGrants) HTTP(_ context.Context, r *HTTPRequest) (*HTTPResponse, error) {
	g.asked = r
	return &HTTPResponse{Status: 204, Headers: map[string]string{"a": "b"}, Body: []byte("body")}, nil
}

func (g *fakeGrants) CacheGet(key string) ([]byte, uint64, error) { return []byte(key), 9, nil }
func (g *fakeGrants) CachePut(_ string, _ []byte, ttl time.Duration, expect *uint64) (uint64, bool, error) {
	return uint64(ttl / time.Millisecond), expect != nil && *expect == 3, nil
}

// ask makes one host_call in a guest.
func ask(t *testing.T, m *Module, g Capabilities, op byte, request string) (int64, string) {
	t.Helper()
	var out bytes.Buffer
	if _, err := m.Call(t.Context(), &Call{Function: "ask", Input: BytesInput(append([]byte{op}, request...)), Output: &out, Capabilities: g}); err != nil {
		t.Fatal(err)
	}
	return int64(binary.LittleEndian.Uint64(out.Bytes())), string(out.Bytes()[8:])
}

func head(json string) string { return string(binary.AppendUvarint(nil, uint64(len(json)))) + json }

func TestHostCalls(t *testing.T) {
	t.Parallel()
	m := load(t, newHost(t, Config{}), testdata.Wasm("hostcall"))
	g := &fakeGrants{}
	for _, c := range []struct {
		op      byte
		request string
		want    string // the reply, or the reason of the failure after "!"
	}{
		{opFunction, "", "ask"},
		{opConfig, "known", "v-known"},
		{opConfig, "other", "!unknown_setting"},
		{opSecret, "s", "hush"},
		{opHTTP, head(`{"url":"http://x","method":"PUT","headers":{"k":"v"}}`) + "data", head(`{"status":204,"headers":{"a":"b"}}`) + "body"},
		{opHTTP, "", "!bad_request"},
		{opHTTP, "\x05{", "!bad_request"},
		{opHTTP, head("nonsense"), "!bad_request"},
		{opInvoke, head(`{"service":"s","function":"f"}`) + "me", "answer to me"},
		{opCacheGet, "k", "\x09\x00\x00\x00\x00\x00\x00\x00k"},
		{opCachePut, head(`{"key":"k","ttl_ms":5,"expect":3}`) + "v", "\x05\x00\x00\x00\x00\x00\x00\x00\x01"},
		{opCachePut, head(`{"key":"k","ttl_ms":6}`) + "v", "\x06\x00\x00\x00\x00\x00\x00\x00\x00"},
		{opRandom, "\x00\x00\x00\x01", "!bad_request"},
		{opRandom, "\x01", "!bad_request"},
	} {
		n, reply := ask(t, m, g, c.op, c.request)
		reason, fails := strings.CutPrefix(c.want, "!")
		if fails && (n > -2 || !strings.Contains(reply, `"reason":"`+reason+`"`)) || !fails && (n != int64(len(c.want)) || reply != c.want) {
			t.Errorf("op %d with %q: %d, %q; want %q", c.op, c.request, n, reply, c.want)
		}
	}
	if g.asked.Method != "PUT" || string(g.asked.Body) != "data" || g.invoked.Service != "s" {
		t.Errorf("%+v, %+v", g.asked, g.invoked)
	}
	if n, _ := ask(t, m, g, 200, ""); n != -1 {
		t.Errorf("an unknown operation answers %d", n)
	}
	n, now := ask(t, m, nil, opClock, "")
	if d := time.Since(time.Unix(0, int64(binary.LittleEndian.Uint64([]byte(now))))); n != 8 || d < 0 || d > time.Minute {
		t.Errorf("%d, %v", n, d)
	}
	_, one := ask(t, m, nil, opRandom, "\x20\x00\x00\x00")
	_, two := ask(t, m, nil, opRandom, "\x20\x00\x00\x00")
	if len(one) != 32 || one == two {
		t.Errorf("random numbers %x and %x", one, two)
	}
	for _, op := range []byte{opConfig, opSecret, opCacheGet} {
		if n, reply := ask(t, m, nil, op, "x"); n > -2 || !strings.Contains(reply, "capability_denied") || !strings.Contains(reply, "not granted") {
			t.Errorf("op %d without grants: %d, %q", op, n, reply)
		}
	}
	g.secret = fault.New(fault.NotFound, "unknown_secret", "no such secret")
	if _, reply := ask(t, m, g, opSecret, "x"); reply != `{"reason":"unknown_secret","message":"no such secret"}` {
		t.Error(reply)
	}
}

func TestWapc(t *testing.T) {
	t.Parallel()
	m := load(t, newHost(t, Config{}), testdata.Wasm("wapc"))
	if i := m.Info(); i.ABI != "wapc" || i.Functions[0].Name != AnyFunction || i.Fresh != "" {
		t.Errorf("%+v", i)
	}
	call := func(function string, in Input, g Capabilities) (string, error) {
		var out bytes.Buffer
		_, err := m.Call(t.Context(), &Call{Function: function, Input: in, Output: &out, Capabilities: g})
		return out.String(), err
	}
	for range 3 {
		if got, err := call("echo", StreamInput(strings.NewReader("hello")), nil); got != "hello" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
	}
	_, err := call("fail", nil, nil)
	wantFault(t, err, fault.Guest, "function_error", "it did not work")
	g := &fakeGrants{}
	if got, err := call("ask", BytesInput([]byte("me")), g); got != "answer to me" || err != nil || g.invoked.Service != "other" || g.invoked.Function != "there" {
		t.Errorf("%q, %v, %+v", got, err, g.invoked)
	}
	_, err = call("ask", nil, nil)
	wantFault(t, err, fault.Guest, "function_error", "not granted")
}

// forger makes a module whose function "run" calls one import with the numbers in its input.
func forger(module_, name string, def api.FunctionDefinition) []byte {
	str := func(s string) string { return string(binary.AppendUvarint(nil, uint64(len(s)))) + s }
	types := func(v []api.ValueType) string { return string(append(binary.AppendUvarint(nil, uint64(len(v))), v...)) }
	body := "\x00\x41\x00\x41\x80\x01\x42\x00\x10\x00\x1a" // input_read(0, 128, 0)
	for i, p := range def.ParamTypes() {
		load := "\x28"
		if p == api.ValueTypeI64 {
			load = "\x29"
		}
		body += "\x41" + string(rune(8*i)) + load + "\x00\x00"
	}
	body += "\x10\x01" + strings.Repeat("\x1a", len(def.ResultTypes())) + "\x41\x00\x0b"
	return module(
		"\x01\x03\x60\x03\x7f\x7f\x7e\x01\x7f\x60"+types(def.ParamTypes())+types(def.ResultTypes())+"\x60\x00\x01\x7f",
		"\x02\x02"+str(abiModule)+str("input_read")+"\x00\x00"+str(module_)+str(name)+"\x00\x01",
		"\x03\x01\x02", "\x05\x01\x00\x02", "\x07\x02"+str("memory")+"\x02\x00"+str("run")+"\x00\x02",
		"\x0a\x01"+str(body),
	)
}

// No pointer, length or number that a guest hands to a host function may harm the host.
func FuzzHostFunctions(f *testing.F) {
	h := newHost(f, Config{Defaults: Limits{Memory: 1 << 20, Timeout: 50 * time.Millisecond, Output: 1 << 20}, MaxModules: 500})
	var forgers []*Module
	for name, def := range h.engine.(*wazeroEngine).offers {
		module_, name, _ := strings.Cut(name, ".")
		forgers = append(forgers, load(f, h, forger(module_, name, def)))
	}
	if len(forgers) > 128 {
		f.Fatal("one bit is too few to tell whether there are files")
	}
	dir := f.TempDir()
	for _, name := range []string{"file", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("text"), 0o600); err != nil {
			f.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { root.Close() })
	files := []Mount{{Path: "/", Root: root, Write: true}}
	for i := range forgers {
		f.Add(byte(i)|0x80, append([]byte{3, 0, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{0, 0, 0, 0, 0, 0, 0, 0}, 7)...))
		f.Add(byte(i)|0x80, append([]byte{3, 0, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{72, 0, 0, 0, 4, 0, 0, 0}, 8)...))
		f.Add(byte(i), make([]byte, 64))
		f.Add(byte(i), bytes.Repeat([]byte{0xff}, 64))
		f.Add(byte(i), bytes.Repeat([]byte{0xf0, 0xff, 1, 0, 0, 0, 0, 0}, 8))
	}
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		m := forgers[int(which&0x7f)%len(forgers)]
		call := &Call{Function: "run", Input: BytesInput(in), Capabilities: &fakeGrants{}}
		if which&0x80 != 0 {
			call.Mounts = files
		}
		if _, err := m.Call(t.Context(), call); err != nil && fault.As(err) == nil {
			t.Errorf("not a fault: %v", err)
		}
	})
}
