package dag

import (
	"slices"
	"time"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/machine"
)

// Dispatcher decides what a node runs next of the jobs whose shards it leads, and which starts have to be recorded first. It
// is told what the shards decided and what became of the attempts it handed out.
//
// It is a plain value without clock or lock: times are handed in, and the caller keeps callers apart. Shards are numbers here:
// which one a job lives in is for the caller to know.
type Dispatcher struct {
	shardOf   func(JobID) uint32
	queue     *Queue
	terms     map[uint32]uint64 // the shards led here
	deadlines map[JobID]time.Time
}

// NewDispatcher returns a Dispatcher that leads nothing.
func NewDispatcher(shardOf func(JobID) uint32) *Dispatcher {
	return &Dispatcher{shardOf: shardOf, queue: NewQueue(), terms: map[uint32]uint64{}, deadlines: map[JobID]time.Time{}}
}

// Lead says that a shard is led here from now on, and what its state asks for. What runs here already is adopted.
func (d *Dispatcher) Lead(shard uint32, term uint64, effects []machine.Effect) {
	d.forget(shard)
	d.terms[shard] = term
	d.Applied(effects) // a state tells of nothing that is over
}

// Applied takes what a command led to in a shard that is led here. It returns the jobs that are over, of which nothing may run on.
func (d *Dispatcher) Applied(effects []machine.Effect) (over []JobID) {
	for _, e := range effects {
		switch e := e.(type) {
		case Run:
			d.queue.Add(e)
		case Hold:
			d.queue.Hold(e)
		case Deadline:
			d.deadlines[e.Job] = e.At
		case Stop:
			d.queue.Forget(e.Job)
			delete(d.deadlines, e.Job)
			over = append(over, e.Job)
		}
	}
	return over
}

// Yield says that a shard is led elsewhere. What runs goes on: its finish counts if the next leader did not start it again.
func (d *Dispatcher) Yield(shard uint32) {
	delete(d.terms, shard)
	d.forget(shard)
}

func (d *Dispatcher) forget(shard uint32) {
	of := func(j JobID) bool { return d.shardOf(j) == shard }
	d.queue.Reset(of)
	for id := range d.deadlines {
		if of(id) {
			delete(d.deadlines, id)
		}
	}
}

// Next hands out the attempt that is to start now, if there is one. One that may have been started before comes with the
// command that has to be recorded first; then Started or Refused says how that went. In the end comes Done, in any case but
// Refused.
func (d *Dispatcher) Next(now time.Time) (p Pick, start *storev1.JobCommand, ok bool) {
	p, ok = d.queue.Next(now)
	term := d.terms[d.shardOf(p.Task.Job)]
	if !ok || p.Term == term {
		return p, nil, ok
	}
	d.queue.Starting(p)
	return p, &storev1.JobCommand{Job: string(p.Task.Job), Change: &storev1.JobCommand_Start{Start: &storev1.Start{
		Stage: p.Task.Stage, Task: p.Task.Index, Generation: p.Generation, Attempt: p.Attempt, Alone: p.Alone, Term: term,
	}}}, true
}

// Started says that the start of an attempt is recorded, and as which attempt.
func (d *Dispatcher) Started(p Pick, attempt uint32) { d.queue.Started(p, attempt) }

// Refused says that an attempt did not start. Its task may wait for its inputs or for its job to be resumed, and is told of
// again then, at the same attempt; if the shard lost its leader, the next one knows what to do.
func (d *Dispatcher) Refused(p Pick) { d.queue.Undo(p) }

// Done says that an attempt has ended, however it did.
func (d *Dispatcher) Done(id TaskID) { d.queue.Done(id) }

// Due returns the jobs whose time is over, each once, in order: they are to be told so by an Expire.
func (d *Dispatcher) Due(now time.Time) (expired []JobID) {
	for id, at := range d.deadlines {
		if !at.After(now) {
			expired = append(expired, id)
			delete(d.deadlines, id)
		}
	}
	slices.Sort(expired)
	return expired
}

// Wake returns when Next or Due will have something that they do not have now, however little else happens.
func (d *Dispatcher) Wake(now time.Time) (at time.Time, ok bool) {
	at, ok = d.queue.Wake(now)
	for _, t := range d.deadlines {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	return at, ok
}

// Running returns how many attempts of a stage are handed out.
func (d *Dispatcher) Running(id JobID, stage uint32) uint32 { return d.queue.Running(id, stage) }

// Load returns how many attempts are handed out, and how many shards are led.
func (d *Dispatcher) Load() (running, leading int) {
	_, running = d.queue.Size()
	return running, len(d.terms)
}
