package rpc

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/gen/wattle/v1/wattlev1connect"
	"github.com/wattlehq/wattle/internal/fault"
)

// A node that is not ready says why, in every protocol, and that it is not ready where that is asked.
func TestUnready(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(Unready(fault.New(fault.Unavailable, "joining", "it waits").Hint("wait, too"), nil))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	for name, opts := range map[string][]connect.ClientOption{
		"connect": nil, "get": {connect.WithHTTPGet()}, "grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()}, "json": {connect.WithProtoJSON()},
	} {
		nodes := wattlev1connect.NewNodeServiceClient(s.Client(), s.URL, opts...)
		_, err := nodes.ListNodes(t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
		explains(t, name, err)
		jobs := wattlev1connect.NewJobServiceClient(s.Client(), s.URL, opts...)
		stream, err := jobs.WatchJob(t.Context(), connect.NewRequest(&wattlev1.WatchJobRequest{}))
		if err == nil {
			stream.Receive()
			err = stream.Err()
		}
		explains(t, name+", a stream", err)
	}
	for path, want := range map[string]struct {
		status int
		says   string
	}{"/healthz": {200, "ok"}, "/readyz": {503, "it waits\nwait, too"}, "/metrics": {503, "it waits"}, "/fn/a/b": {503, "it waits"}} {
		res, err := s.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != want.status || !strings.Contains(string(b), want.says) {
			t.Errorf("%s: %d %s", path, res.StatusCode, b)
		}
	}
	res, err := s.Client().Post(s.URL+"/grpc.health.v1.Health/Check", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if !strings.Contains(string(b), "NOT_SERVING") {
		t.Errorf("health: %d %s", res.StatusCode, b)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/readyz", nil)
	req.Host = "elsewhere.example"
	if res, err = s.Client().Do(req); err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign host name: %d", res.StatusCode)
	}
}

func explains(t *testing.T, what string, err error) {
	t.Helper()
	var e *connect.Error
	if !errors.As(err, &e) || e.Code() != connect.CodeUnavailable || e.Message() != "it waits" || len(e.Details()) != 1 {
		t.Errorf("%s: %v", what, err)
		return
	}
	d, err := e.Details()[0].Value()
	if d, ok := d.(*wattlev1.ErrorDetail); !ok || d.Hint != "wait, too" || d.Reason != "joining" {
		t.Errorf("%s: %v, %v", what, d, err)
	}
}
