package host

import (
	"slices"
	"sync/atomic"

	"github.com/wattlehq/wattle/internal/fault"
)

// Counters tell what a Host does and did.
type Counters struct {
	Running int    // calls, modules that are loaded included
	Idle    int    // slots that wait for a call
	Memory  uint64 // bytes that guests are charged with
	Fuel    uint64 // used by all calls so far
	Retired uint64 // slots that could not be put back to their image
	// Limits counts the calls that were ended or refused, by the reason of their error.
	Limits map[string]uint64
}

var limitReasons = []string{
	"memory_limit", "fuel_limit", "time_limit", "stack_limit", "table_limit", "output_limit", "log_limit", "concurrency_limit", "node_memory", "payload_limit",
}

// LimitReasons are the keys of Counters.Limits.
func LimitReasons() []string { return slices.Clone(limitReasons) }

// Counters answers the counts as they are now.
func (h *Host) Counters() Counters {
	c := Counters{Running: int(h.inflight.Load() % closing), Memory: h.budget.used.Load(), Fuel: h.fuel.Load(), Retired: h.retired.Load(), Limits: map[string]uint64{}}
	for _, e := range h.modules.all() {
		e.slots.mu.Lock()
		c.Idle += len(e.slots.idle)
		e.slots.mu.Unlock()
	}
	for i, r := range limitReasons {
		c.Limits[r] = h.limits[i].Load()
	}
	return c
}

type limitCounts [10]atomic.Uint64

// reached counts an error that is about a limit.
func (h *Host) reached(err error) {
	if f := fault.As(err); f != nil {
		h.limited(f.Reason)
	}
}

func (h *Host) limited(reason string) {
	if i := slices.Index(limitReasons, reason); i >= 0 {
		h.limits[i].Add(1)
	}
}
