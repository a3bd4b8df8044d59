package rpc

import (
	"context"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

func (h *jobHandler) AcquireTasks(ctx context.Context, r *connect.Request[wattlev1.AcquireTasksRequest]) (*connect.Response[wattlev1.AcquireTasksResponse], error) {
	tasks, err := h.j.Acquire(ctx, r.Msg)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.AcquireTasksResponse{Tasks: tasks}), nil
}

func (h *jobHandler) ReadTaskInput(ctx context.Context, r *connect.Request[wattlev1.ReadTaskInputRequest], stream *connect.ServerStream[wattlev1.ReadTaskInputResponse]) error {
	return h.j.Input(ctx, r.Msg.Token, streamWriter(func(p []byte) error { return stream.Send(&wattlev1.ReadTaskInputResponse{Data: p}) }))
}

func (h *jobHandler) ExtendTask(ctx context.Context, r *connect.Request[wattlev1.ExtendTaskRequest]) (*connect.Response[wattlev1.ExtendTaskResponse], error) {
	if err := h.j.Extend(ctx, r.Msg); err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.ExtendTaskResponse{}), nil
}

func (h *jobHandler) FinishTask(ctx context.Context, r *connect.Request[wattlev1.FinishTaskRequest]) (*connect.Response[wattlev1.FinishTaskResponse], error) {
	if n := len(r.Msg.GetOutput()); n > MaxRequest {
		return nil, fault.New(fault.Limit, "output_limit", "the output has %d bytes; a message may have %d", n, MaxRequest).
			With("limit", "request_bytes").With("value", MaxRequest).Hint("upload it with StartUpload and UploadChunk, and send its digest; client.Work does that by itself")
	}
	if err := h.j.Finish(ctx, r.Msg); err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.FinishTaskResponse{}), nil
}
