package dag

import (
	"testing"
	"time"

	"github.com/wattlehq/wattle/internal/machine"
)

// A start says that the attempt before fell silent, unless it is known that its node's process has ended.
func TestSilenceIsNoDeath(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	for _, dies := range []bool{true, false} {
		d := NewDispatcher(func(JobID) uint32 { return 0 }, "here", nil)
		run := []machine.Effect{Run{Task: TaskID{Job: "j"}, Count: 1, Attempt: 1, Term: 1}}
		next := func(what string, lead uint64, want bool) {
			t.Helper()
			g := d.Grants(now, 0)
			now = now.Add(time.Second) // before, it was too early to tell whether it is worth the way
			g = append(g, d.Grants(now, 0)...)
			if len(g) != 1 || g[0].Start == nil || g[0].Start.Silent != want {
				t.Fatalf("%s, which dies: %v: %v", what, dies, g)
			}
			p := d.Started(g[0].Pick, g[0].Attempt+1)
			if !d.Granted(now, "b", p) || p.Term != lead {
				t.Fatal(p)
			}
		}
		report := func(session, seq uint64, settled ...Led) {
			d.Report(now, "b", Report{Session: session, Seq: seq, Want: 9, Taker: Taker{RTT: 1}, Settled: settled})
		}
		session := uint64(1)
		lose := func() {
			if dies {
				session++
			} else {
				now = now.Add(LeaseTime)
				d.Expire(now)
			}
		}
		report(session, 1)
		// Under another leader, who is known to be in its place only since now.
		d.Lead(now, 0, 2, run, nil, []string{"b"})
		lose()
		report(session, 2, Led{0, 2})
		now = now.Add(time.Minute)
		report(session, 3)
		next("the holder under another leader", 2, !dies)
		// Under this one.
		lose()
		report(session, 4)
		next("the holder", 2, !dies)
	}
}
