package grants

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
)

func wants(t *testing.T, err error, reason, text string) {
	t.Helper()
	if fault.Reason(err) != reason || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v (%s), want %s with %q", err, fault.Reason(err), reason, text)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := NewCache(4000, time.Now)
		put := func(key, value string, ttl time.Duration, expect *uint64) (uint64, bool) {
			t.Helper()
			v, ok, err := c.Put("s", key, []byte(value), ttl, expect)
			if err != nil {
				t.Fatal(err)
			}
			return v, ok
		}
		one, _ := put("a", "1", 0, nil)
		if got, v := c.Get("s", "a"); string(got) != "1" || v != one {
			t.Errorf("%q, %d", got, v)
		}
		if got, v := c.Get("other", "a"); got != nil || v != 0 {
			t.Error("another service sees it")
		}
		zero := uint64(0)
		if v, ok := put("a", "2", 0, &zero); ok || v != one {
			t.Errorf("a swap that expects nothing went through: %d", v)
		}
		two, ok := put("a", "2", time.Minute, &one)
		if !ok || two <= one {
			t.Errorf("%d, %v", two, ok)
		}
		time.Sleep(time.Minute)
		if _, v := c.Get("s", "a"); v != 0 {
			t.Error("it outlives its time")
		}
		if _, ok := put("a", "3", 0, &zero); !ok {
			t.Error("what ended cannot be made again")
		}
		put("a", "", -1, nil)
		if _, v := c.Get("s", "a"); v != 0 {
			t.Error("it cannot be removed")
		}
		put("first", strings.Repeat("x", 1000), 0, nil)
		put("second", strings.Repeat("x", 1000), 0, nil)
		c.Get("s", "first")
		put("third", strings.Repeat("x", 1500), 0, nil)
		if _, v := c.Get("s", "second"); v != 0 || c.size > 4000 {
			t.Errorf("what was used least is still there; %d bytes", c.size)
		}
		if _, v := c.Get("s", "first"); v == 0 {
			t.Error("what was used last is gone")
		}
		_, _, err := c.Put("s", "k", make([]byte, 2<<20), 0, nil)
		wants(t, err, "payload_limit", "1048576")
	})
}

func TestHTTP(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Method", r.Method+" "+r.Header.Get("X-Mine"))
		w.Header().Set("X-Trace", r.Header.Get(trace.Header))
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/away", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://elsewhere.example/", http.StatusFound)
	})
	mux.HandleFunc("/round", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/round", http.StatusFound) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, maxResponse+1)) })
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	s := httptest.NewServer(mux)
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	do := func(g *wattlev1.HTTPGrant, r *host.HTTPRequest) (*host.HTTPResponse, error) {
		return (&Grants{}).For("svc", "f", &wattlev1.Capabilities{Http: []*wattlev1.HTTPGrant{g}}).HTTP(t.Context(), r)
	}
	private := &wattlev1.HTTPGrant{Host: addr, Methods: []string{"GET", "POST"}, Private: true}
	res, err := do(private, &host.HTTPRequest{Method: "POST", URL: s.URL + "/echo", Headers: map[string]string{"X-Mine": "yes", "Host": "evil"}, Body: []byte("hello")})
	if err != nil || res.Status != 200 || string(res.Body) != "hello" || res.Headers["x-method"] != "POST yes" {
		t.Errorf("%+v, %v", res, err)
	}
	for _, c := range []struct {
		grant        *wattlev1.HTTPGrant
		method, url  string
		reason, text string
	}{ // /slow never answers; the others have all the time they need
		{&wattlev1.HTTPGrant{Host: addr}, "GET", s.URL + "/echo", "capability_denied", "not a public address"},
		{&wattlev1.HTTPGrant{Host: addr, Private: true}, "POST", s.URL + "/echo", "capability_denied", "POST"},
		{&wattlev1.HTTPGrant{Host: "127.0.0.1", Private: true}, "GET", s.URL + "/echo", "capability_denied", "GET"},
		{&wattlev1.HTTPGrant{Host: "example.com"}, "GET", "http://example.com.evil.example/", "capability_denied", "evil"},
		{private, "GET", s.URL + "/away", "capability_denied", "elsewhere"},
		{private, "GET", s.URL + "/round", "http_failed", "more than 5"},
		{private, "GET", s.URL + "/large", "payload_limit", "8388608"},
		{private, "GET", "ftp://" + addr, "bad_request", "ftp"},
		{private, "GET", "http://%", "bad_request", ""},
		{private, "GET", s.URL + "/slow", "http_failed", ""},
	} {
		r := &host.HTTPRequest{Method: c.method, URL: c.url}
		if strings.HasSuffix(c.url, "/slow") {
			r.Timeout = 100
		}
		_, err := do(c.grant, r)
		wants(t, err, c.reason, c.text)
	}
	parent := trace.New()
	res, err = (&Grants{}).For("svc", "f", &wattlev1.Capabilities{Http: []*wattlev1.HTTPGrant{private}}).HTTP(trace.With(t.Context(), parent), &host.HTTPRequest{URL: s.URL + "/echo"})
	if got, ok := trace.Parse(res.Headers["x-trace"]); err != nil || !ok || got.Trace != parent.Trace || got.Call == parent.Call {
		t.Errorf("a request of %s belongs to %q, %v", parent, res.Headers["x-trace"], err)
	}
	_, err = (&Grants{}).For("svc", "f", nil).HTTP(t.Context(), &host.HTTPRequest{URL: s.URL})
	wants(t, err, "capability_denied", "svc may not send GET requests")
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	g := &Grants{Secrets: func(name string) ([]byte, error) { return []byte("value of " + name), nil }}
	c := g.For("svc", "f", &wattlev1.Capabilities{Secrets: []string{"mine"}})
	if v, err := c.Secret("mine"); string(v) != "value of mine" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	for _, name := range []string{"", "min", "mine/", "other"} {
		_, err := c.Secret(name)
		wants(t, err, "capability_denied", "svc may not read the secret")
	}
	_, err := g.For("svc", "f", nil).Secret("mine")
	wants(t, err, "capability_denied", "mine")
	wants(t, g.Check(&wattlev1.Capabilities{Secrets: []string{"a b"}}), "bad_secret_name", "a b")
}

func TestInvoke(t *testing.T) {
	t.Parallel()
	g := &Grants{}
	c := &wattlev1.Capabilities{Calls: []string{"a/*", "b/one", "top/start"}}
	var deepest int
	g.Invoke = func(ctx context.Context, r *host.Invocation) ([]byte, error) {
		if len(r.Payload) == 0 {
			return []byte("end"), nil
		}
		deepest++
		next := &host.Invocation{Service: "a", Function: string(r.Payload[0]), Payload: r.Payload[1:]}
		return g.For(r.Service, r.Function, c).Invoke(ctx, next)
	}
	call := func(service, function, then string) (string, error) {
		deepest = 0
		b, err := g.For("top", "start", c).Invoke(t.Context(), &host.Invocation{Service: service, Function: function, Payload: []byte(then)})
		return string(b), err
	}
	if got, err := call("b", "one", "xyz"); got != "end" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_, err := call("b", "two", "")
	wants(t, err, "capability_denied", "b/two")
	_, err = call("a", "x", "yzx")
	wants(t, err, "call_cycle", "top/start > a/x > a/y > a/z > a/x")
	_, err = call("top", "start", "")
	wants(t, err, "call_cycle", "top/start > top/start")
	_, err = call("a", "0", "123456789")
	wants(t, err, "call_depth", "8 calls deep")
	if deepest > maxDepth {
		t.Errorf("%d calls deep", deepest)
	}
}

func TestCheckAndMounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc", filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	g := &Grants{Folder: func(dir string, _ bool) (string, error) { return dir, nil }}
	for _, c := range []*wattlev1.Capabilities{
		{Config: map[string]string{"": "x"}},
		{Config: map[string]string{"k": strings.Repeat("x", maxConfig)}},
		{Http: []*wattlev1.HTTPGrant{{Host: "https://x"}}},
		{Http: []*wattlev1.HTTPGrant{{Host: "x", Methods: []string{"get"}}}},
		{Http: []*wattlev1.HTTPGrant{{Host: "*"}}},
		{Http: []*wattlev1.HTTPGrant{{Host: "http://x"}}},
		{Http: []*wattlev1.HTTPGrant{{Host: "x", Methods: []string{" POST"}}}},
		{Calls: []string{"*/*"}},
		{Calls: []string{"x@1/y"}},
		{Files: []*wattlev1.FilesGrant{{Path: "/", Dir: dir}}},
		{Files: []*wattlev1.FilesGrant{{Path: "/a", Dir: dir}, {Path: "/a", Dir: dir}}},
		{Calls: []string{"x"}},
		{Calls: []string{"x/y/z"}},
		{Files: []*wattlev1.FilesGrant{{Path: "data", Dir: dir}}},
		{Files: []*wattlev1.FilesGrant{{Path: "/../x", Dir: dir}}},
	} {
		wants(t, g.Check(c), "bad_capabilities", "")
	}
	c := &wattlev1.Capabilities{Files: []*wattlev1.FilesGrant{{Path: "/data", Dir: dir}}, Http: []*wattlev1.HTTPGrant{{Host: "*.example.com"}}, Calls: []string{"a/*"}}
	if err := g.Check(c); err != nil {
		t.Error(err)
	}
	mounts, closeAll, err := g.Mounts(c)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll()
	if f, err := mounts[0].Root.Open("f"); err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	if _, err := mounts[0].Root.Open("out/passwd"); err == nil {
		t.Error("a link leads out of the folder")
	}
	c.Files[0].Dir = filepath.Join(dir, "none")
	_, _, err = g.Mounts(c)
	wants(t, err, "no_folder", "/data")
}
