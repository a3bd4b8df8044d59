package sim

import (
	"maps"
	"slices"
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

// book is what the auditor knows of a job, from what was asked and answered alone.
type book struct {
	created int
	// canceling tells that somebody asked for it, and canceled when that was acknowledged.
	canceling bool
	canceled  time.Duration
	deleted   bool
	deletedAt time.Duration // when that was acknowledged
	ended     *wattlev1.Job
	// least are attempts of tasks that are recorded: those before them count no more.
	least map[dag.TaskID]mark
	// outputs are those acknowledged, by task and generation.
	outputs map[dag.TaskID]map[uint32]string
	// begun is where attempts were run.
	begun map[dag.AttemptID]shard.NodeID
	// sent are the tasks of which somebody said that they are complete.
	sent map[dag.TaskID]bool
}

type mark struct{ generation, attempt uint32 }

func (m mark) before(o mark) bool {
	return m.generation < o.generation || m.generation == o.generation && m.attempt < o.attempt
}

func (j *job) newer(t dag.TaskID, m mark) {
	if j.least[t].before(m) {
		j.least[t] = m
	}
}

// started is told that the start of an attempt is recorded.
func (a *auditor) started(p dag.Pick) {
	a.jobs[p.Task.Job].newer(p.Task, mark{p.Generation, p.Attempt})
}

// prepared is told that a leader is about to have a function run, by what it knows.
func (a *auditor) prepared(n *node, p dag.Pick) {
	j := a.jobs[p.Task.Job]
	// One that was deposed and does not know may not know of what came after, either, also if the one that came after is gone again.
	id := a.w.table.Of(slotOf(p.Task.Job))
	if l, ok := a.w.leader(id); !ok || l.Members.Node(l.Replica) != n.id || l.Term < a.newest[id] {
		return
	}
	if j.canceled != 0 || j.deleted {
		a.w.find("task %s is to begin after its job was canceled or deleted", p.Task)
	}
}

// begun is told that a function runs.
func (a *auditor) begun(n *node, p dag.Pick, work *dag.Work) {
	a.w.count("tasks")
	j := a.jobs[p.Task.Job]
	if at, ok := j.begun[p.ID()]; ok {
		a.w.find("attempt %v began at %s and at %s", p.ID(), at, n.id)
	}
	j.begun[p.ID()] = n.id
	for _, n := range j.plan.Stages[p.Task.Stage].After {
		for i := range j.plan.Stages[n].Tasks {
			if !j.sent[dag.TaskID{Job: j.id, Stage: n, Index: i}] {
				a.w.find("task %s began before task %d of stage %d ended", p.Task, i, n)
			}
		}
	}
	for _, in := range work.Inputs {
		t := dag.TaskID{Job: j.id, Stage: work.Stage.From, Index: in.Task}
		if d, ok := j.outputs[t][in.Generation]; ok && d != in.Output.GetBytes().GetDigest() {
			a.w.find("task %s reads another output of %s than was acknowledged", p.Task, t)
		}
	}
}

// finishing is told that a node is about to say how an attempt ended, and returns what to call if that counted.
func (a *auditor) finishing(p dag.Pick, f *storev1.Finish) func() {
	j, m := a.jobs[p.Task.Job], mark{p.Generation, p.Attempt}
	if f.GetCompleted() != nil {
		j.sent[p.Task] = true
	}
	least := j.least[p.Task]
	return func() {
		if m.before(least) {
			a.w.find("the end of task %s in attempt %v counted, which %v had replaced", p.Task, m, least)
		}
		o := f.GetCompleted()
		if o == nil {
			j.newer(p.Task, mark{p.Generation, p.Attempt + 1})
			return
		}
		a.w.count("tasks completed")
		if j.outputs[p.Task] == nil {
			j.outputs[p.Task] = map[uint32]string{}
		}
		if _, ok := j.outputs[p.Task][p.Generation]; ok {
			a.w.find("task %s ended twice in generation %d", p.Task, p.Generation)
		}
		j.outputs[p.Task][p.Generation] = o.GetBytes().GetDigest()
	}
}

// answered is told what a client's command led to.
func (a *auditor) answered(j *job, c *storev1.JobCommand, res machine.Result) {
	if res.Err != nil {
		switch {
		case c.GetPause() != nil || c.GetResume() != nil:
			if res.Err.Reason == "job_final" {
				return
			}
		case c.GetDelete() != nil && res.Err.Reason == "unknown_job":
			j.deleted, j.deletedAt = true, a.w.now // it was deleted when nobody heard the answer
			return
		}
		a.w.find("job %s: %T: %w", j.id, c.Change, res.Err)
	}
	r := &storev1.JobResult{}
	a.w.must(proto.Unmarshal(res.Value, r))
	switch {
	case r.Created:
		a.w.count("jobs")
		if j.created++; j.created > 1 {
			a.w.find("job %s was made twice", j.id)
		}
	case c.GetCancel() != nil && j.canceled == 0:
		j.canceled = a.w.now
	case c.GetDelete() != nil:
		j.deleted, j.deletedAt = true, a.w.now
	}
}

// over is told how a job ended.
func (a *auditor) over(j *job, got *wattlev1.Job) {
	a.w.count("jobs " + got.State.String())
	j.ended = got
	fatal := false
	for n, s := range j.plan.Stages {
		for i := range s.Tasks {
			fatal = fatal || j.behaviour(dag.TaskID{Job: j.id, Stage: uint32(n), Index: i}).fatal
		}
	}
	ok := false
	switch got.State {
	case wattlev1.JobState_JOB_STATE_COMPLETED:
		ok = !fatal
	case wattlev1.JobState_JOB_STATE_CANCELED:
		ok = j.canceling
	case wattlev1.JobState_JOB_STATE_FAILED:
		switch a.w.count(got.Error.Reason); got.Error.Reason {
		case "fatal":
			ok = fatal
		case "job_timeout":
			ok = j.plan.Timeout > 0
		case "poisonous_task":
			ok = true // leaders change so often here
		}
	}
	if !ok {
		a.w.find("job %s ended as %s: %v; one of its tasks is fatal: %v", j.id, got.State, got.Error, fatal)
	}
}

// checkJobs looks at all jobs in the end, where they lie.
func (a *auditor) checkJobs() {
	for _, id := range slices.Sorted(maps.Keys(a.jobs)) {
		j := a.jobs[id]
		read := false
		for _, n := range a.w.alive() {
			if _, ok := a.w.replica(n, a.w.table.Of(slotOf(id))); !ok || read {
				continue
			}
			err := n.engine.Peek(slotOf(id), machine.Jobs, func(r machine.Reader) error {
				a.check(j, r)
				return nil
			})
			if read = err == nil; !read && fault.KindOf(err) != fault.Corrupt {
				a.w.must(err)
			}
		}
		if !read {
			a.w.find("job %s can be read nowhere", id)
		}
	}
}

func (a *auditor) check(j *job, r machine.Reader) {
	got, err := dag.ReadJob(r, j.id)
	switch {
	case j.deleted && fault.Reason(err) == "unknown_job":
		return
	case j.deleted:
		a.w.find("job %s is there, which was deleted", j.id)
	case err != nil:
		a.w.must(err)
	case !proto.Equal(got, j.ended):
		a.w.find("job %s ended as %v and is now %v", j.id, j.ended, got)
	}
	for n, s := range j.plan.Stages {
		tasks, err := dag.ReadTasks(r, j.id, uint32(n), 0, s.Tasks)
		a.w.must(err)
		for i, t := range tasks {
			id := dag.TaskID{Job: j.id, Stage: uint32(n), Index: uint32(i)}
			if d, ok := j.outputs[id][t.Generation]; ok && d != t.OutputDigest {
				a.w.find("task %s has the output %s, and %s was acknowledged", id, t.OutputDigest, d)
			}
			if got.State != wattlev1.JobState_JOB_STATE_COMPLETED {
				continue
			}
			// Nothing may be left that was made of what is no more.
			var inputs []dag.Input
			read := func(i uint32) {
				out, err := dag.ReadOutput(r, j.id, s.From, i)
				a.w.must(err)
				inputs = append(inputs, dag.Input{Task: i, Output: out})
			}
			switch s.Input {
			case storev1.InputKind_INPUT_KIND_EACH:
				read(uint32(i))
			case storev1.InputKind_INPUT_KIND_REDUCE, storev1.InputKind_INPUT_KIND_COLLECT:
				for i := range j.plan.Stages[s.From].Tasks {
					read(i)
				}
			}
			if want := digest.Of(j.value(id, t.Generation, inputs)).String(); t.OutputDigest != want {
				a.w.find("task %s, generation %d, is not made of what its inputs are now", id, t.Generation)
			}
		}
	}
}
