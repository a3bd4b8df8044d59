package dag

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// Machine is the state machine of jobs. Commands are storev1.JobCommand, answers storev1.JobResult.
//
// Keys within a slot; a job's ID is 26 bytes, numbers are 4 bytes big-endian:
//
//	a id               empty: the job is not final
//	j id               storev1.JobRecord without its stages
//	p id               storev1.Plan
//	s id stage         storev1.StageRecord
//	t id stage task    storev1.TaskRecord: only tasks to which something has happened
type Machine struct{}

func jobKey(kind byte, id JobID) []byte { return append([]byte{kind}, id...) }

func stageKey(id JobID, stage uint32) []byte {
	return binary.BigEndian.AppendUint32(jobKey('s', id), stage)
}

func taskKey(id JobID, stage, task uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(jobKey('t', id), stage), task)
}

// Apply implements machine.Machine.
func (Machine) Apply(tx machine.Tx, cmd machine.Command) (machine.Result, []machine.Effect) {
	var c storev1.JobCommand
	if err := proto.Unmarshal(cmd.Body, &c); err != nil {
		return machine.Result{Err: fault.New(fault.Invalid, "bad_command", "a job command cannot be read: %w", err)}, nil
	}
	id, err := ParseJobID(c.Job)
	if err != nil {
		return machine.Result{Err: fault.As(err)}, nil
	}
	t := &transition{tx: tx, cmd: cmd, id: id, result: &storev1.JobResult{}}
	if ferr := t.apply(&c); ferr != nil {
		return machine.Result{Err: ferr}, nil
	}
	t.flush()
	t.result.Job = t.job
	v, err := proto.Marshal(t.result)
	if err != nil {
		return machine.Result{Err: fault.New(fault.Internal, "encode", "the answer cannot be written: %w", err)}, nil
	}
	return machine.Result{Value: v}, t.effects
}

// transition is one command at work on one job. It reads records when they are needed and writes those that changed.
type transition struct {
	tx      machine.Tx
	cmd     machine.Command
	id      JobID
	job     *storev1.JobRecord
	plan    *storev1.Plan
	stages  map[uint32]*storev1.StageRecord
	changed map[uint32]bool // the stages to be written
	dirty   bool
	effects []machine.Effect
	result  *storev1.JobResult
}

func (t *transition) apply(c *storev1.JobCommand) *fault.Error {
	if s := c.GetSubmit(); s != nil {
		return t.submit(s)
	}
	if t.job = readJob(t.tx, t.id); t.job == nil {
		return errUnknownJob(t.id)
	}
	t.plan = readPlan(t.tx, t.id)
	switch x := c.Change.(type) {
	case *storev1.JobCommand_Start:
		return t.start(x.Start)
	case *storev1.JobCommand_Extend:
		return t.extend(x.Extend)
	case *storev1.JobCommand_Finish:
		return t.finish(x.Finish)
	case *storev1.JobCommand_Starts:
		t.starts(x.Starts)
		return nil
	case *storev1.JobCommand_Finishes:
		t.finishes(x.Finishes)
		return nil
	case *storev1.JobCommand_Lose:
		return t.lose(x.Lose)
	case *storev1.JobCommand_Cancel:
		return t.cancel()
	case *storev1.JobCommand_Pause:
		return t.pause()
	case *storev1.JobCommand_Resume:
		return t.resume()
	case *storev1.JobCommand_Expire:
		return t.expire()
	case *storev1.JobCommand_Delete:
		return t.delete()
	}
	return fault.New(fault.Invalid, "bad_command", "a job command of a kind this release does not know")
}

func (t *transition) effect(e machine.Effect) { t.effects = append(t.effects, e) }

// flush writes what changed and tells the watchers, once however much it was.
func (t *transition) flush() {
	if !t.dirty {
		return
	}
	for _, n := range slices.Sorted(maps.Keys(t.changed)) {
		t.tx.Set(stageKey(t.id, n), encode(t.stages[n]))
	}
	t.tx.Set(jobKey('j', t.id), encode(t.job))
	t.effect(Changed{t.id})
}

func (t *transition) stage(n uint32) *storev1.StageRecord {
	if s := t.stages[n]; s != nil {
		return s
	}
	s := readStage(t.tx, t.id, n)
	if t.stages == nil {
		t.stages = map[uint32]*storev1.StageRecord{}
	}
	t.stages[n] = s
	return s
}

func (t *transition) setStage(n uint32) {
	if t.changed == nil {
		t.changed = map[uint32]bool{}
	}
	t.changed[n], t.dirty = true, true
}

func (t *transition) setTask(stage, task uint32, r *storev1.TaskRecord) {
	t.tx.Set(taskKey(t.id, stage, task), encode(r))
	t.dirty = true
}

func (t *transition) running() *fault.Error {
	if final(t.job.State) {
		return errFinal(t.id)
	}
	return nil
}

func final(s wattlev1.JobState) bool {
	return s == wattlev1.JobState_JOB_STATE_COMPLETED || s == wattlev1.JobState_JOB_STATE_FAILED || s == wattlev1.JobState_JOB_STATE_CANCELED
}

// Final tells whether a job in this state is over.
func Final(s wattlev1.JobState) bool { return final(s) }

func encode(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(&machine.Broken{Err: err}) // only strings that are not UTF-8 fail, and those are refused before
	}
	return b
}

func decode[M proto.Message](b []byte, m M) M {
	if err := proto.Unmarshal(b, m); err != nil {
		panic(&machine.Broken{Err: err})
	}
	return m
}

func readJob(r machine.Reader, id JobID) *storev1.JobRecord {
	b, ok := r.Get(jobKey('j', id))
	if !ok {
		return nil
	}
	return decode(b, &storev1.JobRecord{})
}

func readPlan(r machine.Reader, id JobID) *storev1.Plan {
	b, _ := r.Get(jobKey('p', id))
	return decode(b, &storev1.Plan{})
}

func readStage(r machine.Reader, id JobID, n uint32) *storev1.StageRecord {
	b, _ := r.Get(stageKey(id, n))
	return decode(b, &storev1.StageRecord{})
}

// readTask returns a task's record; one that was never written is that of a task as it was admitted.
func readTask(r machine.Reader, id JobID, stage, task uint32, admitted uint64) *storev1.TaskRecord {
	b, ok := r.Get(taskKey(id, stage, task))
	if !ok {
		return &storev1.TaskRecord{State: wattlev1.TaskState_TASK_STATE_AVAILABLE, Attempt: 1, Term: admitted}
	}
	return decode(b, &storev1.TaskRecord{})
}

// Resume implements machine.Machine.
func (Machine) Resume(r machine.Reader) (effects []machine.Effect) {
	for k := range r.Scan([]byte{'a'}, []byte{'b'}) {
		id := JobID(k[1:])
		job, plan := readJob(r, id), readPlan(r, id)
		if job.Deadline != 0 {
			effects = append(effects, Deadline{id, time.Unix(0, job.Deadline)})
		}
		if job.State == wattlev1.JobState_JOB_STATE_PAUSED {
			continue
		}
		for n, s := range plan.Stages {
			st := readStage(r, id, uint32(n))
			if st.State == wattlev1.StageState_STAGE_STATE_RUNNING {
				effects = append(effects, runs(r, id, plan, uint32(n), s.Tasks, st)...)
			}
		}
	}
	return effects
}

// runs returns the effects that start what is unfinished in a running stage: whole ranges of tasks
// to which nothing has happened, and the others one by one.
func runs(r machine.Reader, id JobID, plan *storev1.Plan, stage, tasks uint32, st *storev1.StageRecord) (effects []machine.Effect) {
	next := uint32(0)
	fresh := func(until uint32) {
		if until > next {
			effects = append(effects, newRun(id, plan, stage, next, until-next, &storev1.TaskRecord{Attempt: 1, Term: st.Term}))
		}
	}
	for k, v := range r.Scan(taskKey(id, stage, 0), stageEnd(id, stage)) {
		i := binary.BigEndian.Uint32(k[len(k)-4:])
		fresh(i)
		next = i + 1
		if t := decode(v, &storev1.TaskRecord{}); t.State != wattlev1.TaskState_TASK_STATE_COMPLETED && t.State != wattlev1.TaskState_TASK_STATE_DISCARDED {
			effects = append(effects, newRun(id, plan, stage, i, 1, t))
		}
	}
	fresh(tasks)
	return effects
}

func stageEnd(id JobID, stage uint32) []byte { return taskKey(id, stage+1, 0) }

func newRun(id JobID, plan *storev1.Plan, stage, task, count uint32, t *storev1.TaskRecord) Run {
	r := Run{
		Task: TaskID{id, stage, task}, Count: count, Generation: t.Generation, Attempt: t.Attempt, Term: t.Term,
		Alone: t.Lost >= suspectAfter, MaxParallel: plan.MaxParallel, StageMaxParallel: plan.Stages[stage].MaxParallel, Pool: plan.Stages[stage].Pool,
	}
	if t.NotBefore != 0 {
		r.NotBefore = time.Unix(0, t.NotBefore)
	}
	s := plan.Stages[stage]
	if s.Input == storev1.InputKind_INPUT_KIND_EACH {
		r.Each, r.From = true, s.From
	}
	if s.External {
		r.External, r.Timeout = true, time.Duration(s.Timeout)
		if t.Client != "" {
			r.Tenure = Tenure{t.Client, time.Duration(t.Lease), time.Unix(0, t.AcquiredAt)}
		}
	}
	return r
}

// Refs implements machine.Machine: a job that runs holds its modules, inputs and outputs; one that is over, its results.
func (Machine) Refs(r machine.Reader, yield func(digest.Digest, bool)) {
	ref := func(s string, copies bool) {
		if d, err := digest.Parse(s); err == nil {
			yield(d, copies)
		}
	}
	for k, v := range r.Scan([]byte{'j'}, []byte{'k'}) {
		id := JobID(k[1:])
		over := final(decode(v, &storev1.JobRecord{}).State)
		for n, s := range readPlan(r, id).Stages {
			if !over {
				ref(s.Function.GetDigest(), true)
				ref(s.Combiner.GetDigest(), true)
				ref(s.Table.GetDigest(), true)
			}
			if over && !s.Result {
				continue
			}
			for _, v := range r.Scan(taskKey(id, uint32(n), 0), stageEnd(id, uint32(n))) {
				ref(decode(v, &storev1.TaskRecord{}).GetOutput().GetBytes().GetDigest(), s.Result)
			}
		}
	}
}
