package controller

import (
	"context"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/wattlehq/wattle/cluster"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
	"github.com/wattlehq/wattle/shard/placement"
)

func member(id string, s cluster.Status) cluster.Member {
	return cluster.Member{ID: id, Peer: "at-" + id, Status: s, Zone: "z"}
}

// led is what the leader of shard 0 says: replica 1 is on a, 2 on b and so on.
func led(replica uint64, term uint64, members ...*peerv1.MemberStatus) *peerv1.GetReplicasResponse {
	s := &peerv1.ReplicaStatus{Replica: replica, Leading: true, Term: term, Last: 1000, Next: uint64(len(members)) + 1}
	for i, m := range members {
		m.Replica = uint64(i) + 1
		s.Members = append(s.Members, m)
	}
	return &peerv1.GetReplicasResponse{Replicas: []*peerv1.ReplicaStatus{s}}
}

func voter(node string) *peerv1.MemberStatus {
	return &peerv1.MemberStatus{Node: node, Voter: true, Active: true, Match: 1000}
}

func said(node shard.NodeID, answer *peerv1.GetReplicasResponse) directory.Report {
	return directory.Report{Node: node, Answer: answer}
}

func newObserver() *Observer { return &Observer{Grace: time.Minute} }

func healthOf(t *testing.T, p Picture, id string) placement.Node {
	t.Helper()
	i := slices.IndexFunc(p.View.Nodes, func(n placement.Node) bool { return string(n.ID) == id })
	if i < 0 {
		t.Fatalf("%s is not in the view: %v", id, p.View.Nodes)
	}
	return p.View.Nodes[i]
}

// A node that gossip says has failed, or does not know at all, is silent for the grace time and gone after that; one that
// said goodbye is gone at once, and so is one whose place another has taken.
func TestHealth(t *testing.T) {
	t.Parallel()
	o := newObserver()
	begin := time.Unix(1000, 0)
	members := []cluster.Member{member("a", cluster.Alive), member("b", cluster.Failed), member("d", cluster.Left), member("e", cluster.Leaving), member("f", cluster.Alive)}
	reports := []directory.Report{
		said("a", led(1, 1, voter("a"), voter("b"), voter("c"))), said("b", nil), said("d", nil), said("e", &peerv1.GetReplicasResponse{}), said("f", nil),
	}
	p := o.Look(begin, members, reports, 3)
	for id, want := range map[string]placement.Node{
		"a": {ID: "a", Zone: "z"}, "b": {ID: "b", Zone: "z", Health: placement.Silent}, "c": {ID: "c", Health: placement.Silent},
		"d": {ID: "d", Zone: "z", Health: placement.Gone, Draining: true}, "e": {ID: "e", Zone: "z", Draining: true},
		"f": {ID: "f", Zone: "z", Health: placement.Silent},
	} {
		if got := healthOf(t, p, id); got != want {
			t.Errorf("at first: %+v, want %+v", got, want)
		}
	}
	p = o.Look(begin.Add(59*time.Second), members, reports, 3)
	if b, c := healthOf(t, p, "b"), healthOf(t, p, "c"); b.Health != placement.Silent || c.Health != placement.Silent {
		t.Errorf("within the grace time: %+v, %+v", b, c)
	}
	p = o.Look(begin.Add(61*time.Second), members, reports, 3)
	if b, c, f := healthOf(t, p, "b"), healthOf(t, p, "c"), healthOf(t, p, "f"); b.Health != placement.Gone || c.Health != placement.Gone || f.Health != placement.Silent {
		t.Errorf("after the grace time: %+v, %+v, %+v", b, c, f)
	}
	// It is back for a moment: the time begins anew.
	members[1].Status, reports[1].Answer = cluster.Alive, &peerv1.GetReplicasResponse{}
	if b := healthOf(t, o.Look(begin.Add(62*time.Second), members, reports, 3), "b"); b.Health != placement.Alive {
		t.Errorf("back: %+v", b)
	}
	members[1].Status, reports[1].Answer = cluster.Failed, nil
	if b := healthOf(t, o.Look(begin.Add(63*time.Second), members, reports, 3), "b"); b.Health != placement.Silent {
		t.Errorf("silent again: %+v", b)
	}
	wiped := append(members, cluster.Member{ID: "b2", Peer: "at-b", Status: cluster.Alive})
	if b := healthOf(t, o.Look(begin.Add(64*time.Second), wiped, reports, 3), "b"); b.Health != placement.Silent {
		t.Errorf("another is at its place, says gossip: %+v", b)
	}
	// Nobody knows c any more; one says that it was c.
	back := append(members, cluster.Member{ID: "c2", Peer: "elsewhere", Status: cluster.Alive, Replaces: []string{"c"}})
	heard := append(reports, said("c2", &peerv1.GetReplicasResponse{}))
	if c := healthOf(t, newObserver().Look(begin, back, heard, 3), "c"); c.Health != placement.Gone || !c.Draining {
		t.Errorf("another says that it was this one: %+v", c)
	}
	reports = append(reports, said("b2", &peerv1.GetReplicasResponse{}))
	for _, status := range []cluster.Status{cluster.Failed, cluster.Alive} {
		wiped[1].Status = status
		if b := healthOf(t, o.Look(begin.Add(65*time.Second), wiped, reports, 3), "b"); b.Health != placement.Gone || !b.Draining {
			t.Errorf("another answers at its place: %+v", b)
		}
	}
}

// Of two that think they lead, the one with the newer term is asked; learners are caught up when little is missing; replicas
// that their shard has removed are strays, those it may have added since are not.
func TestShards(t *testing.T) {
	t.Parallel()
	learner := &peerv1.MemberStatus{Node: "c", Active: true, Match: 950}
	late := &peerv1.MemberStatus{Node: "d", Active: true, Match: 100}
	receiving := &peerv1.MemberStatus{Node: "e", Active: true, Match: 1000, Receives: true}
	now := led(2, 7, voter("a"), voter("b"), learner, late, receiving)
	now.Replicas[0].Next = 8
	now.Replicas[0].Settled = true
	old := led(1, 6, voter("a"), voter("b"))
	stays := &peerv1.GetReplicasResponse{Replicas: []*peerv1.ReplicaStatus{{Replica: 7}, {Shard: 1, Replica: 3}}}
	comes := &peerv1.GetReplicasResponse{Replicas: []*peerv1.ReplicaStatus{{Replica: 8}}}
	p := newObserver().Look(time.Unix(0, 0), nil, []directory.Report{said("a", old), said("b", now), said("f", stays), said("g", comes)}, 3)
	if p.Leaders[0].Node != "b" || len(p.View.Shards) != 1 || p.View.Shards[0].Leader != 2 {
		t.Fatalf("led by %v: %+v", p.Leaders, p.View.Shards)
	}
	var caught []bool
	for _, r := range p.View.Shards[0].Replicas {
		caught = append(caught, r.CaughtUp)
	}
	if !slices.Equal(caught, []bool{true, true, true, false, false}) {
		t.Errorf("caught up: %v", caught)
	}
	now.Replicas[0].Settled = false
	if q := newObserver().Look(time.Unix(0, 0), nil, []directory.Report{said("b", now), said("f", stays)}, 3); len(q.Steps(nil)) > 0 {
		t.Errorf("strays, which may still be needed: %v", q.Steps(nil))
	}
	if strays := p.Steps(nil); !reflect.DeepEqual(strays, []Step{{Node: "f", Retire: 7}}) {
		t.Errorf("strays: %v", strays)
	}
	steps := p.Steps([]placement.Move{
		{Kind: placement.AddLearner, Node: "h"}, {Kind: placement.TransferLeader, Replica: 1}, {Kind: placement.Swap, Promote: []placement.ReplicaID{3}, Remove: []placement.ReplicaID{1}},
	})[1:]
	if want := []Step{
		{Node: "b", Changes: []shard.Change{{Add: "h"}}}, {Node: "b", Transfer: 1}, {Node: "b", Changes: []shard.Change{{Promote: 3}, {Remove: 1}}},
	}; !reflect.DeepEqual(steps, want) {
		t.Errorf("steps: %+v, want %+v", steps, want)
	}
}

// Workers count only where one has a replica, which it is to lose; one that was removed is gone at once, known to gossip or not; one
// that is about to stop keeps what it has and is to lead nothing.
func TestWorkersRemovedAndStopping(t *testing.T) {
	t.Parallel()
	o := newObserver()
	o.Removed = func(node string) bool { return node == "c" }
	work, idle := member("b", cluster.Alive), member("w", cluster.Alive)
	work.Worker, idle.Worker = true, true
	members := []cluster.Member{member("a", cluster.Alive), work, idle, member("d", cluster.Alive)}
	p := o.Look(time.Unix(1000, 0), members, []directory.Report{
		said("a", led(1, 1, voter("a"), voter("b"), voter("c"))), said("b", &peerv1.GetReplicasResponse{}), said("d", &peerv1.GetReplicasResponse{Stopping: true}),
	}, 3)
	for id, want := range map[string]placement.Node{
		"a": {ID: "a", Zone: "z"},
		"b": {ID: "b", Zone: "z", Draining: true},
		"c": {ID: "c", Health: placement.Gone, Draining: true},
		"d": {ID: "d", Zone: "z", Health: placement.Silent},
	} {
		if got := healthOf(t, p, id); got != want {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
	if slices.ContainsFunc(p.View.Nodes, func(n placement.Node) bool { return n.ID == "w" }) {
		t.Errorf("a worker without replicas is a place for some: %v", p.View.Nodes)
	}
}

// asked answers for nodes, and remembers which were asked.
type asked struct {
	Nodes
	answers map[shard.NodeID]*peerv1.GetReplicasResponse
	nodes   []shard.NodeID
}

func (a *asked) Ask(_ context.Context, nodes []shard.NodeID) (rs []directory.Report) {
	a.nodes = nodes
	for _, n := range nodes {
		rs = append(rs, said(n, a.answers[n]))
	}
	return rs
}

func (a *asked) Change(context.Context, shard.NodeID, shard.ID, []shard.Change) error { return nil }

// A worker is asked until it says that it holds nothing, and again when a leader names it or it was away.
func TestAsksWorkersOnce(t *testing.T) {
	t.Parallel()
	work := member("w", cluster.Alive)
	work.Worker, work.Since = true, time.Unix(1, 0)
	members := []cluster.Member{member("a", cluster.Alive), work}
	holds := &peerv1.GetReplicasResponse{Replicas: []*peerv1.ReplicaStatus{{}}}
	a := &asked{answers: map[shard.NodeID]*peerv1.GetReplicasResponse{"a": led(1, 1, voter("a")), "w": holds}}
	c := New(Config{Nodes: a, Members: func() []cluster.Member { return members }, Watch: &directory.Watch{}, Shards: 1})
	look := func(step string, want ...shard.NodeID) {
		t.Helper()
		if c.round(t.Context()); !slices.Equal(a.nodes, want) {
			t.Errorf("%s: asked %v, want %v", step, a.nodes, want)
		}
	}
	look("at first", "a", "w")
	look("it holds something", "a", "w")
	a.answers["w"] = nil
	look("it does not answer", "a", "w")
	a.answers["w"] = &peerv1.GetReplicasResponse{}
	look("it says that it is empty", "a", "w")
	look("it is empty", "a")
	members[1].Since = time.Unix(2, 0)
	look("it was away", "a", "w")
	look("it is empty again", "a")
	a.answers["a"] = led(1, 1, voter("a"), voter("w"))
	look("a leader begins to name it", "a")
	look("a leader names it", "a", "w")
}
