package rpc

import (
	"context"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// Node tells about this node and those it knows, and takes nodes out of the cluster.
type Node interface {
	ID() string
	Nodes(ctx context.Context) []*wattlev1.Node
	Cluster(ctx context.Context) *wattlev1.GetClusterStatusResponse
	Drain(ctx context.Context, node string, undo bool) (*wattlev1.DrainNodeResponse, error)
	Leave(ctx context.Context) (*wattlev1.LeaveNodeResponse, error)
	Remove(ctx context.Context, node string, force bool) (*wattlev1.RemoveNodeResponse, error)
}

type nodeHandler struct{ n Node }

func (h *nodeHandler) Ping(context.Context, *connect.Request[wattlev1.PingRequest]) (*connect.Response[wattlev1.PingResponse], error) {
	return connect.NewResponse(&wattlev1.PingResponse{NodeId: h.n.ID()}), nil
}

func (h *nodeHandler) GetClusterStatus(ctx context.Context, _ *connect.Request[wattlev1.GetClusterStatusRequest]) (*connect.Response[wattlev1.GetClusterStatusResponse], error) {
	return connect.NewResponse(h.n.Cluster(ctx)), nil
}

func (h *nodeHandler) ListNodes(ctx context.Context, _ *connect.Request[wattlev1.ListNodesRequest]) (*connect.Response[wattlev1.ListNodesResponse], error) {
	return connect.NewResponse(&wattlev1.ListNodesResponse{Nodes: h.n.Nodes(ctx)}), nil
}

func (h *nodeHandler) DrainNode(ctx context.Context, req *connect.Request[wattlev1.DrainNodeRequest]) (*connect.Response[wattlev1.DrainNodeResponse], error) {
	return answer(h.n.Drain(ctx, req.Msg.NodeId, req.Msg.Undo))
}

func (h *nodeHandler) LeaveNode(ctx context.Context, _ *connect.Request[wattlev1.LeaveNodeRequest]) (*connect.Response[wattlev1.LeaveNodeResponse], error) {
	return answer(h.n.Leave(ctx))
}

func (h *nodeHandler) RemoveNode(ctx context.Context, req *connect.Request[wattlev1.RemoveNodeRequest]) (*connect.Response[wattlev1.RemoveNodeResponse], error) {
	return answer(h.n.Remove(ctx, req.Msg.NodeId, req.Msg.Force))
}

// answer puts an answer into its envelope.
func answer[A any](a *A, err error) (*connect.Response[A], error) {
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(a), nil
}
