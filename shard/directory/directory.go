// Package directory finds out who leads which shard, from what nodes say of their replicas. It is pure: how nodes are asked is
// the caller's business.
package directory

import (
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

// Report is what a node said of its replicas; nil if it did not answer.
type Report struct {
	Node   shard.NodeID
	Answer *peerv1.GetReplicasResponse
}

// Leader is a shard as the replica sees it that leads.
type Leader struct {
	Node shard.NodeID
	*peerv1.ReplicaStatus
}

// Has tells whether a replica is one of the shard's.
func (l Leader) Has(replica uint64) bool {
	for _, m := range l.Members {
		if m.Replica == replica {
			return true
		}
	}
	return false
}

// Voters counts those there are, and those of them that are there.
func (l Leader) Voters() (all, live int) {
	for _, m := range l.Members {
		if m.Voter {
			if all++; m.Active {
				live++
			}
		}
	}
	return all, live
}

// Leaders are those of all shards that have one.
type Leaders map[shard.ID]Leader

// Find puts reports together.
func Find(reports []Report) Leaders {
	l := Leaders{}
	l.Hear(reports)
	return l
}

// Hear adds what nodes said. Two may think that they lead a shard; the newer term is right.
func (l Leaders) Hear(reports []Report) {
	for _, r := range reports {
		for _, s := range r.Answer.GetReplicas() {
			id := shard.ID(s.Shard)
			if known, ok := l[id]; s.Leading && (!ok || known.Term < s.Term) {
				l[id] = Leader{r.Node, s}
			}
		}
	}
}

// Differ returns the shards of which two replicas stand at the same entry with different states. While much is written, reports
// may be of different entries, which say nothing.
func Differ(reports []Report) map[shard.ID]bool {
	type entry struct {
		shard uint32
		index uint64
	}
	differ, hashes := map[shard.ID]bool{}, map[entry]uint64{}
	for _, r := range reports {
		for _, s := range r.Answer.GetReplicas() {
			at := entry{s.Shard, s.Applied}
			if h, ok := hashes[at]; ok && h != s.Hash {
				differ[shard.ID(s.Shard)] = true
			}
			hashes[at] = s.Hash
		}
	}
	return differ
}

// Replicas is what a node says of its own.
func Replicas(all []shard.Status) (said []*peerv1.ReplicaStatus) {
	for _, s := range all {
		p := &peerv1.ReplicaStatus{
			Shard: uint32(s.ID), Replica: s.Replica, Term: s.Term, Leading: s.Leading, Leader: s.Leader, Applied: s.Applied, Hash: s.Hash, Last: s.Last,
			Next: s.Members.Next(), Changing: s.Members.Joint() || s.Leading && !s.Settled, Settled: s.Settled,
		}
		for _, id := range s.Members.Replicas() {
			m := &peerv1.MemberStatus{Replica: id, Node: string(s.Members.Node(id)), Voter: s.Members.Voter(id)}
			for _, f := range s.Followers {
				if f.Replica == id {
					m.Match, m.Active, m.Receives = f.Match, f.Active, f.Receives
				}
			}
			if id == s.Replica {
				m.Match, m.Active = s.Last, true
			}
			p.Members = append(p.Members, m)
		}
		said = append(said, p)
	}
	return said
}
