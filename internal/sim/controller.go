package sim

import (
	"fmt"
	"time"

	"github.com/wattlehq/wattle/cluster"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/node/controller"
	"github.com/wattlehq/wattle/shard/directory"
	"github.com/wattlehq/wattle/shard/placement"
)

// How long gossip takes to notice that a node is gone, how long one may be gone before its replicas are replaced, and how long the
// controller must want nothing in the end.
const gossips, grace, rest = 3 * time.Second, 6 * time.Second, 5 * time.Second

// controller runs node/controller's on every node: the pure part is the same, the driver is this one.
func (w *world) controller() {
	w.note("with the real controller")
	observers := map[*node]*controller.Observer{}
	var again func()
	again = func() {
		for _, n := range w.alive() {
			if s, ok := w.replica(n, 0); n.up() && ok && s.Leading {
				if observers[n] == nil {
					observers[n] = &controller.Observer{Grace: grace}
				}
				w.round(n, observers[n])
			} else {
				delete(observers, n)
			}
		}
		w.after(w.between(100*time.Millisecond, time.Second), "look around", again)
	}
	w.after(time.Second, "look around", again)
}

// round lets a node look once and ask for what comes of it.
func (w *world) round(n *node, o *controller.Observer) {
	var reports []directory.Report
	for _, at := range w.alive() {
		r := directory.Report{Node: at.id}
		if at.up() && w.reaches(n, at) && w.reaches(at, n) {
			r.Answer = &peerv1.GetReplicasResponse{Replicas: directory.Replicas(at.engine.Status())}
		}
		reports = append(reports, r)
	}
	p := o.Look(epoch.Add(w.now), w.gossip(), reports, w.want)
	moves := placement.Next(p.View, controller.Limits)
	if len(moves) > 0 {
		w.moved = w.now
	}
	for _, step := range p.Steps(moves) {
		at := w.node(step.Node)
		w.note(fmt.Sprintf("%s wants %+v", n.id, step))
		n.plan("has it carried out", w.between(0, 5*time.Millisecond), func() {
			if at == nil || !at.up() || !w.reaches(n, at) {
				return
			}
			switch {
			case step.Retire != 0:
				w.count("strays")
				at.engine.Retire(step.Shard, step.Retire)
			case step.Transfer != 0:
				w.count("placed leaders")
				at.engine.TransferLeader(step.Shard, step.Transfer)
			default:
				at.guard(func() {
					at.drive.Change(step.Shard, step.Changes, func(err error) {
						if err == nil {
							w.count("placed")
							w.changed(step.Shard)
						}
					})
				})
			}
			at.wake()
		})
	}
}

func (w *world) reaches(from, to *node) bool { return !w.net.cut[[2]int{from.machine, to.machine}] }

// gossip is what nodes know of each other, late.
func (w *world) gossip() (all []cluster.Member) {
	for _, n := range w.nodes {
		m := cluster.Member{ID: string(n.id), Peer: fmt.Sprint("machine ", n.machine), Status: cluster.Alive}
		if !n.up() && w.now-n.since > gossips {
			m.Status = cluster.Failed
		}
		all = append(all, m)
	}
	return all
}
