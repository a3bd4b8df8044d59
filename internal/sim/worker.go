package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// worker runs a node's tasks: a dag.Dispatcher and a dag.Holder, as node/jobs has them, and in place of guests a function of the
// task that takes a while.
type worker struct {
	n        *node
	d        *dag.Dispatcher
	h        *dag.Holder
	slots    int
	running  int
	attempts map[dag.AttemptID]*attempt // that the holder has
	finishes map[dag.JobID][]*ending    // that wait for those before them
	planned  bool
	wakes    time.Duration // when it is woken next, if that is to come
	asked    time.Duration
}

type attempt struct {
	dag.Pick
	work *dag.Work
	over bool // it counts no more
}

// ending is how an attempt ended, and what to call if that counted.
type ending struct {
	f    *storev1.Finish
	told func()
}

func newWorker(n *node) *worker {
	of := func(id dag.JobID) uint32 { return uint32(n.w.table.Of(slotOf(id))) }
	k := &worker{
		n: n, slots: 1 + n.w.rng.IntN(4), attempts: map[dag.AttemptID]*attempt{}, finishes: map[dag.JobID][]*ending{},
		d: dag.NewDispatcher(of, string(n.id), nil),
	}
	k.h = dag.NewHolder(dag.HolderConfig{ShardOf: of, Slots: k.slots, Session: n.w.rng.Uint64()})
	return k
}

func slotOf(id dag.JobID) machine.Slot { return shard.SlotOf(string(id)) }

func (k *worker) lead(id shard.ID, term uint64, effects []machine.Effect) {
	k.stop(k.d.Lead(k.n.clock(), uint32(id), term, effects, k.h.Of(uint32(id), term), k.others()))
	k.poke()
}

func (k *worker) applied(effects []machine.Effect) {
	for _, job := range k.d.Applied(k.n.clock(), effects) {
		for _, id := range k.h.Held() {
			if id.Task.Job == job {
				k.stop([]dag.AttemptID{id})
			}
		}
	}
	k.poke()
}

// stop ends attempts that count no more.
func (k *worker) stop(ids []dag.AttemptID) {
	for _, id := range ids {
		if a := k.attempts[id]; a != nil && k.h.Drop(id) {
			a.over = true
		}
	}
	for _, id := range k.h.Dropped() {
		if a := k.attempts[id]; a != nil && !a.over {
			delete(k.attempts, id)
		}
		k.d.Done(id, 0)
	}
}

// others are the nodes that gossip takes for alive.
func (k *worker) others() (all []string) {
	for _, n := range k.n.w.alive() {
		if n != k.n && n.up() {
			all = append(all, string(n.id))
		}
	}
	return all
}

// poke lets it look for work soon.
func (k *worker) poke() {
	if !k.planned {
		k.planned = true
		k.n.plan("looks for work", k.n.w.between(0, 100*time.Microsecond), k.look)
	}
}

// look does what the driver's round does.
func (k *worker) look() {
	k.planned = false
	if !k.n.up() {
		return // it is poked when it goes on
	}
	w, now := k.n.w, k.n.clock()
	k.d.Expire(now)
	for _, e := range k.d.Overdue(now) {
		w.count(e.Finish.GetFailed().Reason)
		k.finish(&attempt{Pick: dag.Pick{Task: e.Task, Generation: e.Generation, Attempt: e.Attempt}}, e.Finish)
	}
	for k.running < k.slots && k.begin(now) {
	}
	for _, id := range k.d.Due(now) {
		k.command(k.n.propose, &storev1.JobCommand{Job: string(id), Change: &storev1.JobCommand_Expire{Expire: &storev1.Expire{}}}, func(*storev1.JobResult, error) {})
	}
	for _, g := range k.d.Grants(now, k.h.Free()) {
		k.prepare([]pick{{g.Pick, g.Start}}, func(as []*attempt) {
			for _, a := range as {
				if k.d.Granted(k.n.clock(), g.To, a.Pick) {
					w.count("given")
					k.tell(g.To, func(to *worker) { to.given(string(k.n.id), a) })
				}
			}
		})
	}
	k.d.Recall(k.h.Free())
	switch {
	case k.d.Ready() > 0:
		k.h.Ask(nil)
	case w.now-k.asked >= dag.BeatTime:
		others := k.others()
		w.rng.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		k.h.Ask(others[:min(2, len(others))])
		k.asked = w.now
		k.d.AskAgain()
	}
	if len(k.h.Adrift()) > 0 {
		w.count("searched")
		k.h.Search(k.others())
	}
	replies := k.d.Replies()
	for _, to := range slices.Sorted(maps.Keys(replies)) {
		k.tell(to, func(to *worker) { to.stop(to.h.Reply(to.n.clock(), string(k.n.id), replies[string(to.n.id)])) })
	}
	reports, next := k.h.Reports(now)
	for _, to := range slices.Sorted(maps.Keys(reports)) {
		k.tell(to, func(to *worker) { to.d.Report(to.n.clock(), string(k.n.id), reports[string(to.n.id)]) })
	}
	at := now.Add(dag.BeatTime)
	if !next.IsZero() && next.Before(at) {
		at = next
	}
	if d, ok := k.d.Wake(now); ok && d.Before(at) {
		at = d
	}
	if due := w.now + max(at.Sub(now), time.Millisecond); k.wakes <= w.now || due < k.wakes {
		k.wakes = due
		k.n.plan("is woken", due-w.now, k.poke)
	}
}

// tell has another node's worker hear something.
func (k *worker) tell(to string, hear func(*worker)) {
	dest := k.n.w.node(shard.NodeID(to))
	k.n.w.net.carry(k.n, dest, func() {
		hear(dest.worker)
		dest.worker.poke()
	})
}

// given takes an attempt that another node gave.
func (k *worker) given(from string, a *attempt) {
	if k.h.Given(from, a.Term, a.Pick) {
		k.attempts[a.ID()] = &attempt{Pick: a.Pick, work: a.work}
	}
}

// begin runs something if there is something to run.
func (k *worker) begin(now time.Time) bool {
	if id, ok := k.h.Next(); ok {
		k.running++
		k.run(k.attempts[id])
		return true
	}
	var picks []pick
	for n := 1; len(picks) < n && !k.h.Full(); {
		p, start, ok := k.d.Next(now)
		if !ok {
			break
		}
		if picks = append(picks, pick{p, start}); p.Alone {
			break
		}
		if start != nil { // tasks take too long here for more than one to be worth it
			n = max(n, k.d.Ahead(p), 1+k.n.w.rng.IntN(3))
		}
	}
	if len(picks) == 0 {
		return false
	}
	k.running++ // a slot waits for them
	k.prepare(picks, func(as []*attempt) {
		k.running--
		for _, a := range as {
			k.attempts[a.ID()] = a
			k.h.Hand(a.Pick)
		}
		k.poke()
	})
	return true
}

// pick is an attempt handed out, and what has to be recorded before it starts, if something has to.
type pick struct {
	dag.Pick
	start *storev1.Start
}

// prepare has the starts of attempts recorded that have to be, those of a job together, and reads what there is to do.
func (k *worker) prepare(picks []pick, then func([]*attempt)) {
	var ready []*attempt
	jobs := map[dag.JobID][]pick{}
	for _, p := range picks {
		if p.start == nil {
			ready = append(ready, k.read(p.Pick)...)
		} else {
			jobs[p.Task.Job] = append(jobs[p.Task.Job], p)
		}
	}
	left := len(jobs)
	if left == 0 {
		then(ready)
		return
	}
	for _, job := range slices.Sorted(maps.Keys(jobs)) {
		w, of := k.n.w, jobs[job]
		// Whoever takes it may be slow to go on.
		wait := w.between(0, 50*time.Microsecond)
		if w.odd(10) {
			wait = w.between(0, 2*time.Second)
		}
		k.n.plan("starts "+of[0].Task.String(), wait, func() {
			k.start(job, of, func(as []*attempt) {
				ready = append(ready, as...)
				if left--; left == 0 {
					then(ready)
				}
			})
		})
	}
}

func (k *worker) start(job dag.JobID, picks []pick, then func([]*attempt)) {
	if k.n.paused {
		k.n.plan("starts later", 50*time.Millisecond, func() { k.start(job, picks, then) })
		return
	}
	c := &storev1.Starts{}
	for _, p := range picks {
		c.Starts = append(c.Starts, p.start)
	}
	k.command(k.n.proposeHere, &storev1.JobCommand{Job: string(job), Change: &storev1.JobCommand_Starts{Starts: c}}, func(r *storev1.JobResult, err error) {
		var as []*attempt
		for i, p := range picks {
			if err != nil || r.Attempts[i] == 0 {
				k.refused(p.Pick)
				continue
			}
			started := k.d.Started(p.Pick, r.Attempts[i])
			k.n.w.count("restarted")
			k.n.w.audit.started(started)
			as = append(as, k.read(started)...)
		}
		then(as)
	})
}

func (k *worker) refused(p dag.Pick) {
	k.d.Refused(p)
	k.poke()
}

// read makes an attempt of a pick, if there is something to do.
func (k *worker) read(p dag.Pick) []*attempt {
	a := &attempt{Pick: p}
	err := k.n.engine.Peek(slotOf(p.Task.Job), machine.Jobs, func(r machine.Reader) (err error) {
		a.work, err = dag.ReadWorks(r, p.Task.Job).Of(p)
		return err
	})
	if fault.KindOf(err) == fault.Corrupt {
		panic(&machine.Broken{Err: err})
	}
	if err != nil {
		k.refused(p)
		return nil
	}
	k.n.w.audit.prepared(k.n, a.Pick)
	return []*attempt{a}
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

// run runs an attempt: it takes its time, and tells how it ended.
func (k *worker) run(a *attempt) {
	w := k.n.w
	w.audit.begun(k.n, a.Pick, a.work)
	took := w.between(0, 50*time.Millisecond)
	if w.chance(10) {
		took = w.between(0, 3*time.Second)
	}
	k.n.plan("runs "+a.Task.String(), took, func() { k.end(a, took) })
}

// end gives back the slot and records what became of the attempt.
func (k *worker) end(a *attempt, took time.Duration) {
	w := k.n.w
	if k.n.paused {
		k.n.plan("runs on", 50*time.Millisecond, func() { k.end(a, took) })
		return
	}
	if w.odd(80) {
		w.count("killed by a task")
		k.n.crash("killed by a task")
		w.after(w.between(0, 3*time.Second), "restart", k.n.start)
		return
	}
	k.running--
	delete(k.attempts, a.ID())
	k.h.Done(a.ID(), took)
	k.d.Done(a.ID(), took)
	k.poke()
	f := &storev1.Finish{Stage: a.Task.Stage, Task: a.Task.Index, Generation: a.Generation, Attempt: a.Attempt}
	released := &storev1.Finish_Released{Released: &storev1.Release{}}
	switch {
	case a.over:
		w.count("overtaken")
		return
	case len(a.work.Inputs) > 0 && w.odd(15):
		in := a.work.Inputs[w.rng.IntN(len(a.work.Inputs))]
		w.count("output lost")
		k.command(k.n.propose, &storev1.JobCommand{Job: string(a.Task.Job), Change: &storev1.JobCommand_Lose{Lose: &storev1.Lose{
			Stage: a.work.Stage.From, Task: in.Task, Generation: in.Generation,
		}}}, func(*storev1.JobResult, error) {
			f.Outcome = released
			k.finish(a, f)
		})
		return
	case w.odd(25):
		f.Outcome = released
	default:
		w.outcome(a, f)
	}
	k.finish(a, f)
}

func (w *world) outcome(a *attempt, f *storev1.Finish) {
	switch b := w.audit.jobs[a.Task.Job].behaviour(a.Task); {
	case b.fatal:
		f.Outcome = &storev1.Finish_Failed{Failed: &storev1.Failure{Reason: "fatal", Message: "it always fails"}}
	case a.Attempt <= b.failures:
		f.Outcome = &storev1.Finish_Failed{Failed: &storev1.Failure{Reason: "flaky", Message: "it fails at first", Retryable: true}}
	default:
		out := w.audit.jobs[a.Task.Job].value(a.Task, a.Generation, a.work.Inputs)
		f.Outcome = &storev1.Finish_Completed{Completed: &storev1.Output{Bytes: &storev1.Bytes{Digest: digest.Of(out).String(), Size: uint64(len(out))}}}
	}
}

// finish has an outcome recorded, with those of the job that came meanwhile.
func (k *worker) finish(a *attempt, f *storev1.Finish) {
	job := a.Task.Job
	waiting, busy := k.finishes[job]
	k.finishes[job] = append(waiting, &ending{f, k.n.w.audit.finishing(a.Pick, f)})
	if !busy {
		k.recordAll(job)
	}
}

func (k *worker) recordAll(job dag.JobID) {
	batch := k.finishes[job]
	if len(batch) == 0 {
		delete(k.finishes, job)
		return
	}
	k.finishes[job] = []*ending{}
	c := &storev1.Finishes{}
	for _, e := range batch {
		c.Finishes = append(c.Finishes, e.f)
	}
	k.command(k.n.propose, &storev1.JobCommand{Job: string(job), Change: &storev1.JobCommand_Finishes{Finishes: c}}, func(r *storev1.JobResult, err error) {
		for i, e := range batch {
			switch {
			case err != nil:
			case slices.Contains(r.Refused, uint32(i)):
				k.n.w.count("fenced")
			default:
				e.told()
			}
		}
		k.recordAll(job)
	})
}

// odd tells whether something happens to a task that does not to most.
func (w *world) odd(n int) bool {
	return !w.calm && w.cfg.Cut == nil && !w.cfg.Off["tasks"] && w.chance(n)
}
