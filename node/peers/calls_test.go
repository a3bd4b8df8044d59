package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
)

// serve has node a answer with h, and returns what calls nodes there.
func serve(t *testing.T, h http.Handler) *Calls {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	clients := NewClients(func(id shard.NodeID) (string, bool) { return l.Addr().String(), id != "nobody" })
	t.Cleanup(clients.Close)
	return &Calls{Peers: clients}
}

// answering is the handler of node a.
func answering(fn func(context.Context, *peerv1.InvokeRequest) Outcome) http.Handler {
	_, h := (&Server{Hands: &Hands{Self: "a"}, Invoke: fn}).Handler()
	return h
}

// What a node says of a call is what the one that asked hears, sizes and all.
func TestInvoke(t *testing.T) {
	t.Parallel()
	failed := fault.New(fault.Guest, "function_error", "it says no").Hint("ask nicely").With("permanent", true)
	stats := &wattlev1.CallStats{Fuel: 7, Duration: durationpb.New(3)}
	for name, want := range map[string]Outcome{
		"answer":  {Begun: true, Answer: &wattlev1.InvokeResponse{Service: "s", Version: 3, Payload: make([]byte, 70<<20), Stats: stats, Node: "a"}},
		"empty":   {Begun: true, Answer: &wattlev1.InvokeResponse{}},
		"failure": {Begun: true, Err: failed, Stats: stats},
		"refusal": {Err: failed},
		"unclear": {Begun: true, Err: errors.New("the disk is on fire")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want.Calls, want.Most = 3, 4
			calls := serve(t, answering(func(_ context.Context, req *peerv1.InvokeRequest) Outcome {
				if len(req.Payload) != 16<<20 {
					t.Errorf("%d bytes of payload arrived", len(req.Payload))
				}
				return want
			}))
			got := calls.Invoke(t.Context(), "a", &peerv1.InvokeRequest{Payload: make([]byte, 16<<20)})
			if got.Begun != want.Begun || !got.Answered || got.Calls != 3 || got.Most != 4 || len(got.Answer.GetPayload()) != len(want.Answer.GetPayload()) || got.Stats.GetFuel() != want.Stats.GetFuel() {
				t.Errorf("begun %t, answered %t, %d of %d, %d bytes, fuel %d", got.Begun, got.Answered, got.Calls, got.Most, len(got.Answer.GetPayload()), got.Stats.GetFuel())
			}
			e := fault.As(got.Err)
			switch {
			case want.Err == nil:
				if got.Err != nil || got.Answer == nil {
					t.Error(got.Err)
				}
			case name == "unclear":
				if e == nil || e.Kind != fault.Internal || strings.Contains(e.Message, "fire") {
					t.Error(got.Err)
				}
			case e == nil || fmt.Sprint(*e) != fmt.Sprint(*failed):
				t.Errorf("%+v, want %+v", e, failed)
			}
		})
	}
}

// Only what certainly did not begin may be begun elsewhere.
func TestInvokeLost(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	gone := NewClients(func(shard.NodeID) (string, bool) { return closed.Addr().String(), true })
	t.Cleanup(gone.Close)
	works := answering(func(context.Context, *peerv1.InvokeRequest) Outcome {
		return Outcome{Begun: true, Answer: &wattlev1.InvokeResponse{}}
	})
	breaks := answering(func(context.Context, *peerv1.InvokeRequest) Outcome { panic(http.ErrAbortHandler) })
	for name, x := range map[string]struct {
		calls *Calls
		to    shard.NodeID
		begun bool
	}{
		"nobody listens":            {&Calls{Peers: gone}, "a", false},
		"an unknown node":           {serve(t, works), "nobody", false},
		"another node":              {serve(t, works), "b", false},
		"an older release":          {serve(t, http.NotFoundHandler()), "a", false},
		"it breaks off in a middle": {serve(t, breaks), "a", true},
	} {
		o := x.calls.Invoke(t.Context(), x.to, &peerv1.InvokeRequest{})
		if o.Err == nil || o.Begun != x.begun || o.Answered {
			t.Errorf("%s: begun %t, answered %t, %v", name, o.Begun, o.Answered, o.Err)
		}
		if e := fault.As(o.Err); x.begun && (e == nil || e.Reason != "call_lost" || e.Help == "") {
			t.Errorf("%s: %v", name, o.Err)
		}
	}
}

// A call ends with its caller, and not later than that would wait.
func TestInvokeEnds(t *testing.T) {
	t.Parallel()
	begun, ended := make(chan struct{}), make(chan bool, 1)
	calls := serve(t, answering(func(ctx context.Context, _ *peerv1.InvokeRequest) Outcome {
		close(begun)
		<-ctx.Done()
		_, limited := ctx.Deadline()
		ended <- limited
		return Outcome{Err: fault.New(fault.Canceled, "canceled", "it was")}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 1<<40)
	go func() { <-begun; cancel() }()
	if o := calls.Invoke(ctx, "a", &peerv1.InvokeRequest{}); o.Err == nil || !o.Begun {
		t.Errorf("%+v", o)
	}
	if limited := <-ended; !limited {
		t.Error("the deadline did not travel")
	}
}
