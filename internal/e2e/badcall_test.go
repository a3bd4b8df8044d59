package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// tight are limits that a guest without manners reaches at once.
var tight = &wattlev1.Limits{MemoryBytes: 8 << 20, Timeout: durationpb.New(200 * time.Millisecond), OutputBytes: 1 << 20, LogBytes: 1 << 10}

// illMannered are guests that do everything a guest should not, and what comes of it.
var illMannered = []struct {
	fixture, function string
	code              connect.Code
	reason, text      string
	status            int // of a plain POST
}{
	{"unreachable", "unreachable", connect.CodeAborted, "trap", "crashed: unreachable", http.StatusBadGateway},
	{"unreachable", "oob", connect.CodeAborted, "trap", "out of bounds memory access", http.StatusBadGateway},
	{"unreachable", "divzero", connect.CodeAborted, "trap", "integer divide by zero", http.StatusBadGateway},
	{"recurse", "recurse", connect.CodeResourceExhausted, "stack_limit", "deeper than its limit", http.StatusUnprocessableEntity},
	{"stderr", "gopanic", connect.CodeAborted, "trap", "panic: boom", http.StatusBadGateway},
	{"badptr", "output_write", connect.CodeAborted, "trap", "", http.StatusBadGateway},
	{"fail", "odd", connect.CodeAborted, "trap", "status 77", http.StatusBadGateway},
	{"spin", "spin", connect.CodeDeadlineExceeded, "time_limit", "200ms", http.StatusGatewayTimeout},
	{"sleep", "sleep", connect.CodeDeadlineExceeded, "time_limit", "200ms", http.StatusGatewayTimeout},
	{"logsforever", "logsforever", connect.CodeDeadlineExceeded, "time_limit", "200ms", http.StatusGatewayTimeout},
	{"grow", "grow", connect.CodeResourceExhausted, "memory_limit", "8388608", http.StatusUnprocessableEntity},
	{"flood", "flood", connect.CodeResourceExhausted, "output_limit", "1048576", http.StatusUnprocessableEntity},
	{"fail", "fail", connect.CodeUnknown, "function_error", "the lake is dry", http.StatusUnprocessableEntity},
	{"fail", "silent", connect.CodeUnknown, "function_error", "without a message", http.StatusUnprocessableEntity},
	{"failperm", "failperm", connect.CodeUnknown, "function_error", "no such lake", http.StatusUnprocessableEntity},
}

func (n *target) pushIllMannered() (services []string) {
	n.t.Helper()
	for _, g := range illMannered {
		limits := proto.CloneOf(tight)
		if g.reason != "time_limit" {
			limits.Timeout = durationpb.New(time.Minute) // on a busy machine, others would come first to a short one
		}
		n.push(g.fixture, testdata.Wasm(g.fixture), client.PushOptions{Limits: limits})
	}
	res, err := n.Registry.ListServices(n.t.Context(), connect.NewRequest(&wattlev1.ListServicesRequest{}))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, s := range res.Msg.Services {
		if s.Name != "echo" {
			services = append(services, s.Name)
		}
	}
	return services
}

// Whatever a guest does, its caller learns what it was, by every protocol, and nobody else notices.
func TestBadGuestsByCall(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.bystander()
		services := n.pushIllMannered()
		grpc := client.Dial(n.addr, client.WithGRPC())
		defer grpc.Close()
		for _, g := range illMannered {
			ref := g.fixture + "/" + g.function
			for protocol, c := range map[string]*client.Client{"connect": n.Client, "grpc": grpc} {
				_, err := c.Invoke(t.Context(), ref, nil)
				if connect.CodeOf(err) != g.code || client.Reason(err) != g.reason || !strings.Contains(err.Error(), g.text) {
					t.Errorf("%s by %s: %v (%s), want %v, %s, %q", ref, protocol, err, client.Reason(err), g.code, g.reason, g.text)
					continue
				}
				clean(t, ref, strings.ReplaceAll(err.Error(), "panic: boom", ""))
				// A guest's own words are not the node's to comment on; its limits are.
				if strings.HasSuffix(g.reason, "_limit") && client.Hint(err) == "" {
					t.Errorf("%s: a limit without a hint", ref)
				}
			}
			res, err := http.Post(n.url("/fn/"+ref), "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if text := body(t, res); res.StatusCode != g.status || res.Header.Get("Wattle-Error") != g.reason || !strings.Contains(text, g.text) {
				t.Errorf("POST %s: %d, %s: %s", ref, res.StatusCode, res.Header.Get("Wattle-Error"), text)
			}
		}
		n.undisturbed(t, 0, services...)
	})
}

// A caller may shorten a function's time, and is told when the time it gave is over.
func TestCallTimeout(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.bystander()
		n.pushFixture("sleep")
		_, err := n.Functions.Invoke(t.Context(), connect.NewRequest(&wattlev1.InvokeRequest{Service: "sleep", Function: "sleep", Timeout: durationpb.New(50 * time.Millisecond)}))
		refused(t, "timeout", err, connect.CodeDeadlineExceeded, "time_limit", "timeout")
		_, err = n.Functions.Invoke(t.Context(), connect.NewRequest(&wattlev1.InvokeRequest{Service: "sleep", Function: "sleep", Timeout: durationpb.New(-1)}))
		refused(t, "negative timeout", err, connect.CodeInvalidArgument, "bad_timeout", "leave it out")
		for header, want := range map[string]int{"50ms": 504, "-1s": 400, "soon": 400, "0s": 400} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url("/fn/sleep/sleep"), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Wattle-Timeout", header)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if text := body(t, res); res.StatusCode != want {
				t.Errorf("Wattle-Timeout %s: %d: %s", header, res.StatusCode, text)
			}
		}
		n.undisturbed(t, 0, "sleep")
	})
}

// Calls of what does not exist or cannot be called say so, and what there is instead.
func TestBadCalls(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.bystander()
		n.pushPlugin("wordcount")
		const invalid, notFound = connect.CodeInvalidArgument, connect.CodeNotFound
		for _, c := range []struct {
			service, version, function string
			code                       connect.Code
			reason, hint               string
			status                     int
		}{
			{"ecko", "", "echo", notFound, "unknown_service", "did you mean echo?", 404},
			{"nobody", "", "echo", notFound, "unknown_service", "wattle service ls", 404},
			{"echo", "", "ecko", notFound, "unknown_function", "it has echo", 404},
			{"echo", "2", "echo", notFound, "unknown_version", "it has 1", 404},
			{"echo", "live", "echo", notFound, "unknown_version", "it has 1", 404},
			{"echo", digestOf(nil), "echo", notFound, "unknown_version", "it has 1", 404},
			{"echo", "0", "echo", invalid, "bad_version", "", 400},
			{"echo", "99999999999999999999999", "echo", invalid, "bad_version", "", 400},
			{"echo", "sha256-1234", "echo", invalid, "bad_version", "64 hex digits", 400},
			{"echo", "No Such", "echo", invalid, "bad_version", "an alias", 400},
			{"wordcount", "", "map", invalid, "wrong_kind", "in a job", 400},
			{"wordcount", "", "reduce", invalid, "wrong_kind", "in a job", 400},
		} {
			what := c.service + "@" + c.version + "/" + c.function
			_, err := n.Functions.Invoke(t.Context(), connect.NewRequest(&wattlev1.InvokeRequest{Service: c.service, Version: c.version, Function: c.function}))
			refused(t, what, err, c.code, c.reason, c.hint)
			path := "/fn/" + c.service
			if c.version != "" {
				path += "@" + strings.ReplaceAll(c.version, " ", "%20")
			}
			res, err := http.Post(n.url(path+"/"+c.function), "", nil)
			if err != nil {
				t.Fatal(err)
			}
			if text := body(t, res); res.StatusCode != c.status || res.Header.Get("Wattle-Error") != c.reason || !strings.Contains(text, c.hint) {
				t.Errorf("POST %s: %d, %s: %s", path, res.StatusCode, res.Header.Get("Wattle-Error"), text)
			}
		}
		_, err := n.Functions.Invoke(t.Context(), connect.NewRequest(&wattlev1.InvokeRequest{Service: "echo"}))
		refused(t, "no function", err, invalid, "no_function", "wattle service get echo")
		_, err = n.Functions.Invoke(t.Context(), connect.NewRequest(&wattlev1.InvokeRequest{}))
		refused(t, "nothing", err, notFound, "unknown_service", "wattle service ls")
		n.undisturbed(t, 0, "wordcount")
	})
}
