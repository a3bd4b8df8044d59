package rpc

import (
	"context"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// Node tells about this node and those it knows.
type Node interface {
	ID() string
	Nodes() []*wattlev1.Node
}

type nodeHandler struct{ n Node }

func (h *nodeHandler) Ping(context.Context, *connect.Request[wattlev1.PingRequest]) (*connect.Response[wattlev1.PingResponse], error) {
	return connect.NewResponse(&wattlev1.PingResponse{NodeId: h.n.ID()}), nil
}

func (h *nodeHandler) ListNodes(context.Context, *connect.Request[wattlev1.ListNodesRequest]) (*connect.Response[wattlev1.ListNodesResponse], error) {
	return connect.NewResponse(&wattlev1.ListNodesResponse{Nodes: h.n.Nodes()}), nil
}
