package shard

import (
	"slices"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/tracker"
)

// Status is one replica's view of its shard.
type Status struct {
	ID      ID
	Replica uint64
	Term    uint64
	Leading bool
	// Leader is the replica that leads, as far as this one knows; zero if it knows of none.
	Leader  uint64
	Members *Members
	// Settled tells, of a leader, that replicas that were removed may go. Until a quorum knows of their removal whatever happens,
	// they may be needed to elect the next leader.
	Settled bool
	// Applied is the last entry that the state has, Hash that of everything that led there: equal on all replicas at that entry.
	Applied, Hash uint64
	// First and Last are the log's entries that are kept; there is none if Last is below First.
	First, Last uint64
	// Followers are what a leader knows of the others.
	Followers []Follower
}

// Follower is a replica as its leader sees it.
type Follower struct {
	Replica uint64
	// Match is the last entry it is known to have on disk.
	Match uint64
	// Active tells that it was heard of lately.
	Active bool
	// Receives tells that it is sent the whole state.
	Receives bool
	// needs is the entry after which it needs the log.
	needs uint64
}

// lookAfter notes how far the followers of a leader are.
func (g *group) lookAfter() {
	if g.leadTerm.Load() == 0 {
		g.followers.Store(nil)
		clear(g.heard)
		return
	}
	var all []Follower
	g.node.WithProgress(func(id uint64, _ raft.ProgressType, p tracker.Progress) {
		if id == g.replica {
			return
		}
		// raft forgets whom it has heard at every election timeout, and asks whether it was a quorum.
		// A new leader waits as long before it takes one for silent.
		if _, ok := g.heard[id]; p.RecentActive || !ok {
			g.heard[id] = g.ticks
		}
		f := Follower{Replica: id, Match: p.Match, Active: g.ticks-g.heard[id] <= electionTicks, Receives: p.State == tracker.StateSnapshot, needs: p.Match}
		if f.Receives {
			f.needs = p.PendingSnapshot
		}
		all = append(all, f)
	})
	slices.SortFunc(all, func(a, b Follower) int { return int(int64(a.Replica) - int64(b.Replica)) })
	g.followers.Store(&all)
}

// needed is the last entry that no active follower needs any more.
func (g *group) needed() uint64 {
	needed := ^uint64(0)
	if all := g.followers.Load(); all != nil {
		for _, f := range *all {
			if f.Active {
				needed = min(needed, f.needs)
			}
		}
	}
	return needed
}

// Status returns the state of every replica on this node, in order.
func (e *Engine) Status() []Status {
	var all []Status
	for _, g := range e.all() {
		first, err := g.log.FirstIndex()
		last, err2 := g.log.LastIndex()
		if err != nil || err2 != nil {
			continue
		}
		stand := g.stands.Load()
		s := Status{
			ID: g.id, Replica: g.replica, Term: g.term.Load(), Leading: g.leadTerm.Load() != 0, Leader: g.leader.Load(),
			Settled: g.settled.Load(), Members: g.members.Load(), Applied: stand.index, Hash: stand.hash, First: first, Last: last,
		}
		if f := g.followers.Load(); f != nil {
			s.Followers = *f
		}
		all = append(all, s)
	}
	return all
}

// Leader returns the node that leads a shard, as far as the replica here knows: nothing if it does not, or if there is none.
func (e *Engine) Leader(id ID) NodeID {
	g := e.group(id)
	switch {
	case g == nil:
		return ""
	case g.leadTerm.Load() != 0:
		return e.cfg.Node
	}
	return g.members.Load().Node(g.leader.Load())
}

// Counts of what an engine has done since it was made.
type Counts struct {
	// Changes of members that it saw, and those of them that began a joint change.
	Changes, Joint uint64
	// Sent and Installed are whole states.
	Sent, Installed uint64
	// Trimmed are entries dropped from the beginning of a log, Truncated the times that its end was replaced.
	Trimmed, Truncated uint64
	// Replayed are entries applied that a process before this one had applied already or left behind.
	Replayed uint64
	// Syncs of the log.
	Syncs uint64
}

type counts struct{ changes, joint, sent, installed, trimmed, truncated, replayed, syncs atomic.Uint64 }

// Counts returns them.
func (e *Engine) Counts() Counts {
	c := &e.counts
	return Counts{
		c.changes.Load(), c.joint.Load(), c.sent.Load(), c.installed.Load(), c.trimmed.Load(), c.truncated.Load(), c.replayed.Load(), c.syncs.Load(),
	}
}
