package rpc

import (
	"context"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// Node tells about this node and those it knows.
type Node interface {
	ID() string
	Nodes(ctx context.Context) []*wattlev1.Node
	Cluster(ctx context.Context) *wattlev1.GetClusterStatusResponse
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
