package directory

import (
	"math/rand/v2"
	"testing"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

func said(node shard.NodeID, all ...*peerv1.ReplicaStatus) Report {
	return Report{Node: node, Answer: &peerv1.GetReplicasResponse{Replicas: all}}
}

// Of those who think that they lead, the one with the newest term counts, in whatever order and how often they are heard.
func TestNewestTerm(t *testing.T) {
	t.Parallel()
	reports := []Report{
		said("a", &peerv1.ReplicaStatus{Shard: 1, Leading: true, Term: 4}, &peerv1.ReplicaStatus{Shard: 2, Term: 9}),
		said("b", &peerv1.ReplicaStatus{Shard: 1, Leading: true, Term: 6}, &peerv1.ReplicaStatus{Shard: 2, Leading: true, Term: 2}),
		said("c", &peerv1.ReplicaStatus{Shard: 1, Term: 7}),
		{Node: "d"},
		said("e", &peerv1.ReplicaStatus{Shard: 1, Leading: true, Term: 5}),
	}
	for range 50 {
		rand.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
		l := Find(reports)
		l.Hear(reports[:3])
		if len(l) != 2 || l[1].Node != "b" || l[1].Term != 6 || l[2].Node != "b" {
			t.Fatalf("heard %v: %v", reports, l)
		}
	}
}

func TestVoters(t *testing.T) {
	t.Parallel()
	l := Leader{ReplicaStatus: &peerv1.ReplicaStatus{Members: []*peerv1.MemberStatus{
		{Replica: 1, Voter: true, Active: true}, {Replica: 2, Voter: true}, {Replica: 4, Active: true},
	}}}
	if all, live := l.Voters(); all != 2 || live != 1 || !l.Has(4) || l.Has(3) {
		t.Errorf("%d voters, %d there, has 4: %v, has 3: %v", all, live, l.Has(4), l.Has(3))
	}
}

// Only replicas of the same shard at the same entry can differ, whoever is heard first.
func TestDiffer(t *testing.T) {
	t.Parallel()
	reports := []Report{
		said("a", &peerv1.ReplicaStatus{Shard: 1, Applied: 5, Hash: 10}, &peerv1.ReplicaStatus{Shard: 2, Applied: 5, Hash: 11}, &peerv1.ReplicaStatus{Shard: 3, Applied: 7, Hash: 1}),
		said("b", &peerv1.ReplicaStatus{Shard: 1, Applied: 6, Hash: 12}, &peerv1.ReplicaStatus{Shard: 2, Applied: 5, Hash: 11}, &peerv1.ReplicaStatus{Shard: 3, Applied: 6, Hash: 2}),
		{Node: "c"},
		said("d", &peerv1.ReplicaStatus{Shard: 1, Applied: 6, Hash: 12}, &peerv1.ReplicaStatus{Shard: 2, Applied: 4, Hash: 13}, &peerv1.ReplicaStatus{Shard: 3, Applied: 7, Hash: 3}),
	}
	for range 50 {
		rand.Shuffle(len(reports), func(i, j int) { reports[i], reports[j] = reports[j], reports[i] })
		if d := Differ(reports); len(d) != 1 || !d[3] {
			t.Fatalf("heard %v: %v", reports, d)
		}
	}
}
