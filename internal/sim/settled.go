package sim

import (
	"fmt"

	"github.com/wattlehq/wattle/shard"
)

// replica returns a node's replica of a shard.
func (w *world) replica(n *node, id shard.ID) (shard.Status, bool) {
	if n.engine == nil {
		return shard.Status{}, false
	}
	for _, s := range n.engine.Status() {
		if s.ID == id {
			return s, true
		}
	}
	return shard.Status{}, false
}

// leader returns the status of a shard's leader with the newest term.
func (w *world) leader(id shard.ID) (best shard.Status, ok bool) {
	for _, n := range w.alive() {
		if s, is := w.replica(n, id); is && s.Leading && s.Term >= best.Term {
			best, ok = s, true
		}
	}
	return best, ok
}

// intact tells whether no disk is lost that a shard still counts on: then any one may be. What is counted on is settled for all shards
// but one.
func (w *world) intact(but shard.ID) bool {
	for id := range shard.ID(w.table.Shards) {
		s, ok := w.leader(id)
		if !ok || s.Members.Joint() || !s.Settled && id != but {
			return false
		}
		voters := 0
		for _, r := range s.Members.Replicas() {
			if n := w.node(s.Members.Node(r)); s.Members.Voter(r) {
				if voters++; n == nil || n.retired || n.rotten {
					return false
				}
			}
		}
		if voters < w.want {
			return false
		}
	}
	return true
}

// redundant tells whether every shard would survive the loss of any one disk now: all its voters there, at hand and not
// far behind.
func (w *world) redundant() bool {
	for id := range shard.ID(w.table.Shards) {
		s, ok := w.leader(id)
		if !ok || s.Members.Joint() || !s.Settled {
			return false
		}
		there, voters := 0, 1
		if !w.node(s.Members.Node(s.Replica)).rotten {
			there++
		}
		for _, f := range s.Followers {
			n := w.node(s.Members.Node(f.Replica))
			if !s.Members.Voter(f.Replica) {
				continue
			}
			voters++
			if n != nil && !n.retired && !n.rotten && f.Active && f.Match == s.Last && !f.Receives {
				there++
			}
		}
		// Of four voters, of which one was a learner before, it takes three.
		if there < voters || there < w.want {
			return false
		}
	}
	return true
}

// settled tells whether everybody has what they asked for, and every shard its replicas, all at the same entry.
func (w *world) settled() bool { return w.unsettled() == "" }

func (w *world) unsettled() string {
	for i, waits := range w.audit.clients {
		if waits() {
			return fmt.Sprintf("client %d waits", i+1)
		}
	}
	if w.moved != 0 && w.now-w.moved < rest {
		return "the controller does not come to rest"
	}
	for id := range shard.ID(w.table.Shards) {
		s, ok := w.leader(id)
		if !ok {
			return fmt.Sprintf("shard %d has no leader", id)
		}
		n := 0
		for _, r := range s.Members.Replicas() {
			at := w.node(s.Members.Node(r))
			if at == nil || at.retired || !s.Members.Voter(r) || s.Members.Joint() {
				return fmt.Sprintf("shard %d is led by %d at %s and has replica %d at %s, which votes: %v, while members change: %v", id, s.Replica,
					s.Members.Node(s.Replica), r, s.Members.Node(r), s.Members.Voter(r), s.Members.Joint())
			}
			other, ok := w.replica(at, id)
			if !ok || other.Applied != s.Applied || other.Replica != r {
				return fmt.Sprintf("replica %d of shard %d at %s is not where its leader is", r, id, at.id)
			}
			n++
		}
		if n < w.want {
			return fmt.Sprintf("shard %d has %d voters", id, n)
		}
	}
	for _, n := range w.alive() {
		if n.engine == nil {
			return fmt.Sprintf("%s is down", n.id)
		}
		for _, s := range n.engine.Status() {
			if l, ok := w.leader(s.ID); !ok || l.Members.Node(s.Replica) != n.id {
				return fmt.Sprintf("%s still has replica %d of shard %d", n.id, s.Replica, s.ID)
			}
		}
	}
	return ""
}
