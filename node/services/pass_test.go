package services

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
	"github.com/wattlehq/wattle/node/grants"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/node/rpc"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store"
	"github.com/wattlehq/wattle/store/blob"
	"github.com/wattlehq/wattle/testdata"
)

// crowd are nodes that reach each other without a network, unless something is said to stand in between.
type crowd struct {
	self  shard.NodeID
	nodes map[shard.NodeID]*Services
	// between, if set, answers in the place of a node, or lets the request through.
	between func(to shard.NodeID, req *peerv1.InvokeRequest, pass func() peers.Outcome) peers.Outcome
	// frozen takes what it is sent and never answers.
	frozen shard.NodeID
}

func (c *crowd) Others() (all []shard.NodeID) {
	for id := range c.nodes {
		if id != c.self {
			all = append(all, id)
		}
	}
	return all
}

func (c *crowd) Nodes(ctx context.Context, ids []shard.NodeID) map[shard.NodeID]*wattlev1.Node {
	all := map[shard.NodeID]*wattlev1.Node{}
	for _, id := range ids {
		if id == c.frozen {
			<-ctx.Done()
			continue
		}
		n := c.nodes[id].Calls.Counts()
		all[id] = &wattlev1.Node{Ready: true, Slots: 1, Calls: uint32(n.Under), MaxCalls: uint32(n.Most)}
	}
	return all
}

func (c *crowd) Invoke(ctx context.Context, to shard.NodeID, req *peerv1.InvokeRequest) peers.Outcome {
	pass := func() peers.Outcome {
		// Of what a context carries, only its end travels.
		bare, cancel := context.WithCancel(context.Background())
		if d, ok := ctx.Deadline(); ok {
			bare, cancel = context.WithDeadline(context.Background(), d)
		}
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		o := c.nodes[to].Take(bare, proto.CloneOf(req))
		o.Answered = true
		return o
	}
	if c.between != nil {
		return c.between(to, req, pass)
	}
	return pass()
}

// unreachable is what comes of a call to a node that is not there.
func unreachable() peers.Outcome { return peers.Outcome{Err: errors.New("dial: refused")} }

// gated are blobs that can be had once the gate is open.
type gated struct {
	local
	gate <-chan struct{}
}

func (g gated) Open(ctx context.Context, d digest.Digest) (*blob.Blob, error) {
	select {
	case <-g.gate:
		return g.local.Open(ctx, d)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// newCrowd returns nodes that have published the fixtures, each as a service, and none of which has loaded them.
func newCrowd(t *testing.T, most int, ids []shard.NodeID, fixtures ...string) (map[shard.NodeID]*Services, map[shard.NodeID]*crowd) {
	t.Helper()
	blobs, err := blob.Open(store.OS, filepath.Join(t.TempDir(), "blobs"), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var services []*wattlev1.Service
	for _, name := range fixtures {
		wasm := testdata.Wasm(name)
		d, _, err := blobs.Put(t.Context(), bytes.NewReader(wasm))
		if err != nil {
			t.Fatal(err)
		}
		v := &wattlev1.Version{Service: name, Number: 3, Digest: d.String(), Capabilities: &wattlev1.Capabilities{Calls: []string{"echo/*", "hostcall/*"}}}
		h, err := host.New(t.Context(), host.Config{})
		if err != nil {
			t.Fatal(err)
		}
		info, err := h.Inspect(t.Context(), wasm)
		if err != nil {
			t.Fatal(err)
		}
		h.Close(context.Background())
		for _, f := range info.Functions {
			v.Functions = append(v.Functions, &wattlev1.Function{Name: f.Name, Kind: kinds[f.Kind]})
		}
		services = append(services, &wattlev1.Service{Name: name, Revision: 1, Versions: []*wattlev1.Version{v}})
	}
	nodes, crowds := map[shard.NodeID]*Services{}, map[shard.NodeID]*crowd{}
	for _, id := range ids {
		h, err := host.New(t.Context(), host.Config{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close(context.Background()) })
		calls := NewCalls(most)
		crowds[id] = &crowd{self: id, nodes: nodes}
		granted := &grants.Grants{Cache: grants.NewCache(1<<20, time.Now)}
		s := &Services{
			View: registry.NewView(), Host: h, Blobs: local{blobs}, Observe: func(string, string, time.Duration, error) {}, Grants: granted,
			Ready: func() bool { return true },
			Calls: calls, Others: &Others{Self: id, Slots: 1, Peers: crowds[id], Calls: calls, Stopping: t.Context()},
		}
		granted.Invoke = s.InvokeFor
		s.View.Load(services, 1)
		nodes[id] = s
	}
	return nodes, crowds
}

func (s *Services) ready(t *testing.T, service string) {
	t.Helper()
	v, err := s.View.Resolve(registry.Ref{Service: service})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Load(t.Context(), v.Digest); err != nil {
		t.Fatal(err)
	}
}

func (s *Services) balance(t *testing.T, service string, b *wattlev1.Balance) {
	t.Helper()
	old, err := s.View.Service(service)
	if err != nil {
		t.Fatal(err)
	}
	next := proto.CloneOf(old)
	next.Revision, next.Balance = old.Revision+1, b
	s.View.Apply(registry.Changed{Service: next, Revision: next.Revision})
}

// While a module is not ready here the call is answered by a node that has it, without a wait; once it is, here.
func TestForwardWhileLoading(t *testing.T) {
	t.Parallel()
	nodes, _ := newCrowd(t, 10, []shard.NodeID{"a", "b", "c", "d"}, "echo")
	gate := make(chan struct{})
	a := nodes["a"]
	a.Blobs = gated{a.Blobs.(local), gate}
	nodes["c"].ready(t, "echo")
	for range 5 {
		res, err := a.Invoke(t.Context(), rpc.Invocation{Service: "echo", Function: "echo", Payload: []byte("hi")})
		if err != nil || string(res.Payload) != "hi" || res.Node != "c" || res.Version != 3 || res.Stats.GetFuel() == 0 {
			t.Fatalf("%v, %v", res, err)
		}
	}
	if n := a.Calls.Counts(); n.Forwarded != 5 || n.Under != 0 || n.Away != 0 || nodes["c"].Calls.Counts().Received != 5 {
		t.Errorf("%+v", n)
	}
	if d, _ := nodes["b"].find(registry.Ref{Service: "echo", Function: "echo"}); nodes["b"].Host.Has(d.digest) {
		t.Error("a node that was asked in vain loaded the module, which nobody will want of it")
	}
	close(gate)
	a.ready(t, "echo")
	res, err := a.Invoke(t.Context(), rpc.Invocation{Service: "echo", Function: "echo"})
	if err != nil || res.Node != "a" {
		t.Errorf("%v, %v", res, err)
	}
}

// If nobody has the module, the node waits for its own load, one for all calls; a caller that gives up does not spoil it.
func TestNobodyHasIt(t *testing.T) {
	t.Parallel()
	nodes, _ := newCrowd(t, 10, []shard.NodeID{"a", "b"}, "echo")
	gate := make(chan struct{})
	a := nodes["a"]
	a.Blobs = gated{a.Blobs.(local), gate}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Invoke(ctx, rpc.Invocation{Service: "echo", Function: "echo"}); fault.Reason(err) != "canceled" {
		t.Error(err)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if res, err := a.Invoke(t.Context(), rpc.Invocation{Service: "echo", Function: "echo"}); err != nil || res.Node != "a" {
				t.Errorf("%v, %v", res, err)
			}
		})
	}
	close(gate)
	wg.Wait()
}

// A call whose fate on the other node is not known is not begun again; one that certainly did not begin is.
func TestNeverTwice(t *testing.T) {
	t.Parallel()
	lost := fault.New(fault.Unavailable, "call_lost", "gone")
	for _, x := range []struct {
		name    string
		outcome peers.Outcome
		want    string // reason
		runs    bool   // here
	}{
		{"lost", peers.Outcome{Begun: true, Err: lost}, "call_lost", false},
		{"unreachable", unreachable(), "", true},
		{"refused", peers.Outcome{Answered: true, Err: fault.New(fault.Exhausted, "overloaded", "full")}, "", true},
		{"failed", peers.Outcome{Answered: true, Begun: true, Err: fault.New(fault.Exhausted, "overloaded", "the function says so itself")}, "overloaded", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			nodes, crowds := newCrowd(t, 10, []shard.NodeID{"a", "b"}, "echo")
			a, asked := nodes["a"], 0
			crowds["a"].between = func(shard.NodeID, *peerv1.InvokeRequest, func() peers.Outcome) peers.Outcome {
				asked++
				return x.outcome
			}
			a.ready(t, "echo")
			a.balance(t, "echo", &wattlev1.Balance{Mode: random, Weights: map[string]uint32{"a": 0, "b": 1}})
			res, err := a.Invoke(t.Context(), rpc.Invocation{Service: "echo", Function: "echo"})
			if x.want == "" && (err != nil || res.Node != "a") || x.want != "" && fault.Reason(err) != x.want {
				t.Errorf("%v, %v", res, err)
			}
			if asked != 1 {
				t.Errorf("asked %d times", asked)
			}
		})
	}
}

// What a caller sees of a call that another node ran is what it would see of one that ran here: answers, errors, stats, deadlines.
func TestPassedLooksLocal(t *testing.T) {
	t.Parallel()
	nodes, _ := newCrowd(t, 10, []shard.NodeID{"a", "b"}, "echo", "fail", "spin", "sleep", "unreachable", "context", "hostcall")
	a := nodes["a"]
	for _, x := range []struct {
		service, function, payload string
		timeout, deadline          time.Duration
	}{
		{service: "echo", function: "echo", payload: "hello"},
		{service: "echo", function: "echo", payload: strings.Repeat("x", 1<<20)},
		{service: "fail", function: "fail"},
		{service: "spin", function: "spin", timeout: 30 * time.Millisecond},
		{service: "sleep", function: "sleep", timeout: 30 * time.Millisecond},
		{service: "sleep", function: "sleep", deadline: 50 * time.Millisecond},
		{service: "unreachable", function: "unreachable"},
	} {
		var got [2]*wattlev1.InvokeResponse
		var errs [2]error
		for i, at := range []map[string]uint32{{"a": 1, "b": 0}, {"a": 0, "b": 1}} {
			a.balance(t, x.service, &wattlev1.Balance{Mode: random, Weights: at})
			nodes["a"].ready(t, x.service)
			nodes["b"].ready(t, x.service)
			ctx, cancel := context.WithCancel(t.Context())
			if x.deadline > 0 {
				ctx, cancel = context.WithTimeout(t.Context(), x.deadline)
			}
			got[i], errs[i] = a.Invoke(ctx, rpc.Invocation{Service: x.service, Function: x.function, Payload: []byte(x.payload), Timeout: x.timeout})
			cancel()
			if got[i] != nil {
				if want := []string{"a", "b"}[i]; got[i].Node != want {
					t.Errorf("%s ran on %s, want %s", x.service, got[i].Node, want)
				}
				got[i].Node, got[i].Stats.Duration = "", nil
			}
		}
		if !proto.Equal(got[0], got[1]) {
			t.Errorf("%s: %v here, %v there", x.service, got[0], got[1])
		}
		if errs[0] == nil && errs[1] == nil {
			continue
		}
		here, there := fault.As(errs[0]), fault.As(errs[1])
		if here == nil || there == nil || errs[0].Error() != errs[1].Error() || here.Kind != there.Kind || here.Reason != there.Reason || here.Help != there.Help {
			t.Errorf("%s: %v here, %v there", x.service, errs[0], errs[1])
			continue
		}
		for k, v := range here.Fields {
			if there.Fields[k] != v {
				t.Errorf("%s: field %s is %s here, %s there", x.service, k, v, there.Fields[k])
			}
		}
		var failed [2]*rpc.FailedCall
		for i := range failed {
			errors.As(errs[i], &failed[i])
		}
		if x.deadline == 0 && ((failed[0] == nil) != (failed[1] == nil) || failed[0] != nil && x.timeout == 0 && failed[0].Stats.Fuel != failed[1].Stats.Fuel) {
			t.Errorf("%s: stats %v here, %v there", x.service, failed[0], failed[1])
		}
	}
}

// The trace and the chain of functions that wait travel.
func TestContextTravels(t *testing.T) {
	t.Parallel()
	nodes, crowds := newCrowd(t, 10, []shard.NodeID{"a", "b"}, "context", "echo")
	a := nodes["a"]
	nodes["b"].ready(t, "context")
	a.balance(t, "context", &wattlev1.Balance{Mode: random, Weights: map[string]uint32{"a": 0, "b": 1}})
	in := trace.New()
	ctx := grants.WithChain(trace.With(t.Context(), in), []string{"x/y", "context/context"})
	var seen *peerv1.InvokeRequest
	crowds["a"].between = func(_ shard.NodeID, req *peerv1.InvokeRequest, pass func() peers.Outcome) peers.Outcome {
		seen = req
		return pass()
	}
	v, err := a.View.Resolve(registry.Ref{Service: "context"})
	if err != nil {
		t.Fatal(err)
	}
	res, err := a.Invoke(ctx, rpc.Invocation{Service: "context", Function: v.Functions[0].Name})
	if err != nil || res.Node != "b" || !strings.Contains(string(res.Payload), in.String()) {
		t.Errorf("%s, %v, want the trace %s", res.GetPayload(), err, in)
	}
	if !slices.Equal(seen.Chain, grants.Chain(ctx)) {
		t.Errorf("chain %v", seen.Chain)
	}
}

// A node that has the module but has not heard of the version yet is asked again, instead of waiting for the load.
func TestAskedAgain(t *testing.T) {
	t.Parallel()
	nodes, crowds := newCrowd(t, 100, []shard.NodeID{"a", "b"}, "echo")
	a, b := nodes["a"], nodes["b"]
	a.Blobs = gated{a.Blobs.(local), make(chan struct{})}
	b.ready(t, "echo")
	known := b.View
	b.View = registry.NewView()
	var mu sync.Mutex
	asked := 0
	crowds["a"].between = func(_ shard.NodeID, _ *peerv1.InvokeRequest, pass func() peers.Outcome) peers.Outcome {
		mu.Lock()
		defer mu.Unlock()
		if asked++; asked == 3 {
			b.View = known
		}
		return pass()
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if res, err := a.Invoke(t.Context(), rpc.Invocation{Service: "echo", Function: "echo"}); err != nil || res.Node != "b" {
				t.Errorf("%v, %v", res, err)
			}
		})
	}
	wg.Wait()
	if asked != 22 {
		t.Errorf("asked %d times for 20 calls, 2 of them in vain", asked)
	}
}

// A node that does not answer is let alone for a while, longer each time; once gossip has it gone and back it starts anew.
func TestSilentNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &crowd{self: "a", nodes: map[shard.NodeID]*Services{"a": nil, "b": nil, "c": nil}}
		o := &Others{Self: "a", Peers: c, Calls: NewCalls(1), Stopping: t.Context()}
		b := func() bool { return slices.Contains(o.there(), "b") }
		for _, d := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second} {
			o.silent("b")
			time.Sleep(d - time.Nanosecond)
			if b() {
				t.Errorf("asked again before %v", d)
			}
			if time.Sleep(time.Nanosecond); !b() {
				t.Errorf("not asked again after %v", d)
			}
		}
		o.silent("b")
		o.said("b", 1, 2)
		o.silent("b")
		if time.Sleep(awayFor); !b() {
			t.Error("one that has answered counts as silent for long")
		}
		o.silent("c")
		o.silent("b")
		delete(c.nodes, "b")
		o.there()
		if c.nodes["b"] = nil; !b() {
			t.Error("one that came back is let alone")
		}
		if slices.Contains(o.there(), "c") {
			t.Error("one that stayed is not let alone")
		}
	})
}

// A node that has frozen, or is behind a network that drops what it is sent, is not given calls: nobody would know what became of them.
func TestFrozenNodeGetsNothing(t *testing.T) {
	t.Parallel()
	nodes, crowds := newCrowd(t, 10, []shard.NodeID{"a", "b"}, "echo")
	a := nodes["a"]
	for _, n := range nodes {
		n.ready(t, "echo")
	}
	a.balance(t, "echo", &wattlev1.Balance{Mode: hash, Weights: map[string]uint32{"a": 0}})
	crowds["a"].frozen = "b"
	crowds["a"].between = func(shard.NodeID, *peerv1.InvokeRequest, func() peers.Outcome) peers.Outcome {
		t.Error("it was sent a call")
		return unreachable()
	}
	in := rpc.Invocation{Service: "echo", Function: "echo", Key: "k"}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if res, err := a.Invoke(t.Context(), in); err != nil || res.Node != "a" {
				t.Errorf("%v, %v", res, err)
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a.Others.mu.Lock()
	clear(a.Others.known)
	a.Others.mu.Unlock()
	if _, err := a.Invoke(ctx, in); fault.Reason(err) != "canceled" {
		t.Errorf("a caller that left: %v", err)
	}
}
