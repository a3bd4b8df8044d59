package dag

import (
	"testing"
	"time"
)

// A node that runs short tasks tells how many more it wants at a pace that goes with them, and asks for a reply now and then only. From the
// replies it knows how long a round trip takes, and what is leased.
func TestPacing(t *testing.T) {
	t.Parallel()
	now := epoch
	h := NewHolder(HolderConfig{ShardOf: oneShard, Slots: 4, Session: 1})
	h.Ask([]string{"x"})
	const trip, took, rounds = 30 * time.Millisecond, 10 * time.Millisecond, 400
	var told, probed, most int
	type reply struct {
		at time.Time
		Reply
	}
	var coming []reply
	index := uint32(0)
	for range rounds { // one each millisecond
		for len(coming) > 0 && !now.Before(coming[0].at) {
			h.Reply(now, "x", coming[0].Reply)
			coming = coming[1:]
		}
		reports, next := h.Reports(now)
		if r, ok := reports["x"]; ok {
			if told++; !r.Quiet {
				probed++
				coming = append(coming, reply{now.Add(trip), Reply{Seq: r.Seq}})
			}
			most = max(most, r.Want+len(r.Held))
			for range r.Want {
				h.Given("x", 1, Pick{Task: TaskID{"a", 0, index}, Attempt: 1})
				index++
			}
		} else if !next.After(now) {
			t.Fatal("the next report is due, and does not come")
		}
		if id, ok := h.Next(); ok {
			h.Done(id, took)
		}
		now = now.Add(time.Millisecond)
	}
	if told < rounds/5 || told > rounds/2 {
		t.Errorf("it reported %d times in %d ms", told, rounds)
	}
	if want := int(rounds * time.Millisecond / probeTime); probed < want || probed > want+2 {
		t.Errorf("%d of %d reports asked for a reply, want %d", probed, told, want)
	}
	if least, slowest := h.peers["x"].rtt(); least != trip || slowest != trip {
		t.Errorf("a round trip takes %v to %v, want %v", least, slowest, trip)
	}
	if id := h.Held()[0]; !h.Valid(now, id) || !h.Valid(now.Add(LeaseTime-2*probeTime), id) || h.Valid(now.Add(LeaseTime), id) {
		t.Error("what it holds is not leased for as long as it should be")
	}
	if most != 8 {
		t.Errorf("it wanted %d at most, want what it has slots for and as much ahead", most)
	}
}
