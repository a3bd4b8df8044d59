package controller

import (
	"maps"
	"slices"
	"time"

	"github.com/wattlehq/wattle/cluster"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
	"github.com/wattlehq/wattle/shard/placement"
)

// near is how many entries a learner may lack and still count as caught up: they are on their way.
const near = 100

// Observer makes a view of the cluster out of what gossip and nodes say. It remembers since when nodes are missing: this node's
// gossip may have begun a moment ago.
type Observer struct {
	// Grace: see Config.
	Grace time.Duration
	// Removed: see Config. Nil means that none was.
	Removed func(node string) bool
	missing map[shard.NodeID]time.Time
}

// Picture is the cluster at one moment.
type Picture struct {
	View placement.View
	// Leaders are whom to ask for a change.
	Leaders directory.Leaders
	strays  []Step
}

// Replaced tells which nodes will not come back because others took their place: those that one says it was before its data was put
// aside, and those at whose address another answers, since where one answers to its name nobody else does, whatever gossip still says.
func Replaced(members []cluster.Member, answers func(cluster.Member) bool) map[string]bool {
	at, replaced := map[string]string{}, map[string]bool{}
	for _, m := range members {
		if m.Status == cluster.Alive && answers(m) {
			at[m.Peer] = m.ID
			for _, old := range m.Replaces {
				replaced[old] = true
			}
		}
	}
	for _, m := range members {
		if other := at[m.Peer]; other != "" && other != m.ID {
			replaced[m.ID] = true
		}
	}
	return replaced
}

// Look puts the picture together. The same arguments give the same one.
func (o *Observer) Look(now time.Time, members []cluster.Member, reports []directory.Report, want int) Picture {
	p := Picture{Leaders: directory.Find(reports), View: placement.View{Want: want}}
	heard, stopping := map[shard.NodeID]bool{}, map[shard.NodeID]bool{}
	for _, r := range reports {
		heard[r.Node], stopping[r.Node] = r.Answer != nil, r.Answer.GetStopping()
		for _, s := range r.Answer.GetReplicas() {
			// One that the leader knows of and does not count was removed; what came after it the leader knows better.
			if l, ok := p.Leaders[shard.ID(s.Shard)]; ok && l.Settled && s.Replica < l.Next && !l.Has(s.Replica) {
				p.strays = append(p.strays, Step{Node: r.Node, Shard: shard.ID(s.Shard), Retire: s.Replica})
			}
		}
	}
	replaced := Replaced(members, func(m cluster.Member) bool { return heard[shard.NodeID(m.ID)] })
	known, workers := map[shard.NodeID]bool{}, map[shard.NodeID]cluster.Member{}
	for _, m := range members {
		id := shard.NodeID(m.ID)
		if replaced[m.ID] {
			m.Status = cluster.Left
		}
		if m.Worker {
			workers[id] = m // looked at where one has a replica
			continue
		}
		known[id] = true
		// One that is about to stop is like one that is silent for a moment: it keeps what it has, and is to lead nothing.
		p.View.Nodes = append(p.View.Nodes, o.node(now, m, heard[id] && !stopping[id]))
	}
	for _, id := range slices.Sorted(maps.Keys(p.Leaders)) {
		l := p.Leaders[id]
		for _, m := range l.Members {
			// One that gossip does not know (any more, or yet) counts as silent for the grace time.
			if id := shard.NodeID(m.Node); !known[id] {
				known[id] = true
				n := placement.Node{ID: placement.NodeID(id), Health: placement.Gone, Draining: true}
				if w, ok := workers[id]; ok {
					n = o.node(now, w, heard[id])
					n.Draining = true
				} else if !replaced[m.Node] && (o.Removed == nil || !o.Removed(m.Node)) {
					n = placement.Node{ID: placement.NodeID(id), Health: o.health(now, id)}
				}
				p.View.Nodes = append(p.View.Nodes, n)
			}
		}
		p.View.Shards = append(p.View.Shards, shardOf(id, l))
	}
	for id := range o.missing {
		if !known[id] {
			delete(o.missing, id)
		}
	}
	return p
}

func (o *Observer) node(now time.Time, m cluster.Member, heard bool) placement.Node {
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
func (o *Observer) health(now time.Time, id shard.NodeID) placement.Health {
	since, ok := o.missing[id]
	if !ok {
		if o.missing == nil {
			o.missing = map[shard.NodeID]time.Time{}
		}
		o.missing[id] = now
		return placement.Silent
	}
	if now.Sub(since) < o.Grace {
		return placement.Silent
	}
	return placement.Gone
}

func shardOf(id shard.ID, l directory.Leader) placement.Shard {
	s := placement.Shard{ID: placement.ShardID(id), Leader: placement.ReplicaID(l.Replica), Changing: l.Changing}
	for _, m := range l.Members {
		s.Replicas = append(s.Replicas, placement.Replica{
			ID: placement.ReplicaID(m.Replica), Node: placement.NodeID(m.Node), Voter: m.Voter,
			CaughtUp: m.Active && !m.Receives && m.Match+near >= l.Last,
		})
	}
	return s
}

// Step is one thing to ask of a node. One of Retire, Transfer and Changes is set.
type Step struct {
	Node  shard.NodeID
	Shard shard.ID
	// Retire is a replica on the node that its shard has removed.
	Retire uint64
	// Transfer is the replica that is to lead in place of the node's.
	Transfer uint64
	// Changes are those of the members.
	Changes []shard.Change
}

// Steps are what moves come to, after the replicas are retired that their shards have removed.
func (p Picture) Steps(moves []placement.Move) []Step {
	steps := slices.Clip(p.strays)
	for _, m := range moves {
		s := Step{Node: p.Leaders[shard.ID(m.Shard)].Node, Shard: shard.ID(m.Shard)}
		switch m.Kind {
		case placement.TransferLeader:
			s.Transfer = uint64(m.Replica)
		case placement.AddLearner:
			s.Changes = []shard.Change{{Add: shard.NodeID(m.Node)}}
		default:
			for _, r := range m.Promote {
				s.Changes = append(s.Changes, shard.Change{Promote: uint64(r)})
			}
			for _, r := range m.Remove {
				s.Changes = append(s.Changes, shard.Change{Remove: uint64(r)})
			}
		}
		steps = append(steps, s)
	}
	return steps
}
