package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestScenarios runs the scripts in testdata. Run with -rewrite to take over what comes out, and read the
// difference before committing it.
//
//	node a [zone=x] [silent|gone|draining|forgotten]   adds or changes a node
//	shards want=3                                      one line each: 0: a* b +c ++d ~
//	next [changing=] [incoming=] [transfers=]          what is asked for
//	settle [same]                                      what is asked for in each round, and what is there in the end
//
// A star marks the leader, one plus a learner, two a learner that has caught up, ~ a shard that is changing.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		c := &cluster{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return c.run(t, d) })
	})
}

func (c *cluster) run(t *testing.T, d *datadriven.TestData) string {
	var l Limits
	d.MaybeScanArgs(t, "changing", &l.Changing)
	d.MaybeScanArgs(t, "incoming", &l.Incoming)
	d.MaybeScanArgs(t, "transfers", &l.Transfers)
	switch d.Cmd {
	case "node":
		c.change(t, d)
	case "shards":
		d.MaybeScanArgs(t, "want", &c.want)
		if d.Input != "" {
			c.shards = nil
		}
		for line := range strings.Lines(d.Input) {
			c.shards = append(c.shards, c.parse(t, line))
		}
	case "next":
		return c.describe(Next(c.view(), l))
	case "settle":
		var b strings.Builder
		for round := 1; ; round++ {
			if round > 100 {
				t.Fatalf("never at rest:\n%s", c)
			}
			before := cluster{nodes: c.nodes, shards: slices.Clone(c.shards)}
			moves := c.round(l, nil)
			if len(moves) == 0 && !c.learners() {
				break
			}
			fmt.Fprintf(&b, "%d:\n%s", round, before.describe(moves))
		}
		return b.String() + c.String()
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	return ""
}

func (c *cluster) change(t *testing.T, d *datadriven.TestData) {
	id := NodeID(d.CmdArgs[0].Key)
	if d.HasArg("forgotten") {
		c.nodes = slices.DeleteFunc(c.nodes, func(n Node) bool { return n.ID == id })
		return
	}
	n := c.node(id)
	if n == nil {
		c.nodes = append(c.nodes, Node{ID: id})
		n = &c.nodes[len(c.nodes)-1]
	}
	d.MaybeScanArgs(t, "zone", &n.Zone)
	n.Health, n.Draining = Alive, d.HasArg("draining")
	if d.HasArg("silent") {
		n.Health = Silent
	}
	if d.HasArg("gone") {
		n.Health = Gone
	}
}

func (c *cluster) parse(t *testing.T, line string) Shard {
	var s Shard
	f := strings.Fields(line)
	if _, err := fmt.Sscanf(f[0], "%d:", &s.ID); err != nil {
		t.Fatal(err)
	}
	for _, w := range f[1:] {
		if w == "~" {
			s.Changing = true
			continue
		}
		c.ids++
		r := Replica{ID: c.ids, Voter: !strings.HasPrefix(w, "+"), CaughtUp: strings.HasPrefix(w, "++")}
		w = strings.TrimLeft(w, "+")
		if strings.HasSuffix(w, "*") {
			s.Leader = r.ID
		}
		r.Node = NodeID(strings.TrimSuffix(w, "*"))
		s.Replicas = append(s.Replicas, r)
	}
	return s
}

// describe is Move.String with the names of nodes in the place of replicas.
func (c *cluster) describe(moves []Move) string {
	var b strings.Builder
	for _, m := range moves {
		names := func(ids []ReplicaID) (out []string) {
			for _, r := range c.shards[m.Shard].Replicas {
				if slices.Contains(ids, r.ID) {
					out = append(out, string(r.Node))
				}
			}
			return out
		}
		fmt.Fprintf(&b, "  %d:", m.Shard)
		switch m.Kind {
		case AddLearner:
			fmt.Fprintf(&b, " add %s", m.Node)
		case Swap:
			if len(m.Promote) > 0 {
				fmt.Fprintf(&b, " promote %s", strings.Join(names(m.Promote), " "))
			}
			if len(m.Remove) > 0 {
				fmt.Fprintf(&b, " remove %s", strings.Join(names(m.Remove), " "))
			}
		case TransferLeader:
			fmt.Fprintf(&b, " leader %s", strings.Join(names([]ReplicaID{m.Replica}), " "))
		}
		fmt.Fprintf(&b, " (%s)\n", m.Reason)
	}
	return b.String()
}
