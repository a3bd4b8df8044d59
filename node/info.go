package node

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wattlehq/wattle/cluster"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node/controller"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/shard"
)

// info is the node as the API shows it.
type info struct{ n *Node }

func (i info) ID() string { return i.n.ID() }

// self is what this node says of itself.
func (n *Node) self() *wattlev1.Node {
	running, _ := n.sched.Load()
	blobs, bytes := n.blobs.Usage()
	self := &wattlev1.Node{
		Id: n.ID(), ClusterId: n.identity.ClusterId, Addr: n.Addr(), PeerAddr: n.peerListener.Addr().String(), Version: n.cfg.Version,
		StartedAt: timestamppb.New(n.startedAt), Ready: n.isReady.Load(), Slots: uint32(n.cfg.Slots), Running: uint32(running),
		Shards: n.engine.Table().Shards, Blobs: uint64(blobs), BlobBytes: uint64(bytes), Status: string(cluster.Alive), Zone: n.cfg.Zone,
	}
	calls := n.calls.Counts()
	self.Calls, self.MaxCalls = uint32(calls.Under), uint32(calls.Most)
	for _, s := range n.engine.Status() {
		if self.Replicas++; s.Leading {
			self.Leading++
		}
	}
	if m, ok := n.cluster.Member(n.ID()); ok {
		self.Addr, self.PeerAddr, self.GossipAddr = m.API, m.Peer, m.Gossip
	}
	return self
}

// Nodes returns this node first and then all others that gossip knows, as they describe themselves.
func (i info) Nodes(ctx context.Context) []*wattlev1.Node {
	n := i.n
	answers := peers.Nodes(ctx, n.clients, n.others())
	all := []*wattlev1.Node{n.self()}
	for _, m := range n.cluster.Members() {
		if m.ID == n.ID() {
			continue
		}
		o := answers[shard.NodeID(m.ID)]
		if o == nil {
			if m.Status == cluster.Alive {
				m.Status = "silent" // gossip will find out
			}
			o = &wattlev1.Node{Id: m.ID, ClusterId: n.identity.ClusterId, Version: m.Version, Zone: m.Zone, Shards: n.engine.Table().Shards}
		}
		o.Addr, o.PeerAddr, o.GossipAddr, o.Status = m.API, m.Peer, m.Gossip, string(m.Status)
		all = append(all, o)
	}
	return all
}

// expected are the nodes that are there or should be: also one that is away, but not one that another has replaced.
func expected(members []cluster.Member) (nodes []cluster.Member) {
	replaced := controller.Replaced(members, func(cluster.Member) bool { return true })
	for _, m := range members {
		if !m.Worker && !replaced[m.ID] && (m.Status == cluster.Alive || m.Status == cluster.Failed) {
			nodes = append(nodes, m)
		}
	}
	return nodes
}

// Cluster returns how the shards are.
func (i info) Cluster(ctx context.Context) *wattlev1.GetClusterStatusResponse {
	n := i.n
	r := &wattlev1.GetClusterStatusResponse{ClusterId: n.identity.ClusterId}
	ids := append(n.others(), shard.NodeID(n.ID()))
	members := expected(n.cluster.Members())
	r.Want = uint32(min(controller.DefaultReplicas, len(members)))
	r.Shards, r.Silent = peers.Shards(ctx, n.hands, ids, n.engine.Table().Shards, r.Want)
	for _, m := range members {
		if m.Status == cluster.Failed {
			r.Silent = append(r.Silent, m.ID)
		}
	}
	return r
}
