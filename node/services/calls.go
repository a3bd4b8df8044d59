package services

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// Calls counts the calls of a node and bounds them. It may be used concurrently.
type Calls struct {
	most int64
	// under are calls under way here, those that wait included; away those that another node runs for this one.
	under, away                 atomic.Int64
	forwarded, received, refuse atomic.Uint64
}

// NewCalls bounds the calls under way to most.
func NewCalls(most int) *Calls { return &Calls{most: int64(most)} }

// Counts tell what a node does and did with calls.
type Counts struct {
	// Under way here, and how many may be; Away are those that other nodes run for this one.
	Under, Most, Away int
	// Forwarded to other nodes, Received from them, and Refused because too many were under way.
	Forwarded, Received, Refused uint64
}

// Counts answers the counts as they are now.
func (c *Calls) Counts() Counts {
	return Counts{
		Under: int(c.under.Load()), Most: int(c.most), Away: int(c.away.Load()),
		Forwarded: c.forwarded.Load(), Received: c.received.Load(), Refused: c.refuse.Load(),
	}
}

// enter begins a call. A nested one always begins: what waits for it takes room as well, and would have worked for nothing.
func (c *Calls) enter(nested bool) bool {
	if c.under.Add(1) > c.most && !nested {
		c.under.Add(-1)
		return false
	}
	return true
}

func (c *Calls) leave() { c.under.Add(-1) }

// near tells that there is little room left.
func (c *Calls) near() bool { return c.under.Load() >= c.most-c.most/8 }

// Idle waits until no call is under way, or ctx is done.
func (c *Calls) Idle(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for c.under.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// retryAfter is about how long those wait who were refused; not all as long, so that they do not come back at once.
const retryAfter = time.Second

func (c *Calls) overloaded() error {
	c.refuse.Add(1)
	wait := retryAfter/2 + rand.N(retryAfter)
	return fault.New(fault.Exhausted, "overloaded", "the node has %d calls under way, which is the most, and no other has room that is known", c.most).
		With("limit", "calls").With("value", c.most).With("retry_after_ms", wait.Milliseconds()).
		Hint("try again in a second; or add nodes, or raise --max-calls if the node's processors are not busy")
}
