package sim

import (
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

// network carries messages between nodes, badly.
type network struct {
	w *world
	// cut are the pairs between which nothing arrives, in that direction. Nodes are named by their machine.
	cut map[[2]int]bool
	// One in so many messages is lost, doubled, or late; zero is none.
	lose, double, delay int
}

// send sends messages of shards.
func (n *network) send(from *node, to shard.NodeID, ms []*peerv1.ShardMessage) {
	dest := n.w.node(to)
	if dest == nil {
		return
	}
	for _, m := range ms {
		copies := 1
		if n.double > 0 && n.w.chance(n.double) {
			n.w.count("doubled")
			copies = 2
		}
		for range copies {
			// A copy, so that nobody hears of what the sender does to it later.
			m := proto.Clone(m).(*peerv1.ShardMessage)
			n.carry(from, dest, func() {
				dest.engine.Step(from.id, []*peerv1.ShardMessage{m})
				dest.wake()
			})
		}
	}
}

// carry has something arrive at a node, or not.
func (n *network) carry(from, dest *node, arrive func()) {
	w := n.w
	if n.cut[[2]int{from.machine, dest.machine}] || n.lose > 0 && w.chance(n.lose) {
		w.count("lost")
		return
	}
	d := w.between(200*time.Microsecond, 2*time.Millisecond)
	if n.delay > 0 && w.chance(n.delay) {
		w.count("delayed")
		if d = w.between(0, 3*time.Second); w.chance(2) {
			d /= 100
		}
	}
	w.after(d, "deliver", func() {
		if dest.up() && !n.cut[[2]int{from.machine, dest.machine}] {
			arrive()
		}
	})
}
