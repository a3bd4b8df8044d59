package peers

import (
	"context"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

// Hands carry out changes of shards on any node.
type Hands struct {
	Self   shard.NodeID
	Engine *shard.Engine
	Peers  *Clients
}

// Replicas returns the replicas on a node.
func (h *Hands) Replicas(ctx context.Context, node shard.NodeID) (*peerv1.GetReplicasResponse, error) {
	if node == h.Self {
		return Replicas(h.Engine.Status()), nil
	}
	c, err := h.Peers.Of(node)
	if err != nil {
		return nil, err
	}
	r, err := c.GetReplicas(ctx, connect.NewRequest(&peerv1.GetReplicasRequest{}))
	if err != nil {
		return nil, fromWire(err)
	}
	return r.Msg, nil
}

func changes(steps []*peerv1.MemberStep) (cs []shard.Change) {
	for _, s := range steps {
		cs = append(cs, shard.Change{Add: shard.NodeID(s.GetAdd()), Promote: s.GetPromote(), Remove: s.GetRemove()})
	}
	return cs
}

// Change changes the members of a shard that a node leads.
func (h *Hands) Change(ctx context.Context, node shard.NodeID, id shard.ID, steps []*peerv1.MemberStep) error {
	if node == h.Self {
		return h.Engine.Change(ctx, id, changes(steps)...)
	}
	c, err := h.Peers.Of(node)
	if err != nil {
		return err
	}
	_, err = c.ChangeMembers(ctx, connect.NewRequest(&peerv1.ChangeMembersRequest{Shard: uint32(id), Steps: steps}))
	return fromWire(err)
}

// Transfer asks the leader of a shard to hand over.
func (h *Hands) Transfer(ctx context.Context, node shard.NodeID, id shard.ID, to uint64) error {
	if node == h.Self {
		h.Engine.TransferLeader(id, to)
		return nil
	}
	c, err := h.Peers.Of(node)
	if err != nil {
		return err
	}
	_, err = c.TransferLeader(ctx, connect.NewRequest(&peerv1.TransferLeaderRequest{Shard: uint32(id), Replica: to}))
	return fromWire(err)
}

// Retire removes a replica from a node that is none of its shard's members any more.
func (h *Hands) Retire(ctx context.Context, node shard.NodeID, id shard.ID, replica uint64) error {
	if node == h.Self {
		h.Engine.Retire(id, replica)
		return nil
	}
	c, err := h.Peers.Of(node)
	if err != nil {
		return err
	}
	_, err = c.RetireReplica(ctx, connect.NewRequest(&peerv1.RetireReplicaRequest{Shard: uint32(id), Replica: replica}))
	return fromWire(err)
}
