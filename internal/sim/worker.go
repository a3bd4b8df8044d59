package sim

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// worker runs a node's tasks: a dag.Dispatcher with slots, as node/jobs and worker have it, and in place of guests a
// function of the task that takes a while.
type worker struct {
	n       *node
	d       *dag.Dispatcher
	free    int
	running map[dag.TaskID]*attempt
	planned bool
	wakes   time.Duration // when it is woken next, if that is to come
}

type attempt struct {
	dag.Pick
	over bool // its job is
}

func newWorker(n *node) *worker {
	return &worker{
		n: n, free: 1 + n.w.rng.IntN(4), running: map[dag.TaskID]*attempt{},
		d: dag.NewDispatcher(func(id dag.JobID) uint32 { return uint32(n.w.table.Of(slotOf(id))) }),
	}
}

func slotOf(id dag.JobID) machine.Slot { return shard.SlotOf(string(id)) }

func (k *worker) applied(effects []machine.Effect) {
	for _, job := range k.d.Applied(effects) {
		for id, a := range k.running {
			a.over = a.over || id.Job == job
		}
	}
	k.poke()
}

// poke lets it look for work soon.
func (k *worker) poke() {
	if !k.planned {
		k.planned = true
		k.n.plan("looks for work", k.n.w.between(0, 100*time.Microsecond), k.look)
	}
}

func (k *worker) look() {
	k.planned = false
	if !k.n.up() {
		return // it is poked when it goes on
	}
	w, now := k.n.w, k.n.clock()
	for k.free > 0 {
		p, start, ok := k.d.Next(now)
		if !ok {
			break
		}
		k.free--
		a := &attempt{Pick: p}
		k.running[p.Task] = a
		if start == nil {
			k.run(a)
			continue
		}
		// Whoever takes it may be slow to go on.
		wait := w.between(0, 50*time.Microsecond)
		if w.odd(10) {
			wait = w.between(0, 2*time.Second)
		}
		k.n.plan("starts "+p.Task.String(), wait, func() { k.start(a, start) })
	}
	for _, id := range k.d.Due(now) {
		k.command(k.n.propose, &storev1.JobCommand{Job: string(id), Change: &storev1.JobCommand_Expire{Expire: &storev1.Expire{}}}, func(*storev1.JobResult, error) {})
	}
	if at, ok := k.d.Wake(now); ok {
		if due := w.now + max(at.Sub(now), time.Millisecond); k.wakes <= w.now || due < k.wakes {
			k.wakes = due
			k.n.plan("is woken", due-w.now, k.poke)
		}
	}
}

// start has the start of an attempt recorded, and runs it then.
func (k *worker) start(a *attempt, start *storev1.JobCommand) {
	if k.n.paused {
		k.n.plan("starts later", 50*time.Millisecond, func() { k.start(a, start) })
		return
	}
	k.command(k.n.proposeHere, start, func(r *storev1.JobResult, err error) {
		if err != nil || r.GetAttempt() == 0 {
			delete(k.running, a.Task)
			k.d.Refused(a.Pick)
			k.free++
			k.poke()
			return
		}
		a.Attempt = r.Attempt
		k.d.Started(a.Pick, r.Attempt)
		k.n.w.count("restarted")
		k.n.w.audit.started(a.Pick)
		k.run(a)
	})
}

// command puts a command of a job into its shard's log.
func (k *worker) command(propose proposer, c *storev1.JobCommand, done func(*storev1.JobResult, error)) {
	body, err := proto.Marshal(c)
	k.n.w.must(err)
	propose(fmt.Sprintf("%T of %s", c.Change, c.Job), shard.Proposal{Slot: slotOf(dag.JobID(c.Job)), Machine: machine.Jobs, Body: body}, func(res machine.Result, err error) {
		if err == nil && res.Err != nil {
			err = res.Err
		}
		r := &storev1.JobResult{}
		if err == nil {
			k.n.w.must(proto.Unmarshal(res.Value, r))
		}
		done(r, err)
	})
}

// run runs an attempt: it reads what there is to do, takes its time, and tells how it ended.
func (k *worker) run(a *attempt) {
	w := k.n.w
	asked := w.now
	var work *dag.Work
	var broken error
	k.n.read("read work of "+a.Task.String(), slotOf(a.Task.Job), machine.Jobs, func(r machine.Reader) error {
		work, broken = dag.ReadWork(r, a.Pick)
		return nil
	}, func(err error) {
		if err == nil {
			err = broken
		}
		if err == nil {
			w.audit.begun(a.Pick, work, asked)
		}
		took := w.between(0, 50*time.Millisecond)
		if w.chance(10) {
			took = w.between(0, 3*time.Second)
		}
		k.n.plan("runs "+a.Task.String(), took, func() { k.end(a, work, err) })
	})
}

// end gives back the slot and records what became of the attempt.
func (k *worker) end(a *attempt, work *dag.Work, err error) {
	w := k.n.w
	if k.n.paused {
		k.n.plan("runs on", 50*time.Millisecond, func() { k.end(a, work, err) })
		return
	}
	if err == nil && w.odd(80) {
		w.count("killed by a task")
		k.n.crash("killed by a task")
		w.after(w.between(0, 3*time.Second), "restart", k.n.start)
		return
	}
	delete(k.running, a.Task)
	k.d.Done(a.Task)
	k.free++
	k.poke()
	f := &storev1.Finish{Stage: a.Task.Stage, Task: a.Task.Index, Generation: a.Generation, Attempt: a.Attempt}
	released := &storev1.Finish_Released{Released: &storev1.Release{}}
	switch reason := fault.Reason(err); {
	case a.over || reason == "stale_attempt" || reason == "job_final" || reason == "unknown_job":
		w.count("overtaken")
		return
	case err != nil:
		f.Outcome = released
	case len(work.Inputs) > 0 && w.odd(15):
		in := work.Inputs[w.rng.IntN(len(work.Inputs))]
		w.count("output lost")
		k.command(k.n.propose, &storev1.JobCommand{Job: string(a.Task.Job), Change: &storev1.JobCommand_Lose{Lose: &storev1.Lose{
			Stage: work.Stage.From, Task: in.Task, Generation: in.Generation,
		}}}, func(*storev1.JobResult, error) {
			f.Outcome = released
			k.finish(a, f)
		})
		return
	case w.odd(25):
		f.Outcome = released
	default:
		k.outcome(a, work, f)
	}
	k.finish(a, f)
}

func (k *worker) outcome(a *attempt, work *dag.Work, f *storev1.Finish) {
	switch b := k.n.w.audit.jobs[a.Task.Job].behaviour(a.Task); {
	case b.fatal:
		f.Outcome = &storev1.Finish_Failed{Failed: &storev1.Failure{Reason: "fatal", Message: "it always fails"}}
	case a.Attempt <= b.failures:
		f.Outcome = &storev1.Finish_Failed{Failed: &storev1.Failure{Reason: "flaky", Message: "it fails at first", Retryable: true}}
	default:
		out := k.n.w.audit.jobs[a.Task.Job].value(a.Task, a.Generation, work.Inputs)
		f.Outcome = &storev1.Finish_Completed{Completed: &storev1.Output{Bytes: &storev1.Bytes{Digest: digest.Of(out).String(), Size: uint64(len(out))}}}
	}
}

func (k *worker) finish(a *attempt, f *storev1.Finish) {
	told := k.n.w.audit.finishing(a.Pick, f)
	k.command(k.n.propose, &storev1.JobCommand{Job: string(a.Task.Job), Change: &storev1.JobCommand_Finish{Finish: f}}, func(_ *storev1.JobResult, err error) {
		if err == nil {
			told()
		} else if fault.Reason(err) == "stale_attempt" {
			k.n.w.count("fenced")
		}
	})
}

// odd tells whether something happens to a task that does not to most.
func (w *world) odd(n int) bool {
	return !w.calm && w.cfg.Cut == nil && !w.cfg.Off["tasks"] && w.chance(n)
}
