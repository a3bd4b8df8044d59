package dag

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/wattlehq/wattle/internal/machine"
)

// TestLeases runs a leader's dispatcher against nodes that are played by the script. Job "a" has one shard.
func TestLeases(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/leases", func(t *testing.T, path string) {
		l := &leases{d: NewDispatcher(func(JobID) uint32 { return 0 }, "here", nil), now: epoch, seq: map[string]uint64{}, given: map[string]Pick{}}
		datadriven.RunTest(t, path, l.run)
	})
}

type leases struct {
	d     *Dispatcher
	now   time.Time
	seq   map[string]uint64
	given map[string]Pick // by what it is called
}

func name(id AttemptID) string {
	return fmt.Sprintf("%d.%d", id.Task.Index, id.Attempt)
}

func (l *leases) id(t *testing.T, s string) AttemptID {
	id := AttemptID{Task: TaskID{Job: "a"}}
	if _, err := fmt.Sscanf(s, "%d.%d", &id.Task.Index, &id.Attempt); err != nil {
		t.Fatal(s, err)
	}
	return id
}

func (l *leases) ids(t *testing.T, d *datadriven.TestData, key string) (ids []AttemptID) {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			for _, v := range a.Vals {
				ids = append(ids, l.id(t, v))
			}
		}
	}
	return ids
}

func (l *leases) run(t *testing.T, d *datadriven.TestData) string {
	var b strings.Builder
	number := func(key string) (n int) {
		d.MaybeScanArgs(t, key, &n)
		return n
	}
	node := ""
	d.MaybeScanArgs(t, "node", &node)
	switch d.Cmd {
	case "lead": // term=T tasks=N attempt=A admitted=T others=(n,...)
		run := Run{Task: TaskID{Job: "a"}, Count: uint32(number("tasks")), Attempt: uint32(max(1, number("attempt"))), Term: uint64(number("admitted"))}
		var others []string
		for _, a := range d.CmdArgs {
			if a.Key == "others" {
				others = a.Vals
			}
		}
		stale := l.d.Lead(l.now, 0, uint64(number("term")), []machine.Effect{run}, l.ids(t, d, "here"), others)
		for _, id := range stale {
			fmt.Fprintf(&b, "stale %s\n", name(id))
		}
	case "yield":
		l.d.Yield(0)
	case "report": // node=N held=(...) waiting=(...) returned=(...) want=W settled=T session=S quiet
		l.seq[node]++
		r := Report{Session: uint64(max(1, number("session"))), Seq: l.seq[node], Want: number("want"), Taker: Taker{RTT: time.Millisecond}, Returned: l.ids(t, d, "returned")}
		r.Quiet = d.HasArg("quiet")
		for _, id := range l.ids(t, d, "held") {
			r.Held = append(r.Held, Held{id, true})
		}
		for _, id := range l.ids(t, d, "waiting") {
			r.Held = append(r.Held, Held{id, false})
		}
		if n := number("settled"); n > 0 {
			r.Settled = []Led{{0, uint64(n)}}
		}
		l.d.Report(l.now, node, r)
	case "grants": // free=N
		for _, g := range l.d.Grants(l.now, number("free")) {
			p := g.Pick
			if g.Start != nil {
				p = l.d.Started(p, p.Attempt+1)
				fmt.Fprintf(&b, "%s is recorded\n", name(p.ID()))
			}
			fmt.Fprintf(&b, "%s goes to %s: %v\n", name(p.ID()), g.To, l.d.Granted(l.now, g.To, p))
		}
	case "next":
		for range max(1, number("n")) {
			p, start, ok := l.d.Next(l.now)
			if !ok {
				b.WriteString("nothing\n")
				break
			}
			if start != nil {
				p = l.d.Started(p, p.Attempt+1)
				fmt.Fprintf(&b, "%s is recorded\n", name(p.ID()))
			}
			fmt.Fprintf(&b, "%s runs here\n", name(p.ID()))
		}
	case "done": // id=.. took=MS
		for _, id := range l.ids(t, d, "id") {
			l.d.Done(id, time.Duration(number("took"))*time.Millisecond)
		}
	case "ended":
		for _, id := range l.ids(t, d, "id") {
			l.d.Applied(l.now, []machine.Effect{Ended{AttemptID: id, Took: time.Duration(number("took")) * time.Millisecond}})
		}
	case "over":
		l.d.Applied(l.now, []machine.Effect{Stop{"a"}})
	case "gone":
		l.d.Gone(node)
	case "after": // ms=N
		l.now = l.now.Add(time.Duration(number("ms")) * time.Millisecond)
		l.d.Expire(l.now)
	case "recall":
		l.d.Recall(number("free"))
	case "again":
		l.d.AskAgain()
	case "running": // here=(...)
		here := l.ids(t, d, "here")
		for _, r := range l.d.Running("a", func(id AttemptID) bool { return slices.Contains(here, id) }) {
			fmt.Fprintf(&b, "%d.%d on %s\n", r.Task, r.Attempt, r.Node)
		}
	case "replies":
		all := l.d.Replies()
		for _, n := range slices.Sorted(maps.Keys(all)) {
			r := all[n]
			fmt.Fprintf(&b, "%s: heard %d", n, r.Seq)
			for _, id := range r.Stale {
				fmt.Fprintf(&b, ", %s is stale", name(id))
			}
			for _, id := range r.Recalled {
				fmt.Fprintf(&b, ", %s is recalled", name(id))
			}
			for _, s := range r.Leads {
				fmt.Fprintf(&b, ", what of shard %d in term %d", s.Shard, s.Term)
			}
			b.WriteByte('\n')
		}
	default:
		t.Fatalf("what is %s?", d.Cmd)
	}
	if d.Cmd != "replies" {
		fmt.Fprintf(&b, "ready %d, leased %d\n", l.d.Ready(), len(l.d.leases))
	}
	return b.String()
}
