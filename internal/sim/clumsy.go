package sim

import (
	"fmt"
	"time"

	"github.com/wattlehq/wattle/shard"
)

// clumsy moves replicas as the leaders of shards see fit, and more than there is reason for: learners first, then they take the
// place of another. What it asks for may never happen.
func (w *world) clumsy() {
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
				w.changed(s.ID)
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
