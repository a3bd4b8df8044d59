package node

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wattlehq/wattle/cluster"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
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
		Worker: n.cfg.Worker, Draining: n.members.Draining(n.ID()), Drained: n.drained.Load(), Trust: n.trust(), Pools: n.cfg.Pools,
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
		if m.ID == n.ID() || n.members.Removed(m.ID) {
			continue
		}
		o := answers[shard.NodeID(m.ID)]
		if o == nil {
			if m.Status == cluster.Alive {
				m.Status = "silent" // gossip will find out
			}
			o = &wattlev1.Node{Id: m.ID, ClusterId: n.identity.ClusterId, Version: m.Version, Zone: m.Zone, Shards: n.engine.Table().Shards, Worker: m.Worker, Draining: n.members.Draining(m.ID), Pools: m.Pools}
		}
		o.Addr, o.PeerAddr, o.GossipAddr, o.Status = m.API, m.Peer, m.Gossip, string(m.Status)
		all = append(all, o)
	}
	return all
}

// Cluster returns how the shards are.
func (i info) Cluster(ctx context.Context) *wattlev1.GetClusterStatusResponse {
	n := i.n
	r := &wattlev1.GetClusterStatusResponse{ClusterId: n.identity.ClusterId, Trust: n.trust()}
	ids := append(n.others(), shard.NodeID(n.ID()))
	for _, m := range n.cluster.Members() {
		if m.Worker && m.Status == cluster.Alive {
			r.Workers++
		}
		if n.members.Draining(m.ID) {
			r.Draining = append(r.Draining, m.ID)
		}
	}
	r.Want = want(len(expected(n.nodes())))
	r.Shards, r.Silent = peers.Shards(ctx, n.hands, ids, n.engine.Table().Shards, r.Want)
	for _, m := range counted(n.nodes()) {
		if m.Status == cluster.Failed {
			r.Silent = append(r.Silent, m.ID)
		}
	}
	return r
}

// Exposed are the addresses of this node that others than this machine may reach.
func (n *Node) Exposed() (addrs []string) {
	for _, addr := range []string{n.Addr(), n.cfg.GossipAddr, n.peerListener.Addr().String()} {
		if !isLoopback(addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// trust tells what keeps strangers from this node's ports.
func (n *Node) trust() string {
	if len(n.Exposed()) > 0 {
		return "none"
	}
	return "loopback"
}
