package e2e

import (
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// While guests on a node with little memory for them loop, recurse, grow and flood, a good one always answers, and the node stays within
// its memory.
func TestHostileNeighbours(t *testing.T) {
	const budget = 128 << 20
	n := asBinary(t, node.Config{GuestMemory: budget})
	n.pushFixture("echo")
	n.push("hostile", testdata.Wasm("hostile"), client.PushOptions{Limits: &wattlev1.Limits{MemoryBytes: 64 << 20, Timeout: durationpb.New(300 * time.Millisecond)}})
	call := func() {
		if out, err := n.Invoke(t.Context(), "echo/echo", []byte("hello")); err != nil || string(out) != "hello" {
			t.Errorf("the good function answers %q, %v", out, err)
		}
	}
	call()
	before := n.metric("process_resident_memory_bytes")
	harmful := []string{"spin", "fib", "recurse", "membomb", "fillflood", "outflood", "logflood", "callflood", "errorflood"}
	var siege sync.WaitGroup
	for g := range 8 {
		siege.Go(func() {
			for i := range 2 * len(harmful) {
				// All fail but the flood of log lines, and all at their limits.
				_, err := n.Invoke(t.Context(), "hostile/"+harmful[(g+i)%len(harmful)], nil)
				switch reason := client.Reason(err); reason {
				case "", "time_limit", "stack_limit", "memory_limit", "output_limit", "node_memory":
				default:
					t.Errorf("%s: %s, %v", harmful[(g+i)%len(harmful)], reason, err)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() { siege.Wait(); close(over) }()
	most := before
	for done := false; !done; {
		select {
		case <-over:
			done = true
		default:
		}
		for range 50 {
			call()
		}
		most = max(most, n.metric("process_resident_memory_bytes"))
	}
	t.Logf("the node has %.0f MB, %.0f MB before", most/1e6, before/1e6)
	// Beside the guests' budget there is the process's own heap, half of which is garbage in such a flood; without a budget it would be a gigabyte.
	if most-before > budget+300e6 {
		t.Errorf("the node grew by %.0f MB although its guests get %.0f", (most-before)/1e6, budget/1e6)
	}
	if used, retired := n.metric("wattle_guest_memory_bytes"), n.metric("wattle_slots_retired_total"); used > budget || retired > 0 {
		t.Errorf("guests are charged with %.0f bytes; %.0f slots were retired", used, retired)
	}
}
