package jobs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// Service is what callers do with jobs. It may be used concurrently.
type Service struct {
	shards  Shards
	sched   *Scheduler
	planner *dag.Planner
	blobs   Blobs
	reads   *Executor // the inputs of tasks that clients run
}

// NewService returns a Service.
func NewService(shards Shards, sched *Scheduler, planner *dag.Planner, x *Executor) *Service {
	return &Service{shards: shards, sched: sched, planner: planner, blobs: x.Blobs, reads: x}
}

// Submit plans a job and makes it durable. The same key again answers the first job, whatever the spec is now.
func (s *Service) Submit(ctx context.Context, spec *wattlev1.JobSpec, key string) (*wattlev1.Job, bool, error) {
	if key == "" {
		return nil, false, fault.New(fault.Invalid, "no_idempotency_key", "the request has no idempotency key").
			Hint("send any text that is yours alone, such as a UUID: sent twice it runs once")
	}
	id := dag.NewJobID(dag.DefaultNamespace, key)
	// A retry must find its job even when it could not be planned any more.
	if job, err := s.Get(ctx, id); err == nil {
		return job, false, nil
	} else if fault.KindOf(err) != fault.NotFound {
		return nil, false, err
	}
	plan, err := s.planner.Plan(ctx, spec)
	if err != nil {
		return nil, false, err
	}
	res, err := s.sched.propose(ctx, id, &storev1.JobCommand{Change: &storev1.JobCommand_Submit{Submit: &storev1.Submit{Plan: plan}}})
	if err != nil {
		return nil, false, err
	}
	job, err := s.recorded(ctx, id) // what it runs by now is not worth another way to the leader
	return job, res.Created, err
}

// Get returns a job, and what of it runs now.
func (s *Service) Get(ctx context.Context, id dag.JobID) (*wattlev1.Job, error) {
	job, err := s.recorded(ctx, id)
	if err == nil && !dag.Final(job.State) { // what may still be being stopped is no part of it
		s.countRunning(ctx, id, job.Stages)
	}
	return job, err
}

// recorded returns a job as it is recorded.
func (s *Service) recorded(ctx context.Context, id dag.JobID) (job *wattlev1.Job, err error) {
	err = s.read(ctx, id, func(r machine.Reader) error {
		job, err = dag.ReadJob(r, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, st := range job.Stages {
		if job.State == wattlev1.JobState_JOB_STATE_RUNNING && st.State == wattlev1.StageState_STAGE_STATE_RUNNING {
			st.Waiting = s.waiting(st)
		}
	}
	return job, nil
}

func (s *Service) read(ctx context.Context, id dag.JobID, fn func(machine.Reader) error) error {
	return s.shards.Read(ctx, Slot(id), machine.Jobs, fn)
}

// List returns up to limit jobs without their stages, newest first.
func (s *Service) List(ctx context.Context, limit int) ([]*storev1.JobRecord, error) {
	var all []*storev1.JobRecord
	for id := range shard.ID(s.shards.Table().Shards) {
		err := s.shards.ReadShard(ctx, id, machine.Jobs, func(_ machine.Slot, r machine.Reader) error {
			all = append(all, dag.ListJobs(r)...)
			return nil
		})
		if err != nil {
			return nil, err
		}
		if len(all) > 2*limit {
			dag.SortJobs(all)
			all = all[:limit]
		}
	}
	dag.SortJobs(all)
	return all[:min(limit, len(all))], nil
}

// A job of many small tasks changes faster than anybody reads: after a few updates at once, there are this many a second.
const (
	watchBurst    = 10
	watchInterval = 50 * time.Millisecond
	// A node without a replica of the job's shard is not told of changes, and looks: soon at first, since most jobs are short, then less
	// and less often.
	firstLook   = 20 * time.Millisecond
	watchAnyway = time.Second
)

// Watch calls fn with the job now and after changes, until it is final, fn fails or ctx ends.
func (s *Service) Watch(ctx context.Context, id dag.JobID, fn func(*wattlev1.Job) error) error {
	changed, stop := s.sched.Watch(id)
	defer stop()
	var last *wattlev1.Job
	wait := firstLook
	for updates := 0; ; updates++ {
		job, err := s.Get(ctx, id)
		if err != nil {
			return err
		}
		if !proto.Equal(job, last) {
			if err := fn(job); err != nil || dag.Final(job.State) {
				return err
			}
			last, wait = job, firstLook
		}
		if s.shards.Here(s.shards.Table().Of(Slot(id))) {
			wait = watchAnyway
		}
		look := time.NewTimer(wait)
		wait = min(2*wait, watchAnyway)
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			look.Stop()
			return ctx.Err()
		}
		look.Stop()
		if updates < watchBurst {
			continue
		}
		pause := time.NewTimer(watchInterval)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// Cancel ends a job; canceling one that is over says how it ended.
func (s *Service) Cancel(ctx context.Context, id dag.JobID) (*wattlev1.Job, error) {
	return s.change(ctx, id, &storev1.JobCommand{Change: &storev1.JobCommand_Cancel{Cancel: &storev1.Cancel{}}})
}

// Pause starts no further tasks of a job.
func (s *Service) Pause(ctx context.Context, id dag.JobID) (*wattlev1.Job, error) {
	return s.change(ctx, id, &storev1.JobCommand{Change: &storev1.JobCommand_Pause{Pause: &storev1.Pause{}}})
}

// Resume goes on with a paused job.
func (s *Service) Resume(ctx context.Context, id dag.JobID) (*wattlev1.Job, error) {
	return s.change(ctx, id, &storev1.JobCommand{Change: &storev1.JobCommand_Resume{Resume: &storev1.Resume{}}})
}

// Delete forgets a job that is over, and with it its results.
func (s *Service) Delete(ctx context.Context, id dag.JobID) error {
	_, err := s.sched.propose(ctx, id, &storev1.JobCommand{Change: &storev1.JobCommand_Delete{Delete: &storev1.Delete{}}})
	return err
}

func (s *Service) change(ctx context.Context, id dag.JobID, c *storev1.JobCommand) (*wattlev1.Job, error) {
	if _, err := s.sched.propose(ctx, id, c); err != nil {
		return nil, err
	}
	return s.Get(ctx, id)
}

// Tasks returns up to limit tasks of a stage, from offset on.
func (s *Service) Tasks(ctx context.Context, id dag.JobID, stage string, offset, limit uint32) (tasks []*wattlev1.Task, err error) {
	var n uint32
	err = s.read(ctx, id, func(r machine.Reader) error {
		if n, _, err = dag.StageIndex(r, id, stage); err != nil {
			return err
		}
		tasks, err = dag.ReadTasks(r, id, n, offset, limit)
		return err
	})
	if err == nil {
		s.markRunning(ctx, id, n, tasks)
	}
	return tasks, err
}

// Result opens the outputs of a stage, or of one task of it, one after the other: header first, then data.
func (s *Service) Result(ctx context.Context, id dag.JobID, stage string, task *uint32, header func(*wattlev1.ResultHeader) error, data io.Writer) error {
	var outputs []*storev1.Output
	var headers []*wattlev1.ResultHeader
	err := s.read(ctx, id, func(r machine.Reader) error {
		n, st, err := dag.StageIndex(r, id, stage)
		if err != nil {
			return err
		}
		if st.Partitions > 0 {
			return fault.New(fault.Precondition, "shuffled", "the records of stage %s were shuffled for the stage that reduces them", st.Name).
				Hint("ask for the result of that stage")
		}
		first, count := uint32(0), st.Tasks
		if task != nil {
			if first, count = *task, 1; first >= st.Tasks {
				return fault.New(fault.NotFound, "unknown_task", "stage %s has %d tasks, none with index %d", st.Name, st.Tasks, first).
					Hint("tasks count from 0 to %d", st.Tasks-1)
			}
		}
		for i := first; i < first+count; i++ {
			o, err := dag.ReadOutput(r, id, n, i)
			if err != nil {
				return err
			}
			outputs = append(outputs, o)
			headers = append(headers, &wattlev1.ResultHeader{Stage: st.Name, Task: i, Digest: o.GetBytes().GetDigest(), Size: o.GetBytes().GetSize(), Encoding: dag.Encoding(o.GetRecords())})
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, o := range outputs {
		if err := header(headers[i]); err != nil {
			return err
		}
		if err := s.copy(ctx, o.GetBytes(), data); err != nil {
			return fmt.Errorf("task %d: %w", headers[i].Task, err)
		}
	}
	return nil
}

func (s *Service) copy(ctx context.Context, b *storev1.Bytes, w io.Writer) error {
	if b.GetDigest() == "" {
		_, err := w.Write(b.GetInline())
		return err
	}
	d, err := digest.Parse(b.Digest)
	if err != nil {
		return err
	}
	r, err := s.blobs.Open(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(w, r.Reader(0, r.Size()))
	return err
}

// Retain deletes the jobs that were over before a time. It is how results do not pile up for ever.
func (s *Service) Retain(ctx context.Context, before time.Time) (deleted int, err error) {
	for id := range shard.ID(s.shards.Table().Shards) {
		var old []dag.JobID
		err := s.shards.ReadShard(ctx, id, machine.Jobs, func(_ machine.Slot, r machine.Reader) error {
			for _, j := range dag.ListJobs(r) {
				if j.FinalizedAt != 0 && j.FinalizedAt < before.UnixNano() {
					old = append(old, dag.JobID(j.Id))
				}
			}
			return nil
		})
		if err != nil {
			return deleted, err
		}
		for _, j := range old {
			if err := s.Delete(ctx, j); err != nil && fault.KindOf(err) != fault.NotFound {
				slog.Warn("job not deleted", "job", j, "error", err)
				continue
			}
			deleted++
		}
	}
	return deleted, nil
}
