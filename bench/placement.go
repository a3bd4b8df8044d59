package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/wattlehq/wattle/cluster"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/node/controller"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
	"github.com/wattlehq/wattle/shard/placement"
)

var placementBench = Bench{
	Name: "placement",
	About: "The controller's decisions in simulated clusters of up to 1,000 nodes and 10,000 shards of three replicas: what all nodes report is looked at, the placement function decides, " +
		"and what it decides is done at once, until nothing is left to do; no network, no disk. Looks are those that a cluster at rest allows in a second, beside the one that is taken. " +
		"Moves of a node that joins or is lost are beside the fair share of it, which must not be exceeded, and beside an addition and a swap for each replica, which is the least. " +
		"Moves decided in a second are beside those that may be under way at once. --svg FILE draws the plot.",
	Run: runPlacement,
}

// placementSVG is where the plot is drawn, if anywhere.
var placementSVG string

var fleetSizes = []struct{ nodes, shards int }{{10, 100}, {30, 300}, {100, 1000}, {300, 3000}, {1000, 10000}}

const (
	fleetZones = 5
	// betweenLooks and underWay are the controller's and placement's defaults.
	betweenLooks = time.Second
	underWay     = 64
)

func runPlacement(ctx context.Context, rounds int) (rows []Row, err error) {
	rest := series{name: "at rest", mark: '*', color: "#1f77b4"}
	worst := series{name: "the longest after a node joined or was lost", mark: 'o', color: "#d62728"}
	for _, size := range fleetSizes {
		got := map[string][]float64{}
		for range rounds {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if err := measure(size.nodes, size.shards, func(what string, v float64) { got[what] = append(got[what], v) }); err != nil {
				return nil, fmt.Errorf("%d nodes, %d shards: %w", size.nodes, size.shards, err)
			}
		}
		of := func(what string) float64 { return median(got[what]) }
		row := func(name, metric, unit string, ours float64, beside string, other float64) {
			rows = append(rows, Row{
				Bench: "placement", Case: fmt.Sprintf("%d nodes, %d shards, %s", size.nodes, size.shards, name), Metric: metric, Unit: unit,
				Wattle: ours, Beside: beside, Other: other, Ratio: ours / other,
			})
		}
		row("at rest", "looks", "1/s", 1/of("rest"), "taken", 1/betweenLooks.Seconds())
		for _, e := range []string{"one joins", "one is lost"} {
			row(e, "replicas moved", "", of(e+" moved"), "fair share", of(e+" fair"))
			row(e, "moves", "", of(e+" moves"), "two a replica", 2*of(e+" moved"))
			row(e, "decided", "1/s", of(e+" moves")/of(e+" time"), "under way at most", underWay)
			row(e, "longest look", "ms", 1000*of(e+" longest"), "time between looks", 1000*betweenLooks.Seconds())
		}
		rest.add(float64(size.nodes), 1000*of("rest"))
		worst.add(float64(size.nodes), 1000*max(of("one joins longest"), of("one is lost longest")))
	}
	p := plot{title: "One look of the controller, 10 shards for each node", x: "nodes", y: "ms", series: []series{rest, worst}}
	fmt.Fprint(os.Stderr, p.text())
	if placementSVG != "" {
		err = os.WriteFile(placementSVG, p.svg(), 0o644)
	}
	return rows, err
}

// measure drives one cluster through a rest, a node that joins and one that is lost.
func measure(nodes, shards int, note func(what string, v float64)) error {
	f := newModel(nodes, shards)
	// What it was dealt is not quite what it should be.
	if _, err := f.settle(placement.Limits{Incoming: 100, Changing: shards, Transfers: shards}); err != nil {
		return err
	}
	for range 5 {
		_, took := f.look(controller.Limits)
		note("rest", took.Seconds())
	}
	event := func(what string, fair int) error {
		r, err := f.settle(controller.Limits)
		if err != nil {
			return err
		}
		if r.added > fair {
			return fmt.Errorf("%s: %d replicas moved, more than the fair share of %d", what, r.added, fair)
		}
		for metric, v := range map[string]float64{
			"moved": float64(r.added), "fair": float64(fair), "moves": float64(r.moves), "time": r.all.Seconds(), "longest": r.longest.Seconds(),
		} {
			note(what+" "+metric, v)
		}
		return nil
	}
	f.join()
	if err := event("one joins", int(math.Ceil(float64(3*shards)/float64(nodes+1)))); err != nil {
		return err
	}
	return event("one is lost", f.lose(nodes/2))
}

// model is a cluster of which only the controller is real.
type model struct {
	now      time.Time
	members  []cluster.Member
	shards   []*peerv1.ReplicaStatus // as their leaders see them
	observer controller.Observer
}

// newModel deals three replicas of each shard to nodes next to each other, and so to different zones.
func newModel(nodes, shards int) *model {
	f := &model{now: time.Unix(0, 0), observer: controller.Observer{Grace: time.Minute}}
	for range nodes {
		f.join()
	}
	for i := range shards {
		s := &peerv1.ReplicaStatus{Shard: uint32(i), Replica: uint64(1 + i%3), Leading: true, Term: 1, Last: 1, Next: 4}
		for j := range 3 {
			n := (i*3 + j*(1+i*3/nodes%7*fleetZones)) % nodes // the second round meets other neighbours
			s.Members = append(s.Members, &peerv1.MemberStatus{Replica: uint64(1 + j), Node: f.members[n].ID, Voter: true, Active: true, Match: 1})
		}
		f.shards = append(f.shards, s)
	}
	return f
}

func (f *model) join() {
	n := len(f.members)
	f.members = append(f.members, cluster.Member{
		ID: fmt.Sprintf("n-%04d", n), Peer: fmt.Sprint("at-", n), Zone: fmt.Sprint("zone-", n%fleetZones), Status: cluster.Alive,
	})
}

// lose takes a node away for longer than the grace time, and tells how many replicas it had.
func (f *model) lose(node int) (held int) {
	f.members[node].Status = cluster.Failed
	for _, s := range f.shards {
		s.Members = slices.Clone(s.Members)
		for _, m := range s.Members {
			if m.Node == f.members[node].ID {
				m.Active = false
				held++
			}
		}
		if i := slices.IndexFunc(s.Members, func(m *peerv1.MemberStatus) bool { return m.Replica == s.Replica }); !s.Members[i].Active {
			f.elect(s)
		}
	}
	f.look(controller.Limits)
	f.now = f.now.Add(time.Hour)
	return held
}

// elect has the next voter lead.
func (f *model) elect(s *peerv1.ReplicaStatus) {
	i := slices.IndexFunc(s.Members, func(m *peerv1.MemberStatus) bool { return m.Voter && m.Active })
	s.Replica, s.Term = s.Members[i].Replica, s.Term+1
}

// reports are what all nodes that are there say.
func (f *model) reports() (all []directory.Report) {
	said := map[string]*peerv1.GetReplicasResponse{}
	for _, m := range f.members {
		if m.Status == cluster.Alive {
			said[m.ID] = &peerv1.GetReplicasResponse{}
			all = append(all, directory.Report{Node: shard.NodeID(m.ID), Answer: said[m.ID]})
		}
	}
	for _, s := range f.shards {
		for _, m := range s.Members {
			r := s
			if m.Replica != s.Replica {
				r = &peerv1.ReplicaStatus{Shard: s.Shard, Replica: m.Replica, Term: s.Term, Leader: s.Replica, Last: s.Last}
			}
			if a := said[m.Node]; a != nil {
				a.Replicas = append(a.Replicas, r)
			}
		}
	}
	return all
}

// look decides once, and tells how long that took.
func (f *model) look(l placement.Limits) ([]controller.Step, time.Duration) {
	reports := f.reports()
	begin := time.Now()
	p := f.observer.Look(f.now, f.members, reports, controller.DefaultReplicas)
	steps := p.Steps(placement.Next(p.View, l))
	return steps, time.Since(begin)
}

// settled is what it took to come to rest.
type settled struct {
	moves, added int
	all, longest time.Duration
}

// settle looks and does what is decided until nothing is left to do.
func (f *model) settle(l placement.Limits) (r settled, err error) {
	for range 1000 {
		steps, took := f.look(l)
		r.moves, r.all, r.longest = r.moves+len(steps), r.all+took, max(r.longest, took)
		learners := false
		for _, s := range f.shards {
			for _, m := range s.Members {
				if m.Match = s.Last; !m.Voter { // it has caught up by the next look
					learners = true
				}
			}
		}
		if len(steps) == 0 && !learners {
			return r, nil
		}
		for _, s := range steps {
			r.added += f.do(s)
		}
		f.now = f.now.Add(betweenLooks)
	}
	return r, errors.New("never at rest")
}

// do carries a step out, and tells how many replicas it added.
func (f *model) do(step controller.Step) (added int) {
	s := f.shards[step.Shard]
	if step.Transfer != 0 {
		s.Replica, s.Term = step.Transfer, s.Term+1
	}
	for _, c := range step.Changes {
		switch {
		case c.Add != "":
			s.Members = append(s.Members, &peerv1.MemberStatus{Replica: s.Next, Node: string(c.Add), Active: true})
			s.Next++
			added++
		case c.Promote != 0:
			i := slices.IndexFunc(s.Members, func(m *peerv1.MemberStatus) bool { return m.Replica == c.Promote })
			s.Members[i].Voter = true
		default:
			s.Members = slices.DeleteFunc(s.Members, func(m *peerv1.MemberStatus) bool { return m.Replica == c.Remove })
		}
	}
	if !slices.ContainsFunc(s.Members, func(m *peerv1.MemberStatus) bool { return m.Replica == s.Replica }) {
		f.elect(s)
	}
	return added
}
