package sim

import (
	"time"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// patience is how long a node's request waits for a leader.
const patience = 15 * time.Second

// errNoReply is what a node gets that waited for another one in vain.
func errNoReply(at *node) error {
	return fault.New(fault.Unavailable, "leader_lost", "node %s does not answer", at.id)
}

// anywhere does something for a node on whichever node can, as a node's router does. It ends with the process that asked.
func (n *node) anywhere(what string, do func(at *node, done func(error)), done func(error)) {
	w, start := n.w, n.starts
	end := w.now + patience
	var try func(at *node)
	try = func(at *node) {
		n.at(what, at, do, func(err error) {
			switch reason := fault.Reason(err); {
			case n.starts != start || n.engine == nil:
			case err != nil && w.now < end && (reason == "no_leader" || reason == "no_replica"):
				next := w.node(shard.NodeID(fault.As(err).Fields["leader"]))
				if next == nil || next == at {
					next = w.pick()
				}
				n.plan(what+" again", w.between(5*time.Millisecond, 250*time.Millisecond), func() { try(next) })
			default:
				done(err)
			}
		})
	}
	try(n)
}

// at does something on a node, over the network if it is another one.
func (n *node) at(what string, at *node, do func(at *node, done func(error)), done func(error)) {
	w := n.w
	if at == n {
		n.guard(func() { do(n, done) })
		n.wake()
		return
	}
	answered := false
	answer := func(err error) {
		if !answered {
			answered = true
			done(err)
		}
	}
	n.plan(what+" sent", w.between(200*time.Microsecond, 2*time.Millisecond), func() {
		if !at.up() || w.net.cut[[2]int{n.machine, at.machine}] {
			n.plan(what+" unreachable", w.between(0, time.Second), func() {
				answer(fault.New(fault.Unavailable, "no_leader", "node %s cannot be reached", at.id))
			})
			return
		}
		n.plan(what+" waits", 5*time.Second, func() { answer(errNoReply(at)) })
		at.guard(func() {
			do(at, func(err error) {
				n.plan(what+" answered", w.between(200*time.Microsecond, 2*time.Millisecond), func() {
					if !w.net.cut[[2]int{at.machine, n.machine}] {
						answer(err)
					}
				})
			})
		})
		at.wake()
	})
}

type proposer func(what string, p shard.Proposal, done func(machine.Result, error))

// proposeHere proposes if the node leads.
func (n *node) proposeHere(_ string, p shard.Proposal, done func(machine.Result, error)) {
	n.guard(func() { n.drive.Propose(p, done) })
	n.wake()
}

// propose proposes for a node.
func (n *node) propose(what string, p shard.Proposal, done func(machine.Result, error)) {
	var res machine.Result
	n.anywhere(what, func(at *node, done func(error)) {
		at.drive.Propose(p, func(r machine.Result, err error) {
			res = r
			done(err)
		})
	}, func(err error) { done(res, err) })
}
