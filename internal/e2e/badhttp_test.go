package e2e

import (
	"bytes"
	"compress/gzip"
	bigendian "encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

const invokePath = "/wattle.v1.InvokeService/Invoke"

// do sends a request and returns the answer with its body read.
func (n *target) do(t testing.TB, method, path string, header map[string]string, content io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, n.url(path), content)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
			continue
		}
		req.Header.Set(k, v)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return res, body(t, res)
}

// gzipped is n zero bytes, compressed.
func gzipped(t testing.TB, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.CopyN(w, nulls{}, n); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type nulls struct{}

func (nulls) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// Requests that are not what the API takes are refused with the status that says why, and cost little.
func TestBadHTTP(t *testing.T) {
	t.Parallel()
	bomb := gzipped(t, 1<<30)
	large, err := proto.Marshal(&wattlev1.InvokeRequest{Service: "echo", Function: "echo", Payload: make([]byte, 17<<20)})
	if err != nil {
		t.Fatal(err)
	}
	frame := func(flags byte, b []byte) string {
		return string(bigendian.BigEndian.AppendUint32([]byte{flags}, uint32(len(b)))) + string(b)
	}
	cases := []struct {
		name, method, path string
		header             map[string]string
		body               string
		status             int
		text               string // in the body or a header
	}{
		{"large by connect", "POST", invokePath, map[string]string{"Content-Type": "application/proto"}, string(large), 429, "resource_exhausted"},
		{"large by grpc-web", "POST", invokePath, map[string]string{"Content-Type": "application/grpc-web+proto"}, frame(0, large), 200, "Grpc-Status: 8"},
		{"large by POST", "POST", "/fn/echo/echo", nil, string(large), 413, "larger than 16777216"},
		{"bomb by connect", "POST", invokePath, map[string]string{"Content-Type": "application/proto", "Content-Encoding": "gzip"}, string(bomb), 429, "resource_exhausted"},
		{"bomb by grpc-web", "POST", invokePath, map[string]string{"Content-Type": "application/grpc-web+proto", "Grpc-Encoding": "gzip"}, frame(1, bomb), 200, "Grpc-Status: 8"},
		{"not gzip", "POST", invokePath, map[string]string{"Content-Type": "application/proto", "Content-Encoding": "gzip"}, "plain", 400, "invalid_argument"},
		{"unknown encoding", "POST", invokePath, map[string]string{"Content-Type": "application/proto", "Content-Encoding": "br"}, "plain", 501, "unimplemented"},
		{"encoded POST", "POST", "/fn/echo/echo", map[string]string{"Content-Encoding": "gzip"}, string(gzipped(t, 10)), 415, "Content-Encoding"},
		{"no JSON", "POST", invokePath, map[string]string{"Content-Type": "application/json"}, "{", 400, "invalid_argument"},
		{"wrong type", "POST", invokePath, map[string]string{"Content-Type": "application/json"}, `{"service":7}`, 400, "invalid_argument"},
		{"no proto", "POST", invokePath, map[string]string{"Content-Type": "application/proto"}, "\xff\xff", 400, "invalid_argument"},
		{"bad timeout", "POST", invokePath, map[string]string{"Content-Type": "application/json"}, `{"timeout":"soon"}`, 400, "invalid_argument"},
		{"cut frame", "POST", invokePath, map[string]string{"Content-Type": "application/grpc-web+proto"}, frame(0, large[:9])[:10], 200, "protocol error"},
		{"content type", "POST", invokePath, map[string]string{"Content-Type": "text/plain"}, "{}", 415, "application/json"},
		{"no content type", "POST", invokePath, nil, "{}", 415, "application/json"},
		{"method", "GET", invokePath, nil, "", 405, "POST"},
		{"method of a function", "GET", "/fn/echo/echo", nil, "", 405, "POST"},
		{"method of health", "POST", "/healthz", nil, "", 404, "/fn/SERVICE/FUNCTION"},
		{"unknown path", "GET", "/admin", nil, "", 404, "/fn/SERVICE/FUNCTION"},
		{"unknown rpc", "POST", "/wattle.v1.InvokeService/Nope", map[string]string{"Content-Type": "application/json"}, "{}", 404, ""},
		{"unknown service", "POST", "/wattle.v2.InvokeService/Invoke", map[string]string{"Content-Type": "application/json"}, "{}", 404, "/fn/SERVICE/FUNCTION"},
		{"half a function", "POST", "/fn/echo", nil, "", 404, "/fn/SERVICE/FUNCTION"},
		{"dots", "POST", "/fn/../healthz", nil, "", 404, ""},
		{"foreign host", "POST", "/fn/echo/echo", map[string]string{"Host": "evil.example"}, "", 403, "--allow-host"},
		{"foreign host with port", "GET", "/metrics", map[string]string{"Host": "evil.example:7070"}, "", 403, "--allow-host"},
		{"host that only begins well", "GET", "/metrics", map[string]string{"Host": "localhost.evil.example"}, "", 403, "--allow-host"},
	}
	both(t, node.Config{Hosts: []string{"wattle.example"}}, func(t *testing.T, n *target) {
		n.bystander()
		for _, c := range cases {
			res, text := n.do(t, c.method, c.path, c.header, strings.NewReader(c.body))
			var all strings.Builder
			res.Header.Write(&all)
			res.Trailer.Write(&all)
			all.WriteString(text)
			if res.StatusCode != c.status || !strings.Contains(strings.ToLower(all.String()), strings.ToLower(c.text)) {
				t.Errorf("%s: %d, want %d with %q: %s", c.name, res.StatusCode, c.status, c.text, all.String())
			}
			clean(t, c.name, all.String())
		}
		for _, host := range []string{"localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:7070", "wattle.example", "Wattle.Example:443"} {
			if res, text := n.do(t, "GET", "/healthz", map[string]string{"Host": host}, nil); res.StatusCode != 200 {
				t.Errorf("host %s: %d: %s", host, res.StatusCode, text)
			}
		}
		n.undisturbed(t, 0)
	})
}

// No web page may make a visitor's browser call the node, unless its origin was allowed.
func TestCrossOrigin(t *testing.T) {
	t.Parallel()
	const good, evil = "https://shop.example", "https://evil.example"
	jsonType := map[string]string{"Content-Type": "application/json"}
	const call = `{"service":"echo","function":"echo","payload":"aGk="}`
	with := func(base map[string]string, more ...string) map[string]string {
		h := map[string]string{}
		for k, v := range base {
			h[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	preflight := func(origin string) map[string]string {
		return map[string]string{"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "connect-protocol-version,content-type"}
	}
	for name, origins := range map[string][]string{"closed": nil, "open": {good}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, node.Config{Origins: origins}, func(t *testing.T, n *target) {
				n.bystander()
				for _, origin := range []string{good, evil, "null"} {
					allowed := origin == good && len(origins) > 0
					for _, path := range []string{invokePath, "/fn/echo/echo"} {
						res, text := n.do(t, "POST", path, with(jsonType, "Origin", origin, "Sec-Fetch-Site", "cross-site"), strings.NewReader(call))
						if allowed && (res.StatusCode != 200 || res.Header.Get("Access-Control-Allow-Origin") != origin) {
							t.Errorf("%s from %s: %d, %v", path, origin, res.StatusCode, res.Header)
						}
						if !allowed && (res.StatusCode != 403 || !strings.Contains(text, "--allow-origin") || res.Header.Get("Access-Control-Allow-Origin") != "") {
							t.Errorf("%s from %s: %d: %s, %v", path, origin, res.StatusCode, text, res.Header)
						}
						// What a browser sends for a form needs no preflight, so it must not get through either.
						res, text = n.do(t, "POST", path, map[string]string{"Origin": origin, "Content-Type": "text/plain"}, strings.NewReader(call))
						if !allowed && res.StatusCode != 403 {
							t.Errorf("%s: a form from %s: %d: %s", path, origin, res.StatusCode, text)
						}
						res, _ = n.do(t, "OPTIONS", path, preflight(origin), nil)
						h := res.Header
						if got := h.Get("Access-Control-Allow-Origin"); allowed != (got == origin) || !allowed && got != "" {
							t.Errorf("%s: preflight from %s: %d, %v", path, origin, res.StatusCode, h)
						}
						if allowed && (res.StatusCode/100 != 2 || h.Get("Access-Control-Allow-Methods") == "" ||
							!strings.Contains(strings.ToLower(h.Get("Access-Control-Allow-Headers")), "connect-protocol-version")) {
							t.Errorf("%s: preflight: %d, %v", path, res.StatusCode, h)
						}
					}
					// Reading is refused by the browser: no header lets the page see the answer.
					res, _ := n.do(t, "GET", "/wattle.v1.RegistryService/ListServices?connect=v1&encoding=json&message=%7B%7D", map[string]string{"Origin": origin}, nil)
					if got := res.Header.Get("Access-Control-Allow-Origin"); (got == origin) != allowed {
						t.Errorf("GET from %s: %d, %v", origin, res.StatusCode, res.Header)
					}
				}
				// The node's own pages and programs that are no browsers are no cross-origin callers.
				for _, h := range []map[string]string{jsonType, with(jsonType, "Origin", "http://"+n.addr, "Sec-Fetch-Site", "same-origin")} {
					if res, text := n.do(t, "POST", invokePath, h, strings.NewReader(call)); res.StatusCode != 200 {
						t.Errorf("%v: %d: %s", h, res.StatusCode, text)
					}
				}
				n.undisturbed(t, 0)
			})
		})
	}
}
