package dag

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// Work is what one attempt needs to know.
type Work struct {
	Stage *storev1.PlanStage
	// Inputs are the outputs the task reads, of stage Stage.From, in the order of their tasks: all of them for a reduce or
	// collect, one for each.
	Inputs []Input
}

// Input is one task's output as another task's input.
type Input struct {
	Task       uint32
	Generation uint32
	Output     *storev1.Output
}

// Works reads what attempts of one job need, all at the same moment. What they have in common is read once.
type Works struct {
	r      machine.Reader
	id     JobID
	job    *storev1.JobRecord
	plan   *storev1.Plan
	stages map[uint32]*storev1.StageRecord
}

// ReadWorks returns the Works of a job as r shows it.
func ReadWorks(r machine.Reader, id JobID) *Works {
	w := &Works{r: r, id: id, job: readJob(r, id), stages: map[uint32]*storev1.StageRecord{}}
	if w.job != nil {
		w.plan = readPlan(r, id)
	}
	return w
}

func (w *Works) stage(n uint32) *storev1.StageRecord {
	if w.stages[n] == nil {
		w.stages[n] = readStage(w.r, w.id, n)
	}
	return w.stages[n]
}

// Current tells, with an error, if an attempt is not the recorded one any more, or if its job is over: see Of.
func (w *Works) Current(p Pick) error {
	_, err := w.record(p)
	return err
}

func (w *Works) record(p Pick) (*storev1.TaskRecord, error) {
	if w.job == nil {
		return nil, errUnknownJob(w.id)
	}
	t, err := current(w.r, w.job, w.plan, w.stage, p.Task, p.Generation, p.Attempt)
	if err != nil {
		return nil, err // not a nil *fault.Error
	}
	return t, nil
}

// Of returns what an attempt needs. One that is not the recorded one any more, or whose job is over, is told so with the
// Precondition errors "stale_attempt" and "job_final": nothing it did would count. One whose inputs are not all there gets
// "input_pending", one that waits for its job or stage to go on "not_now": its task will run again when they are.
func (w *Works) Of(p Pick) (*Work, error) {
	if err := w.Current(p); err != nil {
		return nil, err
	}
	if w.job.State == wattlev1.JobState_JOB_STATE_PAUSED || w.stage(p.Task.Stage).State != wattlev1.StageState_STAGE_STATE_RUNNING {
		return nil, fault.New(fault.Precondition, "not_now", "the task waits")
	}
	work := &Work{Stage: w.plan.Stages[p.Task.Stage]}
	return work, work.readInputs(w.r, p.Task, w.plan)
}

func (w *Work) readInputs(r machine.Reader, id TaskID, plan *storev1.Plan) error {
	input := func(i uint32) error {
		t := readTask(r, id.Job, w.Stage.From, i, 0)
		if t.State != wattlev1.TaskState_TASK_STATE_COMPLETED {
			return fault.New(fault.Precondition, "input_pending", "the output of task %d of stage %s is being made again", i, plan.Stages[w.Stage.From].Name)
		}
		w.Inputs = append(w.Inputs, Input{Task: i, Generation: t.Generation, Output: t.Output})
		return nil
	}
	switch w.Stage.Input {
	case storev1.InputKind_INPUT_KIND_EACH:
		return input(id.Index)
	case storev1.InputKind_INPUT_KIND_REDUCE, storev1.InputKind_INPUT_KIND_COLLECT:
		for i := range plan.Stages[w.Stage.From].Tasks {
			if err := input(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadJob returns a job as the API shows it, but for what runs right now, which only the scheduler knows.
func ReadJob(r machine.Reader, id JobID) (*wattlev1.Job, error) {
	rec := readJob(r, id)
	if rec == nil {
		return nil, errUnknownJob(id)
	}
	return view(r, rec), nil
}

func view(r machine.Reader, rec *storev1.JobRecord) *wattlev1.Job {
	id := JobID(rec.Id)
	j := &wattlev1.Job{Id: rec.Id, Name: rec.Name, State: rec.State, CreatedAt: timestamppb.New(time.Unix(0, rec.CreatedAt)), Error: rec.Error}
	if rec.FinalizedAt != 0 {
		j.FinalizedAt = timestamppb.New(time.Unix(0, rec.FinalizedAt))
	}
	plan := readPlan(r, id)
	for n, s := range plan.Stages {
		st := readStage(r, id, uint32(n))
		v := &wattlev1.Stage{
			Name: s.Name, State: stageState(rec, s.Name, st), Tasks: s.Tasks, Completed: st.Completed,
			Failures: st.Failures, InputBytes: s.InputBytes, OutputBytes: st.OutputBytes, Output: Encoding(st.Records), Pool: s.Pool, External: s.External,
		}
		if !final(rec.State) {
			v.Running = st.Acquired
		}
		if s.Function != nil {
			v.Function = FunctionName(s.Function)
		}
		for _, a := range s.After {
			v.After = append(v.After, plan.Stages[a].Name)
		}
		j.Stages = append(j.Stages, v)
	}
	return j
}

// stageState is what a reader sees of a stage. When a job ends, the records of what it leaves unfinished stay as they are, which can be
// a great many: how it ended says what became of them.
func stageState(job *storev1.JobRecord, name string, st *storev1.StageRecord) wattlev1.StageState {
	switch {
	case !final(job.State) || st.State == wattlev1.StageState_STAGE_STATE_COMPLETED:
		return max(st.State, wattlev1.StageState_STAGE_STATE_PENDING)
	case job.Error.GetStage() == name:
		return wattlev1.StageState_STAGE_STATE_FAILED
	}
	return wattlev1.StageState_STAGE_STATE_CANCELED
}

// taskState is the same of a task.
func taskState(job *storev1.JobRecord, st *storev1.StageRecord, t *storev1.TaskRecord) wattlev1.TaskState {
	switch {
	case t.State == wattlev1.TaskState_TASK_STATE_COMPLETED || t.State == wattlev1.TaskState_TASK_STATE_DISCARDED:
		return t.State
	case final(job.State):
		return wattlev1.TaskState_TASK_STATE_CANCELED
	case st.State <= wattlev1.StageState_STAGE_STATE_PENDING && t.State == wattlev1.TaskState_TASK_STATE_AVAILABLE:
		return wattlev1.TaskState_TASK_STATE_PENDING
	}
	return t.State
}

// Encoding is the word for how an output is to be read.
func Encoding(records bool) string {
	if records {
		return "records"
	}
	return "bytes"
}

// ListJobs returns the jobs of a slot without their stages, newest first.
func ListJobs(r machine.Reader) (jobs []*storev1.JobRecord) {
	for _, v := range r.Scan([]byte{'j'}, []byte{'k'}) {
		jobs = append(jobs, decode(v, &storev1.JobRecord{}))
	}
	SortJobs(jobs)
	return jobs
}

// SortJobs puts the newest first.
func SortJobs(jobs []*storev1.JobRecord) {
	slices.SortFunc(jobs, func(a, b *storev1.JobRecord) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(a.Id, b.Id))
	})
}

// StageIndex returns the place of a stage in a job's plan; "" is the last one that puts out a result.
func StageIndex(r machine.Reader, id JobID, name string) (uint32, *storev1.PlanStage, error) {
	if readJob(r, id) == nil {
		return 0, nil, errUnknownJob(id)
	}
	plan := readPlan(r, id)
	names := map[string]bool{}
	for n := len(plan.Stages) - 1; n >= 0; n-- {
		s := plan.Stages[n]
		if s.Name == name || name == "" && s.Result {
			return uint32(n), s, nil
		}
		names[s.Name] = true
	}
	return 0, nil, fault.New(fault.NotFound, "unknown_stage", "job %s has no stage %q", id, name).Hint("its stages are %v", sortedKeys(names))
}

// ReadTasks returns up to limit tasks of a stage, from offset on.
func ReadTasks(r machine.Reader, id JobID, stage, offset, limit uint32) ([]*wattlev1.Task, error) {
	job := readJob(r, id)
	if job == nil {
		return nil, errUnknownJob(id)
	}
	plan, st := readPlan(r, id), readStage(r, id, stage)
	s := plan.Stages[stage]
	var tasks []*wattlev1.Task
	for i := offset; i < s.Tasks && i-offset < limit; i++ {
		t := readTask(r, id, stage, i, st.Term)
		tasks = append(tasks, &wattlev1.Task{
			Stage: s.Name, Index: i, State: taskState(job, st, t), Attempt: t.Attempt, Generation: t.Generation, Errors: t.Errors, Usage: t.Usage, Node: cmp.Or(t.Client, t.Node),
			OutputDigest: t.Output.GetBytes().GetDigest(), OutputBytes: t.Output.GetBytes().GetSize(),
		})
	}
	return tasks, nil
}

// ReadOutput returns the output of a finished task.
func ReadOutput(r machine.Reader, id JobID, stage, task uint32) (*storev1.Output, error) {
	t := readTask(r, id, stage, task, 0)
	if t.State != wattlev1.TaskState_TASK_STATE_COMPLETED {
		e := fault.New(fault.Precondition, "not_finished", "task %d of the stage has not finished", task)
		if job := readJob(r, id); job != nil && final(job.State) {
			return nil, e.Hint("the job ended without it: wattle job get %s says why", id)
		}
		return nil, e.Hint("wattle job watch %s waits for the job", id)
	}
	return t.Output, nil
}
