package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// Submit hands a job over. When it returns, the job is durable. An empty key takes a random one; with a key of your own,
// submitting again answers the same job.
func (c *Client) Submit(ctx context.Context, spec *wattlev1.JobSpec, key string) (job *wattlev1.Job, err error) {
	if key == "" {
		key = rand.Text()
	}
	err = c.retry(ctx, func() error {
		res, err := c.Jobs.SubmitJob(ctx, connect.NewRequest(&wattlev1.SubmitJobRequest{Spec: spec, IdempotencyKey: key}))
		if err != nil {
			return err
		}
		job = res.Msg.Job
		return nil
	})
	return job, err
}

// Watch calls fn with a job now and whenever it has changed, until it is final, and returns it as it ended. It goes on when
// the node restarts meanwhile. fn may be nil.
func (c *Client) Watch(ctx context.Context, id string, fn func(*wattlev1.Job)) (job *wattlev1.Job, err error) {
	again := temporary
	for {
		seen := false
		err = c.retryWhile(ctx, again, func() error {
			stream, err := c.Jobs.WatchJob(ctx, connect.NewRequest(&wattlev1.WatchJobRequest{Id: id}))
			if err != nil {
				return err
			}
			defer stream.Close()
			for stream.Receive() {
				seen, again = true, away // it was there: it restarts
				job = stream.Msg().Job
				if fn != nil {
					fn(job)
				}
			}
			return stream.Err()
		})
		if err == nil && job != nil && Final(job.State) || ctx.Err() != nil {
			return job, errors.Join(err, ctx.Err())
		}
		if err != nil && !seen {
			return job, err
		}
	}
}

// Final tells whether a job in this state is over.
func Final(s wattlev1.JobState) bool { return s >= wattlev1.JobState_JOB_STATE_COMPLETED }

// Result streams the output of a stage, "" for the last, and of one task of it unless task is negative. header is called
// before the data of each task is written to the writer it returns.
func (c *Client) Result(ctx context.Context, id, stage string, task int, header func(*wattlev1.ResultHeader) (io.Writer, error)) error {
	req := &wattlev1.ReadResultRequest{Id: id, Stage: stage}
	if task >= 0 {
		t := uint32(task)
		req.Task = &t
	}
	stream, err := c.Jobs.ReadResult(ctx, connect.NewRequest(req))
	if err != nil {
		return err
	}
	defer stream.Close()
	var w io.Writer
	for stream.Receive() {
		switch m := stream.Msg().Content.(type) {
		case *wattlev1.ReadResultResponse_Header:
			if w, err = header(m.Header); err != nil {
				return err
			}
		case *wattlev1.ReadResultResponse_Data:
			if w == nil {
				return errors.New("the node sent data before its header")
			}
			if _, err := w.Write(m.Data); err != nil {
				return err
			}
		}
	}
	return stream.Err()
}

// Records calls fn for every record that a stage put out, task by task. The slices are valid during the call.
func (c *Client) Records(ctx context.Context, id, stage string, fn func(key, value []byte) error) error {
	d := &recordDecoder{fn: fn}
	err := c.Result(ctx, id, stage, -1, func(h *wattlev1.ResultHeader) (io.Writer, error) {
		if h.Encoding != "records" {
			return nil, fmt.Errorf("the output of stage %s is %s, not records", h.Stage, h.Encoding)
		}
		return d, nil
	})
	if err == nil && len(d.rest) > 0 {
		err = errors.New("the last record is cut off")
	}
	return err
}

// NewRecordWriter returns a writer that decodes an output in encoding "records" as it is written. Records may be spread
// over writes.
func NewRecordWriter(fn func(key, value []byte) error) io.Writer { return &recordDecoder{fn: fn} }

type recordDecoder struct {
	fn   func(key, value []byte) error
	rest []byte
}

func (d *recordDecoder) Write(p []byte) (int, error) {
	b := p
	if len(d.rest) > 0 {
		b = append(d.rest, p...)
	}
	for {
		key, n := field(b)
		if n == 0 {
			break
		}
		value, m := field(b[n:])
		if m == 0 {
			break
		}
		if err := d.fn(key, value); err != nil {
			return 0, err
		}
		b = b[n+m:]
	}
	d.rest = append(d.rest[:0:0], b...)
	return len(p), nil
}

// field returns the bytes behind their length at the start of b and how much both take, or zero if b is too short.
func field(b []byte) ([]byte, int) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, 0
	}
	return b[k : k+int(n)], k + int(n)
}
