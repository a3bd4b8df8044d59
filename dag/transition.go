package dag

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"

	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// A task whose recorded attempts were lost so often runs alone from then on,
	suspectAfter = 2
	// and when it was lost so often while it ran alone, it is what kills the nodes.
	poisonousAfter = 3
	// When it was lost so often at all, it is too: nodes that die may stay silent for longer than they are waited for.
	hopelessAfter = 20
	// Of a task's failures the last ones are kept.
	keptErrors = 5
)

// submit makes a job, unless it is there: then the answer is that job, whatever the plan says now.
func (t *transition) submit(c *storev1.Submit) *fault.Error {
	if t.job = readJob(t.tx, t.id); t.job != nil {
		return nil
	}
	t.plan = c.Plan
	if len(t.plan.GetStages()) == 0 {
		return fault.New(fault.Invalid, "no_stages", "a job needs at least one stage")
	}
	now := t.cmd.Time.UnixNano()
	t.job = &storev1.JobRecord{Id: string(t.id), Name: t.plan.Name, State: wattlev1.JobState_JOB_STATE_RUNNING, CreatedAt: now}
	if t.plan.Timeout > 0 {
		t.job.Deadline = now + t.plan.Timeout
		t.effect(Deadline{t.id, time.Unix(0, t.job.Deadline)})
	}
	t.tx.Set(jobKey('p', t.id), encode(t.plan))
	t.tx.Set(jobKey('a', t.id), nil)
	t.dirty = true
	t.result.Created = true
	t.admit()
	return nil
}

// admit starts every stage whose dependencies are complete, stages without tasks included, and ends the job when all are.
func (t *transition) admit() {
	for again := true; again; {
		again = false
		for n, s := range t.plan.Stages {
			st := t.stage(uint32(n))
			if st.State > wattlev1.StageState_STAGE_STATE_PENDING || !t.complete(s.After) {
				continue
			}
			if st.Term == 0 {
				st.Term = t.cmd.Term
			}
			st.State = wattlev1.StageState_STAGE_STATE_RUNNING
			if st.Completed == s.Tasks {
				st.State = wattlev1.StageState_STAGE_STATE_COMPLETED
				again = true
			}
			t.setStage(uint32(n))
			t.startWaiting(uint32(n))
		}
	}
	for n := range t.plan.Stages {
		if t.stage(uint32(n)).State != wattlev1.StageState_STAGE_STATE_COMPLETED {
			return
		}
	}
	t.finalize(wattlev1.JobState_JOB_STATE_COMPLETED, nil)
}

func (t *transition) complete(stages []uint32) bool {
	return !slices.ContainsFunc(stages, func(n uint32) bool {
		return t.stage(n).State != wattlev1.StageState_STAGE_STATE_COMPLETED
	})
}

// startWaiting lets what is unfinished in a stage run.
func (t *transition) startWaiting(n uint32) {
	st := t.stage(n)
	if st.State == wattlev1.StageState_STAGE_STATE_RUNNING && t.job.State == wattlev1.JobState_JOB_STATE_RUNNING {
		t.effects = append(t.effects, runs(t.tx, t.id, t.plan, n, t.plan.Stages[n].Tasks, st)...)
	}
}

// rerun lets one task run as its record says, unless its stage waits.
func (t *transition) rerun(stage, task uint32, r *storev1.TaskRecord) {
	if t.stage(stage).State == wattlev1.StageState_STAGE_STATE_RUNNING && t.job.State == wattlev1.JobState_JOB_STATE_RUNNING {
		t.effect(newRun(t.id, t.plan, stage, task, 1, r))
	}
}

func (t *transition) finalize(state wattlev1.JobState, err *wattlev1.JobError) {
	t.job.State, t.job.Error = state, err
	t.job.FinalizedAt = t.cmd.Time.UnixNano()
	t.tx.Delete(jobKey('a', t.id))
	t.dirty = true
	t.effect(Stop{t.id})
}

// current returns the record of a task if generation and attempt are the recorded ones and it is unfinished: this is the fence.
func current(r machine.Reader, job *storev1.JobRecord, plan *storev1.Plan, stage func(uint32) *storev1.StageRecord, id TaskID, generation, attempt uint32) (*storev1.TaskRecord, *fault.Error) {
	if final(job.State) {
		return nil, errFinal(id.Job)
	}
	if int(id.Stage) >= len(plan.Stages) || id.Index >= plan.Stages[id.Stage].Tasks {
		return nil, errUnknownTask(id)
	}
	st := stage(id.Stage)
	t := readTask(r, id.Job, id.Stage, id.Index, st.Term)
	if st.Term == 0 || t.Generation != generation || t.Attempt != attempt ||
		t.State == wattlev1.TaskState_TASK_STATE_COMPLETED || t.State == wattlev1.TaskState_TASK_STATE_DISCARDED {
		return nil, fault.New(fault.Precondition, "stale_attempt", "generation %d, attempt %d of task %d is not the current one", generation, attempt, id.Index)
	}
	return t, nil
}

func (t *transition) current(stage, task, generation, attempt uint32) (*storev1.TaskRecord, *fault.Error) {
	return current(t.tx, t.job, t.plan, t.stage, TaskID{t.id, stage, task}, generation, attempt)
}

// start records that the next attempt of a task begins, and how the one before it ended: unknown.
func (t *transition) start(c *storev1.Start) *fault.Error {
	r, err := t.current(c.Stage, c.Task, c.Generation, c.Attempt)
	if err != nil {
		return err
	}
	if t.job.State != wattlev1.JobState_JOB_STATE_RUNNING || t.stage(c.Stage).State != wattlev1.StageState_STAGE_STATE_RUNNING {
		return fault.New(fault.Precondition, "not_now", "the task waits")
	}
	if c.Term != 0 && c.Term != t.cmd.Term {
		return fault.New(fault.Precondition, "stale_leader", "the leader of term %d is none any more", c.Term)
	}
	if t.plan.Stages[c.Stage].External {
		t.acquire(c, r)
		return nil
	}
	if _, recorded := t.tx.Get(taskKey(t.id, c.Stage, c.Task)); recorded && r.State != wattlev1.TaskState_TASK_STATE_RETRYABLE {
		r.Lost++
		if r.Alone && !c.Silent {
			r.LostAlone++
		}
	}
	if r.LostAlone >= poisonousAfter || r.Lost >= hopelessAfter {
		r.State = wattlev1.TaskState_TASK_STATE_DISCARDED
		t.setTask(c.Stage, c.Task, r)
		why := fmt.Sprintf("the node died %d times while this task ran with nothing beside it", r.LostAlone)
		if r.LostAlone < poisonousAfter {
			why = fmt.Sprintf("nodes died or fell silent %d times while they ran this task", r.Lost)
		}
		t.fail(c.Stage, c.Task, c.Attempt, "poisonous_task", why)
		return nil
	}
	r.Attempt++
	r.Term = t.cmd.Term
	r.NotBefore = 0
	r.Alone = c.Alone
	r.State = wattlev1.TaskState_TASK_STATE_RUNNING
	t.result.Attempt = r.Attempt
	t.setTask(c.Stage, c.Task, r)
	return nil
}

// starts takes several as if they came one by one.
func (t *transition) starts(c *storev1.Starts) {
	for _, s := range c.Starts {
		t.result.Attempt = 0
		_ = t.start(s) // then there is no attempt
		t.result.Attempts = append(t.result.Attempts, t.result.Attempt)
	}
}

func (t *transition) fail(stage, task, attempt uint32, reason, message string) {
	t.finalize(wattlev1.JobState_JOB_STATE_FAILED, &wattlev1.JobError{
		Message: message, Stage: t.plan.Stages[stage].Name, Task: task, Attempt: attempt, Reason: reason,
	})
}

func (t *transition) finish(c *storev1.Finish) *fault.Error {
	r, err := t.current(c.Stage, c.Task, c.Generation, c.Attempt)
	if err != nil {
		return err
	}
	r.Usage, r.Node = c.Usage, c.Node
	if c.External {
		if err := t.giveBack(c, r); err != nil {
			return err
		}
	}
	ended := Ended{AttemptID: AttemptID{TaskID{t.id, c.Stage, c.Task}, c.Generation, c.Attempt}}
	if out := c.GetCompleted(); out != nil {
		ended.Took = c.Usage.GetDuration().AsDuration()
		if out.GetBytes().GetDigest() != "" && readOneByOne(t.plan, c.Stage) {
			ended.At = out.Node
		}
	}
	t.effect(ended)
	switch o := c.Outcome.(type) {
	case *storev1.Finish_Completed:
		t.completed(c, r, o.Completed)
	case *storev1.Finish_Failed:
		t.failed(c, r, o.Failed)
	case *storev1.Finish_Released:
		r.Attempt++
		r.Term = t.cmd.Term
		r.NotBefore = 0
		r.State = wattlev1.TaskState_TASK_STATE_RETRYABLE
		t.setTask(c.Stage, c.Task, r)
		t.rerun(c.Stage, c.Task, r)
	default:
		return fault.New(fault.Invalid, "bad_command", "a finish without an outcome")
	}
	return nil
}

// finishes takes several as if they came one by one.
func (t *transition) finishes(c *storev1.Finishes) {
	for i, f := range c.Finishes {
		if t.finish(f) != nil {
			t.result.Refused = append(t.result.Refused, uint32(i))
		}
	}
}

func (t *transition) completed(c *storev1.Finish, r *storev1.TaskRecord, out *storev1.Output) {
	replaced := r.Replaces
	r.State = wattlev1.TaskState_TASK_STATE_COMPLETED
	r.Output = out
	r.Replaces = ""
	r.NotBefore, r.Alone, r.Lost, r.LostAlone, r.Troubles = 0, false, 0, 0, 0
	t.setTask(c.Stage, c.Task, r)
	st := t.stage(c.Stage)
	st.Completed++
	st.OutputBytes += out.GetBytes().GetSize()
	st.Records = st.Records || out.GetRecords()
	if replaced != "" && replaced != out.GetBytes().GetDigest() {
		t.invalidate(c.Stage, c.Task)
	}
	if st.Completed < t.plan.Stages[c.Stage].Tasks {
		t.setStage(c.Stage)
		return
	}
	st.State = wattlev1.StageState_STAGE_STATE_COMPLETED
	t.setStage(c.Stage)
	t.admit()
}

func (t *transition) failed(c *storev1.Finish, r *storev1.TaskRecord, f *storev1.Failure) {
	stage := t.plan.Stages[c.Stage]
	if f.Trouble {
		r.Troubles++
	} else {
		r.Failures++
		r.Troubles = 0
	}
	r.Errors = append(r.Errors, &wattlev1.AttemptError{Attempt: r.Attempt, Reason: f.Reason, Message: f.Message, At: timestamppb.New(t.cmd.Time), Usage: c.Usage})
	if len(r.Errors) > keptErrors {
		r.Errors = r.Errors[len(r.Errors)-keptErrors:]
	}
	t.stage(c.Stage).Failures++
	t.setStage(c.Stage)
	if !f.Trouble && (!f.Retryable || r.Failures >= stage.Retry.GetMaxAttempts()) {
		r.State = wattlev1.TaskState_TASK_STATE_DISCARDED
		t.setTask(c.Stage, c.Task, r)
		t.fail(c.Stage, c.Task, c.Attempt, f.Reason, f.Message)
		return
	}
	r.NotBefore = t.cmd.Time.UnixNano() + t.backoff(TaskID{t.id, c.Stage, c.Task}, r, stage.Retry)
	r.State = wattlev1.TaskState_TASK_STATE_RETRYABLE
	r.Attempt++
	r.Term = t.cmd.Term
	t.setTask(c.Stage, c.Task, r)
	t.rerun(c.Stage, c.Task, r)
}

// backoff doubles with every failure and lies within a fifth of that, by a hash, so that every replica finds the same.
func (t *transition) backoff(id TaskID, r *storev1.TaskRecord, p *storev1.Retry) int64 {
	d := max(p.Backoff, int64(time.Millisecond))
	if r.Troubles > 0 {
		d = max(d, int64(time.Second)) // whatever the policy says: the node needs air
	}
	for range max(r.Failures, r.Troubles) - 1 {
		if d *= 2; d >= p.MaxBackoff || d <= 0 {
			break
		}
	}
	if d > p.MaxBackoff || d < 0 {
		d = max(p.MaxBackoff, int64(time.Millisecond))
	}
	h := fnv.New64a()
	fmt.Fprint(h, id)
	h.Write(binary.BigEndian.AppendUint32(nil, r.Attempt))
	return d - d/5 + int64(h.Sum64()%1024)*(2*d/5)/1024
}

func (t *transition) cancel() *fault.Error {
	if final(t.job.State) {
		return nil // canceling what is over is no error: the answer says how it ended
	}
	t.finalize(wattlev1.JobState_JOB_STATE_CANCELED, nil)
	return nil
}

func (t *transition) pause() *fault.Error {
	if err := t.running(); err != nil {
		return err
	}
	t.job.State = wattlev1.JobState_JOB_STATE_PAUSED
	t.dirty = true
	t.effect(Hold{Job: t.id, All: true})
	return nil
}

func (t *transition) resume() *fault.Error {
	if err := t.running(); err != nil {
		return err
	}
	t.job.State = wattlev1.JobState_JOB_STATE_RUNNING
	t.dirty = true
	for n := range t.plan.Stages {
		t.startWaiting(uint32(n))
	}
	return nil
}

// expire ends a job whose time is over. Asked too early, by a clock that runs ahead, it asks again.
func (t *transition) expire() *fault.Error {
	if final(t.job.State) || t.job.Deadline == 0 {
		return nil
	}
	if t.cmd.Time.UnixNano() < t.job.Deadline {
		t.effect(Deadline{t.id, time.Unix(0, t.job.Deadline)})
		return nil
	}
	t.finalize(wattlev1.JobState_JOB_STATE_FAILED, &wattlev1.JobError{
		Reason: "job_timeout", Message: fmt.Sprintf("the job did not finish within %s", time.Duration(t.plan.Timeout)),
	})
	return nil
}

// delete forgets a job that is over.
func (t *transition) delete() *fault.Error {
	if !final(t.job.State) {
		return fault.New(fault.Precondition, "job_running", "job %s is not over", t.id).Hint("cancel it first: wattle job cancel %s", t.id)
	}
	for _, kind := range []byte{'j', 'p', 's', 't'} {
		k := jobKey(kind, t.id)
		t.tx.DeleteRange(k, append(jobKey(kind, t.id), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
	}
	t.effect(Changed{t.id})
	return nil
}
