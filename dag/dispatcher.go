package dag

import (
	"maps"
	"slices"
	"time"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/machine"
)

// Dispatcher decides what runs next of the jobs whose shards a node leads, here and on other nodes, and which starts have to be
// recorded first. It is told what the shards decided, what became of the attempts it handed out, and what other nodes say of those
// they have.
//
// An attempt on another node is leased: it counts for as long as that node says that it has it. What a leader before this one handed
// out is adopted when its holder says so; until all have said what they have, or have been silent for a lease's time, nothing
// starts that may be running somewhere.
//
// It is a plain value without clock or lock: times are handed in, and the caller keeps callers apart. Shards are numbers here,
// nodes are names: which shard a job lives in, and how a node is reached, is for the caller to know.
type Dispatcher struct {
	shardOf   func(JobID) uint32
	own       Taker // this node
	queue     *Queue
	terms     map[uint32]uint64 // the shards led here
	deadlines map[JobID]time.Time
	leases    map[TaskID]*lease
	moves     map[TaskID]uint8
	silent    map[TaskID]AttemptID // those whose leases ran out
	unsure    map[uint32]bool      // shards led here whose attempts of before may have ended without their nodes
	settling  map[uint32]*settling
	takers    map[string]*taker
	counts    Counts
	asked     uint64
	again     time.Time // when a taker may get what it did not get yet
	check     time.Time // when to look for leases that are over
}

// NewDispatcher returns a Dispatcher that leads nothing, on a node with a name that belongs to some worker pools.
func NewDispatcher(shardOf func(JobID) uint32, node string, pools []string) *Dispatcher {
	return &Dispatcher{
		shardOf: shardOf, own: Taker{Name: node, Pools: pools}, queue: NewQueue(), terms: map[uint32]uint64{}, deadlines: map[JobID]time.Time{},
		leases: map[TaskID]*lease{}, moves: map[TaskID]uint8{}, silent: map[TaskID]AttemptID{}, unsure: map[uint32]bool{}, settling: map[uint32]*settling{}, takers: map[string]*taker{},
	}
}

// Lead says that a shard is led here from now on, and what its state asks for. Here are attempts of it that run on this node for
// another leader; those that count no more are returned. The others are the nodes that may run something of it as well: each is to be asked, see Reply.
func (d *Dispatcher) Lead(now time.Time, shard uint32, term uint64, effects []machine.Effect, here []AttemptID, others []string) (stale []AttemptID) {
	d.forget(shard)
	d.terms[shard] = term
	d.Applied(now, effects) // a state tells of nothing that is over
	d.tenures(now, effects)
	for _, id := range here {
		if h := d.queue.running[id.Task]; h != nil && h.ID() == id && !h.starting {
			continue // it is of this node's own, from when it led the shard before
		}
		if d.queue.Adopt(id) {
			d.counts.Adopted++
		} else {
			stale = append(stale, id)
		}
	}
	if len(others) == 0 {
		return stale
	}
	s := &settling{term: term, until: now.Add(LeaseTime), waits: map[string]bool{}}
	for _, n := range others {
		s.waits[n] = true
		d.taker(n).ask = true
	}
	d.settling[shard] = s
	d.unsure[shard] = true
	d.queue.Wait(d.of(shard))
	return stale
}

// Applied takes what a command led to in a shard that is led here. It returns the jobs that are over, of which nothing may run on.
func (d *Dispatcher) Applied(now time.Time, effects []machine.Effect) (over []JobID) {
	for _, e := range effects {
		switch e := e.(type) {
		case Run:
			d.queue.Add(e)
		case Hold:
			d.queue.Hold(e)
		case Deadline:
			d.deadlines[e.Job] = e.At
		case Ended:
			d.ended(e)
		case Extended:
			d.extended(now, e)
		case Stop:
			d.queue.Forget(e.Job)
			delete(d.deadlines, e.Job)
			d.stop(e.Job)
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

func (d *Dispatcher) of(shard uint32) func(JobID) bool {
	return func(j JobID) bool { return d.shardOf(j) == shard }
}

func (d *Dispatcher) forget(shard uint32) {
	of := d.of(shard)
	delete(d.settling, shard)
	delete(d.unsure, shard)
	for id, l := range d.leases {
		if of(id.Job) {
			d.end(l)
			d.queue.Done(id)
		}
	}
	d.queue.Reset(of)
	for id := range d.moves {
		if of(id.Job) {
			delete(d.moves, id)
		}
	}
	maps.DeleteFunc(d.silent, func(id TaskID, _ AttemptID) bool { return of(id.Job) })
	for id := range d.deadlines {
		if of(id) {
			delete(d.deadlines, id)
		}
	}
}

// Next hands out the attempt that is to start here, if there is one. One that may have been started before comes with
// what has to be recorded first; then Started or Refused says how that went. In the end comes Done, in any case but
// Refused.
func (d *Dispatcher) Next(now time.Time) (p Pick, start *storev1.Start, ok bool) {
	return d.next(now, d.own)
}

func (d *Dispatcher) next(now time.Time, t Taker) (p Pick, start *storev1.Start, ok bool) {
	p, again, ok := d.queue.Next(now, t)
	if !again.IsZero() && (d.again.IsZero() || again.Before(d.again)) {
		d.again = again
	}
	term := d.terms[d.shardOf(p.Task.Job)]
	if !ok || p.Term == term && !t.External {
		return p, nil, ok
	}
	d.queue.Starting(p.Task)
	silent := d.silent[p.Task] == p.ID() || p.Term != unrecorded && d.unsure[d.shardOf(p.Task.Job)]
	return p, &storev1.Start{
		Stage: p.Task.Stage, Task: p.Task.Index, Generation: p.Generation, Attempt: p.Attempt, Alone: p.Alone, Term: term, Silent: silent,
	}, true
}

// What is to be recorded before it starts is recorded together with what comes after it: as much as runs in so short a time.
const (
	aheadTime = 5 * time.Millisecond
	mostAhead = 64
)

// Ahead returns how many attempts are worth to be started together with one that has to be recorded first, itself included.
func (d *Dispatcher) Ahead(p Pick) int {
	j := d.queue.jobs[p.Task.Job]
	if j == nil || p.Alone || j.stage(p.Task.Stage).pace.mean == 0 {
		return 1
	}
	return int(max(1, min(mostAhead, aheadTime/j.stage(p.Task.Stage).pace.mean)))
}

// Started says that the start of an attempt is recorded, and as which attempt. It returns what begins.
func (d *Dispatcher) Started(p Pick, attempt uint32) Pick {
	p.Term, p.Attempt = d.terms[d.shardOf(p.Task.Job)], attempt
	d.queue.Started(p.Task, attempt, p.Term)
	return p
}

// Refused says that an attempt did not start. Its task may wait for its inputs or for its job to be resumed, and is told of
// again then, at the same attempt; if the shard lost its leader, the next one knows what to do.
func (d *Dispatcher) Refused(p Pick) {
	if h := d.queue.running[p.Task]; h == nil || h.Pick != p {
		return // another attempt took over, or a client has this one from the leader in between
	}
	if l := d.leases[p.Task]; l != nil {
		d.end(l)
	}
	d.queue.Undo(p.Task)
}

// Done says that an attempt that ran here has ended, however it did, and how long it took; zero if that says nothing of others.
func (d *Dispatcher) Done(id AttemptID, took time.Duration) {
	h := d.queue.running[id.Task]
	if h == nil || h.ID() != id || d.leases[id.Task] != nil {
		return // it is another leader's, or counts no more
	}
	if took > 0 {
		d.queue.Ended(id.Task, took)
	}
	d.queue.Done(id.Task)
}

// Waits tells whether anything waits to be handed out, now or later.
func (d *Dispatcher) Waits() bool { return len(d.queue.ring)+len(d.queue.delayed) > 0 }

// Ready returns how many tasks wait that could run here.
func (d *Dispatcher) Ready() int { return d.queue.Ready(d.own) }

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

// Wake returns when Next, Due, Grants or Expire will have something that they do not have now, however little else happens.
func (d *Dispatcher) Wake(now time.Time) (at time.Time, ok bool) {
	at, ok = d.queue.Wake(now)
	sooner := func(t time.Time) {
		if !t.IsZero() && (!ok || t.Before(at)) {
			at, ok = t, true
		}
	}
	for _, t := range d.deadlines {
		sooner(t)
	}
	if len(d.leases)+len(d.settling)+len(d.takers) > 0 {
		sooner(d.check)
	}
	sooner(d.again)
	return at, ok
}

// Leading returns how many shards are led.
func (d *Dispatcher) Leading() int { return len(d.terms) }

// Counts returns what happened so far.
func (d *Dispatcher) Counts() Counts { return d.counts }
