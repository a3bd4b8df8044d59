package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/wattlehq/wattle/dag"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// What runs right now is in no record: whoever leads a job's shard has it from the nodes that run it. It is told to who looks at a job, and
// left out if the leader does not say so in time.
const runningWait = time.Second

// Running returns which tasks of a job run now. Only the node knows that leads its shard; others say "no_leader".
func (s *Scheduler) Running(job string) ([]*peerv1.RunningTask, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := dag.JobID(job)
	if !s.dispatcher.Leads(id) {
		return nil, fault.New(fault.Unavailable, "no_leader", "this node does not lead the shard of job %s", job).Hint("ask the one that does")
	}
	return each(s.dispatcher.Running(id, s.holder.Begun), func(r dag.Running) *peerv1.RunningTask {
		return &peerv1.RunningTask{Stage: r.Stage, Task: r.Task, Attempt: r.Attempt, Node: r.Node}
	}), nil
}

// running asks whoever leads the job's shard.
func (s *Service) running(ctx context.Context, id dag.JobID) []*peerv1.RunningTask {
	ctx, cancel := context.WithTimeout(ctx, runningWait)
	defer cancel()
	tasks, err := s.sched.peers.Running(ctx, s.shards.Table().Of(Slot(id)), string(id))
	if err != nil {
		slog.Debug("it is not known what runs", "job", id, "error", err)
	}
	return tasks
}

// countRunning tells how many tasks of each stage run. What clients have is recorded.
func (s *Service) countRunning(ctx context.Context, id dag.JobID, stages []*wattlev1.Stage) {
	for _, r := range s.running(ctx, id) {
		if int(r.Stage) < len(stages) && !stages[r.Stage].External {
			stages[r.Stage].Running++
		}
	}
}

// markRunning marks those among tasks of a stage that run.
func (s *Service) markRunning(ctx context.Context, id dag.JobID, stage uint32, tasks []*wattlev1.Task) {
	byIndex := map[uint32]*wattlev1.Task{}
	for _, t := range tasks {
		if t.State == wattlev1.TaskState_TASK_STATE_AVAILABLE || t.State == wattlev1.TaskState_TASK_STATE_RETRYABLE {
			byIndex[t.Index] = t
		}
	}
	if len(byIndex) == 0 {
		return
	}
	for _, r := range s.running(ctx, id) {
		if t := byIndex[r.Task]; t != nil && r.Stage == stage && r.Attempt == t.Attempt {
			t.State, t.Node = wattlev1.TaskState_TASK_STATE_RUNNING, r.Node
		}
	}
}
