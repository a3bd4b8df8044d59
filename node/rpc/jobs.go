package rpc

import (
	"context"
	"io"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// Jobs runs jobs.
type Jobs interface {
	Submit(ctx context.Context, spec *wattlev1.JobSpec, key string) (*wattlev1.Job, bool, error)
	Get(ctx context.Context, id dag.JobID) (*wattlev1.Job, error)
	List(ctx context.Context, limit int) ([]*storev1.JobRecord, error)
	Watch(ctx context.Context, id dag.JobID, fn func(*wattlev1.Job) error) error
	Cancel(ctx context.Context, id dag.JobID) (*wattlev1.Job, error)
	Pause(ctx context.Context, id dag.JobID) (*wattlev1.Job, error)
	Resume(ctx context.Context, id dag.JobID) (*wattlev1.Job, error)
	Delete(ctx context.Context, id dag.JobID) error
	Tasks(ctx context.Context, id dag.JobID, stage string, offset, limit uint32) ([]*wattlev1.Task, error)
	Result(ctx context.Context, id dag.JobID, stage string, task *uint32, header func(*wattlev1.ResultHeader) error, data io.Writer) error
	Acquire(ctx context.Context, q *wattlev1.AcquireTasksRequest) ([]*wattlev1.AcquiredTask, error)
	Input(ctx context.Context, token string, data io.Writer) error
	Extend(ctx context.Context, q *wattlev1.ExtendTaskRequest) error
	Finish(ctx context.Context, q *wattlev1.FinishTaskRequest) error
}

type jobHandler struct{ j Jobs }

func (h *jobHandler) SubmitJob(ctx context.Context, r *connect.Request[wattlev1.SubmitJobRequest]) (*connect.Response[wattlev1.SubmitJobResponse], error) {
	job, created, err := h.j.Submit(ctx, r.Msg.Spec, r.Msg.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.SubmitJobResponse{Job: job, Created: created}), nil
}

func (h *jobHandler) GetJob(ctx context.Context, r *connect.Request[wattlev1.GetJobRequest]) (*connect.Response[wattlev1.GetJobResponse], error) {
	job, err := withID(ctx, r.Msg.Id, h.j.Get)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.GetJobResponse{Job: job}), nil
}

func withID(ctx context.Context, s string, fn func(context.Context, dag.JobID) (*wattlev1.Job, error)) (*wattlev1.Job, error) {
	id, err := dag.ParseJobID(s)
	if err != nil {
		return nil, err
	}
	return fn(ctx, id)
}

func (h *jobHandler) ListJobs(ctx context.Context, r *connect.Request[wattlev1.ListJobsRequest]) (*connect.Response[wattlev1.ListJobsResponse], error) {
	limit := int(r.Msg.Limit)
	if limit == 0 {
		limit = 100
	}
	jobs, err := h.j.List(ctx, min(limit, 1000))
	if err != nil {
		return nil, err
	}
	res := &wattlev1.ListJobsResponse{}
	for _, j := range jobs {
		v := &wattlev1.Job{Id: j.Id, Name: j.Name, State: j.State, CreatedAt: timestamppb.New(time.Unix(0, j.CreatedAt)), Error: j.Error}
		if j.FinalizedAt != 0 {
			v.FinalizedAt = timestamppb.New(time.Unix(0, j.FinalizedAt))
		}
		res.Jobs = append(res.Jobs, v)
	}
	return connect.NewResponse(res), nil
}

func (h *jobHandler) WatchJob(ctx context.Context, r *connect.Request[wattlev1.WatchJobRequest], stream *connect.ServerStream[wattlev1.WatchJobResponse]) error {
	id, err := dag.ParseJobID(r.Msg.Id)
	if err != nil {
		return err
	}
	return h.j.Watch(ctx, id, func(job *wattlev1.Job) error { return stream.Send(&wattlev1.WatchJobResponse{Job: job}) })
}

func (h *jobHandler) CancelJob(ctx context.Context, r *connect.Request[wattlev1.CancelJobRequest]) (*connect.Response[wattlev1.CancelJobResponse], error) {
	job, err := withID(ctx, r.Msg.Id, h.j.Cancel)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.CancelJobResponse{Job: job}), nil
}

func (h *jobHandler) PauseJob(ctx context.Context, r *connect.Request[wattlev1.PauseJobRequest]) (*connect.Response[wattlev1.PauseJobResponse], error) {
	job, err := withID(ctx, r.Msg.Id, h.j.Pause)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.PauseJobResponse{Job: job}), nil
}

func (h *jobHandler) ResumeJob(ctx context.Context, r *connect.Request[wattlev1.ResumeJobRequest]) (*connect.Response[wattlev1.ResumeJobResponse], error) {
	job, err := withID(ctx, r.Msg.Id, h.j.Resume)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.ResumeJobResponse{Job: job}), nil
}

func (h *jobHandler) DeleteJob(ctx context.Context, r *connect.Request[wattlev1.DeleteJobRequest]) (*connect.Response[wattlev1.DeleteJobResponse], error) {
	id, err := dag.ParseJobID(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	if err := h.j.Delete(ctx, id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.DeleteJobResponse{}), nil
}

func (h *jobHandler) ListTasks(ctx context.Context, r *connect.Request[wattlev1.ListTasksRequest]) (*connect.Response[wattlev1.ListTasksResponse], error) {
	id, err := dag.ParseJobID(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	const most = 1000
	limit := r.Msg.Limit
	if limit == 0 {
		limit = most
	}
	tasks, err := h.j.Tasks(ctx, id, r.Msg.Stage, r.Msg.Offset, min(limit, most))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&wattlev1.ListTasksResponse{Tasks: tasks}), nil
}

func (h *jobHandler) ReadResult(ctx context.Context, r *connect.Request[wattlev1.ReadResultRequest], stream *connect.ServerStream[wattlev1.ReadResultResponse]) error {
	id, err := dag.ParseJobID(r.Msg.Id)
	if err != nil {
		return err
	}
	return h.j.Result(ctx, id, r.Msg.Stage, r.Msg.Task, func(head *wattlev1.ResultHeader) error {
		return stream.Send(&wattlev1.ReadResultResponse{Content: &wattlev1.ReadResultResponse_Header{Header: head}})
	}, streamWriter(func(p []byte) error {
		return stream.Send(&wattlev1.ReadResultResponse{Content: &wattlev1.ReadResultResponse_Data{Data: p}})
	}))
}

// streamWriter sends what is written in messages of a bounded size.
type streamWriter func(p []byte) error

func (send streamWriter) Write(p []byte) (n int, err error) {
	const most = 256 << 10
	for len(p) > 0 {
		c := p[:min(len(p), most)]
		if err := send(c); err != nil {
			return n, err
		}
		n += len(c)
		p = p[len(c):]
	}
	return n, nil
}
