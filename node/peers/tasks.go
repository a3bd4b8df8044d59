package peers

import (
	"context"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

// Tasks gives clients tasks of the jobs that this node leads, which other nodes ask for in their name.
type Tasks interface {
	Give(ctx context.Context, q *peerv1.AcquireRequest) *peerv1.Grants
	Await(ctx context.Context, q *peerv1.AwaitTasksRequest) bool
	// Running tells which tasks of a job run now, if this node leads its shard.
	Running(job string) ([]*peerv1.RunningTask, error)
}

// Acquire asks a node for tasks in the name of a client.
func (c *Clients) Acquire(ctx context.Context, node shard.NodeID, q *peerv1.AcquireRequest) (*peerv1.Grants, error) {
	p, err := c.Of(node)
	if err != nil {
		return nil, err
	}
	r, err := p.Acquire(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, fromWire(err)
	}
	return r.Msg.Grants, nil
}

// AwaitTasks waits until a node has something for clients.
func (c *Clients) AwaitTasks(ctx context.Context, node shard.NodeID, q *peerv1.AwaitTasksRequest) (bool, error) {
	p, err := c.Of(node)
	if err != nil {
		return false, err
	}
	r, err := p.AwaitTasks(ctx, connect.NewRequest(q))
	if err != nil {
		return false, fromWire(err)
	}
	return r.Msg.Ready, nil
}

// RunningTasks asks a node which tasks of a job run now, whose shard it leads.
func (c *Clients) RunningTasks(ctx context.Context, node shard.NodeID, job string) ([]*peerv1.RunningTask, error) {
	p, err := c.Of(node)
	if err != nil {
		return nil, err
	}
	r, err := p.RunningTasks(ctx, connect.NewRequest(&peerv1.RunningTasksRequest{Job: job}))
	if err != nil {
		return nil, fromWire(err)
	}
	return r.Msg.Tasks, nil
}

func (h *handler) Acquire(ctx context.Context, req *connect.Request[peerv1.AcquireRequest]) (*connect.Response[peerv1.AcquireResponse], error) {
	return connect.NewResponse(&peerv1.AcquireResponse{Grants: h.s.Tasks.Give(ctx, req.Msg)}), nil
}

func (h *handler) AwaitTasks(ctx context.Context, req *connect.Request[peerv1.AwaitTasksRequest]) (*connect.Response[peerv1.AwaitTasksResponse], error) {
	return connect.NewResponse(&peerv1.AwaitTasksResponse{Ready: h.s.Tasks.Await(ctx, req.Msg)}), nil
}

func (h *handler) RunningTasks(_ context.Context, req *connect.Request[peerv1.RunningTasksRequest]) (*connect.Response[peerv1.RunningTasksResponse], error) {
	tasks, err := h.s.Tasks.Running(req.Msg.Job)
	if err != nil {
		return nil, toWire(err)
	}
	return connect.NewResponse(&peerv1.RunningTasksResponse{Tasks: tasks}), nil
}
