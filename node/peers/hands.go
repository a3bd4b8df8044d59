package peers

import (
	"context"
	"time"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
)

// replicas is what can be asked of the replicas of a node: the part of the service that local and its clients have in common.
type replicas interface {
	GetReplicas(context.Context, *connect.Request[peerv1.GetReplicasRequest]) (*connect.Response[peerv1.GetReplicasResponse], error)
	ChangeMembers(context.Context, *connect.Request[peerv1.ChangeMembersRequest]) (*connect.Response[peerv1.ChangeMembersResponse], error)
	TransferLeader(context.Context, *connect.Request[peerv1.TransferLeaderRequest]) (*connect.Response[peerv1.TransferLeaderResponse], error)
	RetireReplica(context.Context, *connect.Request[peerv1.RetireReplicaRequest]) (*connect.Response[peerv1.RetireReplicaResponse], error)
}

// local answers for this node, others and itself.
type local struct {
	engine *shard.Engine
	lacks  func() []*peerv1.Lack
	stops  func() bool
}

func (l local) GetReplicas(context.Context, *connect.Request[peerv1.GetReplicasRequest]) (*connect.Response[peerv1.GetReplicasResponse], error) {
	return connect.NewResponse(&peerv1.GetReplicasResponse{Replicas: directory.Replicas(l.engine.Status()), Lacks: l.lacks(), Stopping: l.stops()}), nil
}

func (l local) ChangeMembers(ctx context.Context, req *connect.Request[peerv1.ChangeMembersRequest]) (*connect.Response[peerv1.ChangeMembersResponse], error) {
	var cs []shard.Change
	for _, s := range req.Msg.Steps {
		cs = append(cs, shard.Change{Add: shard.NodeID(s.GetAdd()), Promote: s.GetPromote(), Remove: s.GetRemove()})
	}
	return connect.NewResponse(&peerv1.ChangeMembersResponse{}), toWire(l.engine.Change(ctx, shard.ID(req.Msg.Shard), cs...))
}

func (l local) TransferLeader(_ context.Context, req *connect.Request[peerv1.TransferLeaderRequest]) (*connect.Response[peerv1.TransferLeaderResponse], error) {
	l.engine.TransferLeader(shard.ID(req.Msg.Shard), req.Msg.Replica)
	return connect.NewResponse(&peerv1.TransferLeaderResponse{}), nil
}

func (l local) RetireReplica(_ context.Context, req *connect.Request[peerv1.RetireReplicaRequest]) (*connect.Response[peerv1.RetireReplicaResponse], error) {
	l.engine.Retire(shard.ID(req.Msg.Shard), req.Msg.Replica)
	return connect.NewResponse(&peerv1.RetireReplicaResponse{}), nil
}

// Hands reach the replicas of any node, this one's as well.
type Hands struct {
	Self   shard.NodeID
	Engine *shard.Engine
	Peers  *Clients
	// Lacks is what this node knows of shards that lack something: see directory.Watch.
	Lacks func() []*peerv1.Lack
	// Stopping tells that this node is about to stop, and wants to lead nothing.
	Stopping func() bool
}

func (h *Hands) local() local { return local{h.Engine, h.Lacks, h.Stopping} }

func (h *Hands) on(node shard.NodeID) (replicas, error) {
	if node == h.Self {
		return h.local(), nil
	}
	return h.Peers.Of(node)
}

// ask puts one question to a node.
func ask[Q, A any](ctx context.Context, h *Hands, node shard.NodeID, what func(replicas, context.Context, *connect.Request[Q]) (*connect.Response[A], error), q *Q) (*A, error) {
	on, err := h.on(node)
	if err != nil {
		return nil, err
	}
	a, err := what(on, ctx, connect.NewRequest(q))
	if err != nil {
		return nil, fromWire(err)
	}
	return a.Msg, nil
}

// askTimeout is how long a node that seems to be there may take to answer about itself.
const askTimeout = 2 * time.Second

// Ask asks nodes for their replicas.
func (h *Hands) Ask(ctx context.Context, nodes []shard.NodeID) []directory.Report {
	reports := make([]directory.Report, len(nodes))
	each(ctx, nodes, askTimeout, func(ctx context.Context, i int, n shard.NodeID) {
		a, _ := ask(ctx, h, n, replicas.GetReplicas, &peerv1.GetReplicasRequest{})
		reports[i] = directory.Report{Node: n, Answer: a}
	})
	return reports
}

// Change changes the members of a shard that a node leads.
func (h *Hands) Change(ctx context.Context, node shard.NodeID, id shard.ID, changes []shard.Change) error {
	q := &peerv1.ChangeMembersRequest{Shard: uint32(id)}
	for _, c := range changes {
		step := &peerv1.MemberStep{}
		switch {
		case c.Add != "":
			step.Step = &peerv1.MemberStep_Add{Add: string(c.Add)}
		case c.Promote != 0:
			step.Step = &peerv1.MemberStep_Promote{Promote: c.Promote}
		default:
			step.Step = &peerv1.MemberStep_Remove{Remove: c.Remove}
		}
		q.Steps = append(q.Steps, step)
	}
	_, err := ask(ctx, h, node, replicas.ChangeMembers, q)
	return err
}

// Transfer asks the leader of a shard to hand over.
func (h *Hands) Transfer(ctx context.Context, node shard.NodeID, id shard.ID, to uint64) error {
	_, err := ask(ctx, h, node, replicas.TransferLeader, &peerv1.TransferLeaderRequest{Shard: uint32(id), Replica: to})
	return err
}

// Retire removes a replica from a node that is none of its shard's members any more.
func (h *Hands) Retire(ctx context.Context, node shard.NodeID, id shard.ID, replica uint64) error {
	_, err := ask(ctx, h, node, replicas.RetireReplica, &peerv1.RetireReplicaRequest{Shard: uint32(id), Replica: replica})
	return err
}
