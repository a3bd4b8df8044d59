package sim

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// outsider is a client that runs tasks of external stages, one at a time, and goes silent now and then.
type outsider struct {
	client
	task  *attempt
	lease time.Duration
	beats int // so often it extends its lease
}

func (o *outsider) next() {
	switch {
	case o.task == nil:
		o.acquire()
	case o.task.over:
		o.task = nil
		o.next()
	case o.w.odd(8):
		o.w.count("went silent")
		o.task = nil
		o.w.after(o.w.between(0, 5*time.Second), "comes back", o.next)
	case o.beats > 0:
		o.beats--
		wait := o.lease / 3
		if o.w.odd(5) {
			wait = 2 * o.lease
		}
		o.w.after(wait, "extends", o.extend)
	default:
		o.finish()
	}
}

// acquire asks for tasks. Of two it runs one: of the other it did not hear. So it is with answers that come too late.
func (o *outsider) acquire() {
	o.lease = o.w.between(dag.MinClientLease, 4*time.Second)
	o.beats = o.w.rng.IntN(4)
	o.ask(fmt.Sprintf("client %d wants a task", o.id), o.next, func(n *node, done func(error)) {
		turn := o.turn
		n.worker.acquire(fmt.Sprint(dag.ClientPrefix, o.id), 1+o.w.rng.IntN(2), o.lease, func(a *attempt) {
			if a != nil && o.turn == turn && !o.w.odd(15) {
				o.w.count("acquired")
				o.w.audit.begun(n, a.Pick, a.work)
				o.task = a
			}
			done(nil)
		})
	})
}

// acquire hands out attempts to a client. One of them at least is answered, if only by nothing.
func (k *worker) acquire(client string, most int, lease time.Duration, then func(*attempt)) {
	grants := k.d.Acquire(k.n.clock(), client, nil, most, lease)
	if len(grants) == 0 {
		then(nil)
	}
	for _, g := range grants {
		k.prepare([]pick{{g.Pick, g.Start}}, func(as []*attempt) {
			if len(as) == 0 {
				then(nil)
				return
			}
			switch a := as[0]; {
			case k.d.Granted(k.n.clock(), client, a.Pick):
				then(a)
			default:
				f := external(a)
				f.Outcome = &storev1.Finish_Released{Released: &storev1.Release{}}
				k.finish(a, f)
				then(nil)
			}
		})
	}
}

func external(a *attempt) *storev1.Finish {
	return &storev1.Finish{Stage: a.Task.Stage, Task: a.Task.Index, Generation: a.Generation, Attempt: a.Attempt, External: true}
}

func (o *outsider) extend() {
	a := o.task
	o.command(&storev1.JobCommand{Change: &storev1.JobCommand_Extend{Extend: &storev1.Extend{
		Stage: a.Task.Stage, Task: a.Task.Index, Generation: a.Generation, Attempt: a.Attempt, Lease: int64(o.lease),
	}}}, func(err error) { a.over = err != nil })
}

func (o *outsider) finish() {
	a, f := o.task, external(o.task)
	if o.w.odd(10) {
		f.Outcome = &storev1.Finish_Released{Released: &storev1.Release{}}
	} else {
		o.w.outcome(a, f)
	}
	told := o.w.audit.finishing(a.Pick, f)
	first := true // whether it is known to be the first answer
	o.command(&storev1.JobCommand{Change: &storev1.JobCommand_Finish{Finish: f}}, func(err error) {
		if err == nil && first {
			told()
		}
		first, a.over = false, true
	})
}

// command sends one until it is answered, and tells whether it was refused.
func (o *outsider) command(c *storev1.JobCommand, answered func(error)) {
	job := o.task.Task.Job
	c.Job = string(job)
	body, err := proto.Marshal(c)
	o.w.must(err)
	o.ask(fmt.Sprintf("client %d: %T", o.id, c.Change), o.next, func(n *node, done func(error)) {
		turn := o.turn
		n.drive.Propose(shard.Proposal{Slot: slotOf(job), Machine: machine.Jobs, Body: body}, func(r machine.Result, err error) {
			switch {
			case err != nil || o.turn != turn:
			case r.Err == nil:
				answered(nil)
			case r.Err.Kind == fault.Precondition || r.Err.Kind == fault.NotFound:
				answered(r.Err)
			default:
				o.w.find("a client's %T: %w", c.Change, r.Err)
			}
			done(err)
		})
	})
}
