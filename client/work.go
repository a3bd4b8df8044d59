package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// MaxTaskOutput is how many bytes a client may put out for a task.
const MaxTaskOutput = 64 << 20

// inMessage is up to how many bytes an output travels in one message.
const inMessage = 8 << 20

// WorkOptions say which tasks a client runs. The zero value runs one at a time, of external stages without a pool.
type WorkOptions struct {
	// Pool is the pool whose tasks are run, beside those of none.
	Pool string
	// Parallel is how many tasks run at once; 1 by default.
	Parallel int
	// Lease is how long the others wait for this client when it is silent; 30 s by default.
	Lease time.Duration
	// Name says who this is, for people.
	Name string
	// Ended is told how each attempt ended: with nil, if its output counts. It may be called by several goroutines at once.
	Ended func(t *ExternalTask, err error)
}

// ExternalTask is one attempt of a task that a client runs.
type ExternalTask struct {
	Job, Stage    string
	Task, Attempt uint32
	Params        map[string]string
	// Input is read once, from its start to its end.
	Input io.Reader
}

// ErrStale is why the context of a task ends that counts no more: its job is over, or another client has it.
var ErrStale = errors.New("the task counts no more")

// Permanent marks an error of a task that trying again does not help.
func Permanent(err error) error { return &permanent{err} }

type permanent struct{ error }

func (p *permanent) Unwrap() error { return p.error }

// Work runs tasks of external stages until ctx ends: fn gets each and returns its output. The context of fn goes on when ctx ends,
// so that what has begun is finished before Work returns; it ends when the task counts no more. While fn runs, its lease is extended.
// An error of fn is the attempt's, which may be tried again: see Permanent. Work waits for a node that is away, once one has answered.
func (c *Client) Work(ctx context.Context, o WorkOptions, fn func(ctx context.Context, t *ExternalTask) ([]byte, error)) error {
	o.Parallel = max(o.Parallel, 1)
	if o.Lease <= 0 {
		o.Lease = 30 * time.Second
	}
	if o.Ended == nil {
		o.Ended = func(*ExternalTask, error) {}
	}
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, o.Parallel)
	met := false
	for pause := minPause; ; {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		<-slots
		res, err := c.Jobs.AcquireTasks(ctx, connect.NewRequest(&wattlev1.AcquireTasksRequest{
			Pool: o.Pool, MaxTasks: uint32(o.Parallel - len(slots)), Wait: durationpb.New(30 * time.Second), Lease: durationpb.New(o.Lease), Client: o.Name,
		}))
		switch {
		case ctx.Err() != nil:
			if err == nil {
				c.release(context.WithoutCancel(ctx), res.Msg.Tasks)
			}
			return nil
		case err != nil && (!away(err) || !met && refused(err)):
			return err
		case err != nil:
			c.failed(err)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			pause = min(2*pause, maxPause)
			continue
		}
		met, pause = true, minPause
		for _, t := range res.Msg.Tasks {
			slots <- struct{}{}
			running.Go(func() {
				defer func() { <-slots }()
				x := &ExternalTask{Job: t.JobId, Stage: t.Stage, Task: t.Task, Attempt: t.Attempt, Params: t.Params}
				o.Ended(x, c.runTask(context.WithoutCancel(ctx), o, t, x, fn))
			})
		}
	}
}

// The pauses between two requests to a node that does not answer.
const minPause, maxPause = 100 * time.Millisecond, 5 * time.Second

// release gives tasks back that came too late.
func (c *Client) release(ctx context.Context, tasks []*wattlev1.AcquiredTask) {
	for _, t := range tasks {
		_, err := c.Jobs.FinishTask(ctx, connect.NewRequest(&wattlev1.FinishTaskRequest{Token: t.Token, Outcome: &wattlev1.FinishTaskRequest_Release{Release: &wattlev1.TaskRelease{}}}))
		if err != nil {
			return // their leases end
		}
	}
}

func (c *Client) runTask(
	ctx context.Context, o WorkOptions, t *wattlev1.AcquiredTask, x *ExternalTask, fn func(context.Context, *ExternalTask) ([]byte, error),
) error {
	running, cancel := context.WithCancelCause(ctx)
	var extending sync.WaitGroup
	extending.Go(func() { c.extend(running, cancel, t.Token, o.Lease) })
	x.Input = bytes.NewReader(t.Input)
	if t.InputWithheld {
		in := &taskInput{ctx: running, c: c, token: t.Token}
		defer in.close()
		x.Input = in
	}
	out, err := fn(running, x)
	if err == nil && len(out) > MaxTaskOutput {
		err = Permanent(fmt.Errorf("the output has %d bytes; a task may put out %d", len(out), MaxTaskOutput))
	}
	stale := errors.Is(context.Cause(running), ErrStale)
	// The lease is extended until the end is known, which may take long to send.
	if !stale {
		err = errors.Join(err, c.finishTask(ctx, t.Token, out, err))
	} else {
		err = ErrStale
	}
	cancel(nil)
	extending.Wait()
	return err
}

// extend extends the lease of a task until ctx ends, and ends it when the task counts no more.
func (c *Client) extend(ctx context.Context, cancel context.CancelCauseFunc, token string, lease time.Duration) {
	tick := time.NewTicker(lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		_, err := c.Jobs.ExtendTask(ctx, connect.NewRequest(&wattlev1.ExtendTaskRequest{Token: token, Lease: durationpb.New(lease)}))
		if code := connect.CodeOf(err); err != nil && (code == connect.CodeFailedPrecondition || code == connect.CodeNotFound) {
			cancel(ErrStale)
			return
		}
	}
}

func (c *Client) finishTask(ctx context.Context, token string, out []byte, failed error) error {
	return c.retryWhile(ctx, away, func() error {
		req := &wattlev1.FinishTaskRequest{Token: token}
		switch {
		case failed != nil:
			var p *permanent
			req.Outcome = &wattlev1.FinishTaskRequest_Failure{Failure: &wattlev1.TaskFailure{Message: failed.Error(), Permanent: errors.As(failed, &p)}}
		case len(out) <= inMessage:
			req.Outcome = &wattlev1.FinishTaskRequest_Output{Output: out}
		default:
			name, err := c.upload(ctx, out, nil)
			if err != nil {
				return err
			}
			req.Outcome = &wattlev1.FinishTaskRequest_OutputDigest{OutputDigest: name}
		}
		_, err := c.Jobs.FinishTask(ctx, connect.NewRequest(req))
		return err
	})
}

// taskInput asks for a large input when it is read.
type taskInput struct {
	ctx    context.Context
	c      *Client
	token  string
	stream *connect.ServerStreamForClient[wattlev1.ReadTaskInputResponse]
	rest   []byte
}

func (i *taskInput) Read(p []byte) (int, error) {
	if i.stream == nil {
		s, err := i.c.Jobs.ReadTaskInput(i.ctx, connect.NewRequest(&wattlev1.ReadTaskInputRequest{Token: i.token}))
		if err != nil {
			return 0, err
		}
		i.stream = s
	}
	for len(i.rest) == 0 {
		if !i.stream.Receive() {
			if err := i.stream.Err(); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}
		i.rest = i.stream.Msg().Data
	}
	n := copy(p, i.rest)
	i.rest = i.rest[n:]
	return n, nil
}

func (i *taskInput) close() {
	if i.stream != nil {
		i.stream.Close()
	}
}
