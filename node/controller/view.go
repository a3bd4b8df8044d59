package controller

import (
	"slices"
	"time"

	"github.com/wattlehq/wattle/cluster"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/placement"
)

// report is what a node said of its replicas; nil if it did not answer.
type report struct {
	node     shard.NodeID
	replicas *peerv1.GetReplicasResponse
}

// near is how many entries a learner may lack and still count as caught up: they are on their way.
const near = 100

// observer makes a view of the cluster out of what gossip and nodes say. It remembers since when nodes are missing: this node's
// gossip may have begun a moment ago.
type observer struct {
	grace   time.Duration
	missing map[shard.NodeID]time.Time
}

// picture is the cluster at one moment.
type picture struct {
	view placement.View
	// leaders are the nodes to ask for a change, by shard.
	leaders map[shard.ID]shard.NodeID
	// strays are replicas that their shard has removed.
	strays []stray
}

type stray struct {
	node    shard.NodeID
	shard   shard.ID
	replica uint64
}

// look puts the picture together.
func (o *observer) look(now time.Time, members []cluster.Member, reports []report, want int) picture {
	leaders := map[shard.ID]*peerv1.ReplicaStatus{}
	p := picture{leaders: map[shard.ID]shard.NodeID{}, view: placement.View{Want: want}}
	for _, r := range reports {
		for _, s := range r.replicas.GetReplicas() {
			// Two may think that they lead; the newer term is right.
			if l := leaders[shard.ID(s.Shard)]; s.Leading && (l == nil || l.Term < s.Term) {
				leaders[shard.ID(s.Shard)], p.leaders[shard.ID(s.Shard)] = s, r.node
			}
		}
	}
	heard := map[shard.NodeID]bool{}
	for _, r := range reports {
		heard[r.node] = r.replicas != nil
		for _, s := range r.replicas.GetReplicas() {
			l := leaders[shard.ID(s.Shard)]
			if l == nil || s.Replica >= l.Next || slices.ContainsFunc(l.Members, func(m *peerv1.MemberStatus) bool { return m.Replica == s.Replica }) {
				continue
			}
			p.strays = append(p.strays, stray{r.node, shard.ID(s.Shard), s.Replica})
		}
	}
	// A node that lost its disk is another one at the same place: what the old one had is gone.
	taken := map[string]bool{}
	for _, m := range members {
		taken[m.Peer] = taken[m.Peer] || m.Status == cluster.Alive
	}
	known := map[shard.NodeID]bool{}
	for _, m := range members {
		if m.Worker {
			continue
		}
		if m.Status == cluster.Failed && taken[m.Peer] {
			m.Status = cluster.Left
		}
		known[shard.NodeID(m.ID)] = true
		p.view.Nodes = append(p.view.Nodes, o.node(now, m, heard[shard.NodeID(m.ID)]))
	}
	for _, l := range leaders {
		for _, m := range l.Members {
			// One that gossip does not know (any more, or yet) counts as silent for the grace time.
			if id := shard.NodeID(m.Node); !known[id] {
				known[id] = true
				p.view.Nodes = append(p.view.Nodes, placement.Node{ID: placement.NodeID(id), Health: o.health(now, id)})
			}
		}
	}
	for id := range o.missing {
		if !known[id] {
			delete(o.missing, id)
		}
	}
	for id, l := range leaders {
		p.view.Shards = append(p.view.Shards, shardOf(id, l))
	}
	return p
}

func (o *observer) node(now time.Time, m cluster.Member, heard bool) placement.Node {
	n := placement.Node{ID: placement.NodeID(m.ID), Zone: m.Zone}
	switch {
	case m.Status == cluster.Left:
		n.Health, n.Draining = placement.Gone, true
	case m.Status == cluster.Failed:
		n.Health = o.health(now, shard.NodeID(m.ID))
	case m.Status == cluster.Leaving:
		n.Draining = true
		fallthrough
	default:
		if delete(o.missing, shard.NodeID(m.ID)); !heard {
			n.Health = placement.Silent
		}
	}
	return n
}

// health is that of a node that is not there: silent, and after the grace time gone.
func (o *observer) health(now time.Time, id shard.NodeID) placement.Health {
	since, ok := o.missing[id]
	if !ok {
		o.missing[id] = now
		return placement.Silent
	}
	if now.Sub(since) < o.grace {
		return placement.Silent
	}
	return placement.Gone
}

func shardOf(id shard.ID, l *peerv1.ReplicaStatus) placement.Shard {
	s := placement.Shard{ID: placement.ShardID(id), Leader: placement.ReplicaID(l.Replica), Changing: l.Changing}
	for _, m := range l.Members {
		s.Replicas = append(s.Replicas, placement.Replica{
			ID: placement.ReplicaID(m.Replica), Node: placement.NodeID(m.Node), Voter: m.Voter,
			CaughtUp: m.Active && !m.Receives && m.Match+near >= l.Last,
		})
	}
	return s
}
