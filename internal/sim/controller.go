package sim

import (
	"fmt"
	"time"

	"github.com/wattlehq/wattle/shard"
)

// controller moves replicas as the leaders of shards see fit: learners first, then they take the place of another. It is as
// clumsy as the network: what it asks for may never happen.
func (w *world) controller() {
	var again func()
	again = func() {
		for _, n := range w.alive() {
			if !n.up() {
				continue
			}
			for _, s := range n.engine.Status() {
				if s.Leading {
					n.guard(func() { w.place(n, s) })
				} else if l, ok := w.leader(s.ID); ok && l.Settled && l.Members.Removed(s.Replica) {
					n.engine.Retire(s.ID, s.Replica)
					w.count("strays")
				}
			}
			n.wake()
		}
		w.after(w.between(100*time.Millisecond, time.Second), "place", again)
	}
	w.after(time.Second, "place", again)
}

// place does the next thing for a shard.
func (w *world) place(n *node, s shard.Status) {
	if s.Members.Joint() {
		return
	}
	change := func(what string, cs ...shard.Change) {
		w.note(fmt.Sprintf("%s shard %d: %s %v", n.id, s.ID, what, cs))
		n.drive.Change(s.ID, cs, func(err error) {
			if err == nil {
				w.count(what)
			}
		})
	}
	var gone, learner, voters []uint64
	for _, r := range s.Members.Replicas() {
		at := w.node(s.Members.Node(r))
		switch {
		case at == nil || at.retired:
			gone = append(gone, r)
		case s.Members.Voter(r):
			voters = append(voters, r)
		default:
			learner = append(learner, r)
		}
	}
	caught := func(r uint64) bool {
		for _, f := range s.Followers {
			if f.Replica == r {
				return f.Active && !f.Receives && f.Match+20 >= s.Last
			}
		}
		return false
	}
	switch {
	case len(learner) > 0 && caught(learner[0]):
		cs := []shard.Change{{Promote: learner[0]}}
		if len(gone) > 0 {
			cs = append(cs, shard.Change{Remove: gone[0]})
		} else if len(voters) >= w.want {
			for _, v := range voters {
				if v != s.Replica {
					cs = append(cs, shard.Change{Remove: v})
					break
				}
			}
		}
		change("swap", cs...)
	case len(learner) > 0:
		if len(gone) > 0 && !s.Members.Voter(gone[0]) {
			change("remove", shard.Change{Remove: gone[0]})
		}
	case len(voters) < w.want || !w.calm && !w.cfg.Off["move"] && w.chance(6):
		for _, other := range w.alive() {
			if s.Members.At(other.id) == 0 && other.up() {
				change("add", shard.Change{Add: other.id})
				break
			}
		}
	case len(gone) > 0:
		change("remove", shard.Change{Remove: gone[0]})
	}
}

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

// redundant tells whether every shard would survive the loss of any one disk now: all its voters there, at hand and not
// far behind.
func (w *world) redundant() bool {
	for id := range shard.ID(w.table.Shards) {
		s, ok := w.leader(id)
		if !ok || s.Members.Joint() {
			return false
		}
		there := 0
		if !w.node(s.Members.Node(s.Replica)).rotten {
			there++
		}
		for _, f := range s.Followers {
			n := w.node(s.Members.Node(f.Replica))
			if s.Members.Voter(f.Replica) && n != nil && !n.retired && !n.rotten && f.Active && f.Match == s.Last && !f.Receives {
				there++
			}
		}
		if there < w.want {
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
