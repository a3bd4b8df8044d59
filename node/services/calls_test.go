package services

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"testing"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/node/rpc"
	"github.com/wattlehq/wattle/shard"
)

// fill has so many calls under way at a node until the test lets them go.
func (s *Services) fill(t *testing.T, n int) (empty func()) {
	t.Helper()
	for range n {
		if !s.Calls.enter(false) {
			t.Fatal("it was full before")
		}
	}
	return sync.OnceFunc(func() {
		for range n {
			s.Calls.leave()
		}
	})
}

// A full node has one with room run what comes; where all are full the caller is told, with a time to come back.
func TestOverload(t *testing.T) {
	t.Parallel()
	nodes, crowds := newCrowd(t, 8, []shard.NodeID{"a", "b"}, "echo")
	a, b := nodes["a"], nodes["b"]
	for _, n := range nodes {
		n.ready(t, "echo")
	}
	in := rpc.Invocation{Service: "echo", Function: "echo"}
	emptyA := a.fill(t, 8)
	if res, err := a.Invoke(t.Context(), in); err != nil || res.Node != "b" {
		t.Fatalf("%v, %v", res, err)
	}
	b.fill(t, 8)
	asked := 0
	crowds["a"].between = func(_ shard.NodeID, _ *peerv1.InvokeRequest, pass func() peers.Outcome) peers.Outcome {
		asked++
		return pass()
	}
	for range 3 {
		_, err := a.Invoke(t.Context(), in)
		e := fault.As(err)
		if e == nil || e.Kind != fault.Exhausted || e.Reason != "overloaded" || e.Help == "" {
			t.Fatal(err)
		}
		if ms, err := strconv.Atoi(e.Fields["retry_after_ms"]); err != nil || ms <= 0 {
			t.Errorf("retry after %q", e.Fields["retry_after_ms"])
		}
	}
	if asked > 1 {
		t.Errorf("a node that is known to be full was asked %d times", asked)
	}
	if n := a.Calls.Counts(); n.Refused != 3 || n.Under != 8 || n.Away != 0 {
		t.Errorf("%+v", n)
	}
	emptyA()
	if res, err := a.Invoke(t.Context(), in); err != nil || res.Node != "a" {
		t.Errorf("once there is room: %v, %v", res, err)
	}
}

// What a function calls is not refused by the node that the function fills.
func TestNestedGoesOn(t *testing.T) {
	t.Parallel()
	nodes, _ := newCrowd(t, 4, []shard.NodeID{"a"}, "echo")
	a := nodes["a"]
	a.ready(t, "echo")
	a.fill(t, 4)
	got, err := a.InvokeFor(trace.With(t.Context(), trace.New()), &host.Invocation{Service: "echo", Function: "echo", Payload: []byte("in")})
	if err != nil || string(got) != "in" {
		t.Errorf("%q, %v", got, err)
	}
}

// A call is passed on once: a node that gets it from another one runs it, or refuses it.
func TestOnce(t *testing.T) {
	t.Parallel()
	nodes, crowds := newCrowd(t, 8, []shard.NodeID{"a", "b", "c"}, "echo")
	for _, id := range []shard.NodeID{"b", "c"} {
		crowds[id].between = func(shard.NodeID, *peerv1.InvokeRequest, func() peers.Outcome) peers.Outcome {
			t.Error("passed on twice")
			return unreachable()
		}
	}
	for _, n := range nodes {
		n.ready(t, "echo")
		n.balance(t, "echo", &wattlev1.Balance{Mode: roundRobin})
	}
	nodes["b"].fill(t, 8)
	on := map[string]int{}
	for range 12 {
		res, err := nodes["a"].Invoke(t.Context(), rpc.Invocation{Service: "echo", Function: "echo"})
		if err != nil {
			t.Fatal(err)
		}
		on[res.Node]++
	}
	if on["a"] != 8 || on["c"] != 4 { // those for b came back
		t.Errorf("%v", on)
	}
}

// A node that was chosen makes ready what it lacks, and runs the next calls.
func TestChosenLoads(t *testing.T) {
	t.Parallel()
	nodes, _ := newCrowd(t, 8, []shard.NodeID{"a", "b"}, "echo")
	a := nodes["a"]
	a.ready(t, "echo")
	a.balance(t, "echo", &wattlev1.Balance{Mode: hash, Weights: map[string]uint32{"a": 0}})
	in := rpc.Invocation{Service: "echo", Function: "echo", Key: "k"}
	if res, err := a.Invoke(t.Context(), in); err != nil || res.Node != "a" {
		t.Fatalf("%v, %v", res, err)
	}
	nodes["b"].ready(t, "echo") // joins the load that the call began, or finds it done
	if res, err := a.Invoke(t.Context(), in); err != nil || res.Node != "b" {
		t.Errorf("%v, %v", res, err)
	}
	in.Key = ""
	if res, err := a.Invoke(t.Context(), in); err != nil || res.Node != "a" {
		t.Errorf("without a key: %v, %v", res, err)
	}
}

// A node that is starting or stopping takes nothing from others.
func TestNotReady(t *testing.T) {
	t.Parallel()
	nodes, _ := newCrowd(t, 8, []shard.NodeID{"a", "b"}, "echo")
	a, b := nodes["a"], nodes["b"]
	b.ready(t, "echo")
	b.Ready = func() bool { return false }
	if res, err := a.Invoke(t.Context(), rpc.Invocation{Service: "echo", Function: "echo"}); err != nil || res.Node != "a" {
		t.Errorf("%v, %v", res, err)
	}
}

// Calls that last are shared out evenly by the least active, whichever node they come to.
func TestLeastActiveShares(t *testing.T) {
	t.Parallel()
	nodes, _ := newCrowd(t, 100, []shard.NodeID{"a", "b", "c"}, "sleep")
	for _, n := range nodes {
		n.ready(t, "sleep")
		n.balance(t, "sleep", &wattlev1.Balance{Mode: leastActive})
	}
	under := func() (all int) {
		for _, n := range nodes {
			all += n.Calls.Counts().Under
		}
		return all
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			if _, err := nodes["a"].Invoke(ctx, rpc.Invocation{Service: "sleep", Function: "sleep"}); fault.Reason(err) != "canceled" {
				t.Error(err)
			}
		})
		for under() <= i {
			runtime.Gosched()
		}
	}
	for id, n := range nodes {
		if got := n.Calls.Counts(); got.Under < 8 || got.Under > 12 {
			t.Errorf("%s has %d of 30 calls", id, got.Under)
		}
	}
	cancel()
	wg.Wait()
}
