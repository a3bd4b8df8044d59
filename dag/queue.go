package dag

import (
	"container/heap"
	"maps"
	"slices"
	"time"
)

// Queue orders the tasks that may run: jobs take turns, and within a job later stages come first, so that what was begun gets
// done. It hands out each attempt at most once, however often it hears of it. A range of waiting tasks costs as
// much as one.
//
// It is a plain value without clock or lock: times are handed in, and the caller keeps callers apart.
type Queue struct {
	jobs    map[JobID]*jobQueue
	ring    []*jobQueue // jobs that may have something to hand out, each at most once
	delayed delayed
	running map[TaskID]*handed
	behind  map[TaskID]Run // newer attempts of tasks that still run in an older one
}

// Pick is one attempt handed out.
type Pick struct {
	Task       TaskID
	Generation uint32
	Attempt    uint32
	// Term and Alone are those of the Run.
	Term  uint64
	Alone bool
}

// ID names the attempt.
func (p Pick) ID() AttemptID { return AttemptID{p.Task, p.Generation, p.Attempt} }

// handed is a pick, and the Run of this one task that it came from.
type handed struct {
	Pick
	run Run
	// starting says that it waits for its start to be recorded: it is none yet.
	starting bool
}

// Taker is who asks for something to run. The zero Taker is a worker beside the queue that takes everything.
type Taker struct {
	// Name is the node's: outputs that it has are near to it.
	Name string
	// RTT is how long it takes to tell the taker something and to hear of it. What is shorter than two of them, or not known to
	// be longer, is not worth the way; nor is what is shorter than the work of giving it away.
	RTT time.Duration
	// Pools are the worker pools it belongs to, beside the one without a name.
	Pools []string
	// External takers are clients: they take the tasks of external stages, and nobody else does.
	External bool
}

func (t Taker) takes(s *stageQueue) bool {
	return t.External == s.external && (s.pool == "" || slices.Contains(t.Pools, s.pool))
}

type mark struct{ generation, attempt uint32 }

func (m mark) covers(o mark) bool {
	return m.generation > o.generation || m.generation == o.generation && m.attempt >= o.attempt
}

type jobQueue struct {
	id      JobID
	stages  map[uint32]*stageQueue
	order   []uint32 // descending
	running uint32
	max     uint32
	inRing  bool
	over    bool // nothing more will come
	waits   bool // until it is known who runs what of it
}

type stageQueue struct {
	runs     []Run
	running  uint32
	max      uint32
	pool     string
	external bool
	from     uint32 // the stage whose outputs it reads, each task one
	each     bool
	made     map[uint32]string // which node has the output of a task, if one does
	first    bitset            // tasks whose first attempt was handed out
	later    map[uint32]mark
	lost     map[uint32]mark // attempts that may have begun somewhere
	pace     pace
}

// bitset grows as it is set.
type bitset []uint64

func (b bitset) has(i uint32) bool { return int(i/64) < len(b) && b[i/64]&(1<<(i%64)) != 0 }

func (b *bitset) set(i uint32) {
	for int(i/64) >= len(*b) {
		*b = append(*b, 0)
	}
	(*b)[i/64] |= 1 << (i % 64)
}

func (b bitset) clear(i uint32) {
	if b.has(i) {
		b[i/64] &^= 1 << (i % 64)
	}
}

// NewQueue returns an empty queue.
func NewQueue() *Queue {
	return &Queue{jobs: map[JobID]*jobQueue{}, running: map[TaskID]*handed{}, behind: map[TaskID]Run{}}
}

// Add queues what a Run effect allows.
func (q *Queue) Add(r Run) {
	if r.Count == 0 {
		return
	}
	if !r.NotBefore.IsZero() {
		heap.Push(&q.delayed, r)
		return
	}
	q.add(r)
}

func (q *Queue) add(r Run) {
	j := q.job(r.Task.Job)
	j.max = r.MaxParallel
	s := j.stage(r.Task.Stage)
	s.max, s.pool, s.external, s.from, s.each = r.StageMaxParallel, r.Pool, r.External, r.From, r.Each
	s.runs = append(s.runs, r)
	q.enter(j)
}

func (q *Queue) job(id JobID) *jobQueue {
	j := q.jobs[id]
	if j == nil {
		j = &jobQueue{id: id, stages: map[uint32]*stageQueue{}}
		q.jobs[id] = j
	}
	return j
}

func (j *jobQueue) stage(n uint32) *stageQueue {
	s := j.stages[n]
	if s == nil {
		s = &stageQueue{}
		j.stages[n] = s
		i, _ := slices.BinarySearchFunc(j.order, n, func(a, b uint32) int { return int(int64(b) - int64(a)) })
		j.order = slices.Insert(j.order, i, n)
	}
	return s
}

func (s *stageQueue) seen(i uint32, m mark) bool {
	if m == (mark{0, 1}) && s.first.has(i) {
		return true
	}
	l, ok := s.later[i]
	return ok && l.covers(m)
}

func (s *stageQueue) note(i uint32, m mark) {
	if m == (mark{0, 1}) {
		s.first.set(i)
		return
	}
	if s.later == nil {
		s.later = map[uint32]mark{}
	}
	s.later[i] = m
}

// unnote takes a note back: attempts before it stay noted.
func (s *stageQueue) unnote(i uint32, m mark) {
	if m == (mark{0, 1}) {
		s.first.clear(i)
	} else if s.later[i] == m {
		s.later[i] = mark{m.generation, m.attempt - 1}
	}
}

func (q *Queue) enter(j *jobQueue) {
	if !j.inRing && !j.waits {
		j.inRing = true
		q.ring = append(q.ring, j)
	}
}

// Next hands out the attempt that a taker is to start now, if there is one for it. Without one, again is when there may be
// although nothing else happens.
func (q *Queue) Next(now time.Time, t Taker) (p Pick, again time.Time, ok bool) {
	q.due(now)
	for range len(q.ring) {
		j := q.ring[0]
		q.ring = q.ring[1:]
		j.inRing = false
		p, left := q.from(j, now, t, &again)
		if p != nil || left {
			q.enter(j)
		}
		if p != nil {
			return p.Pick, time.Time{}, true
		}
	}
	return Pick{}, again, false
}

// due queues the retries whose time has come.
func (q *Queue) due(now time.Time) {
	for len(q.delayed) > 0 && !q.delayed[0].NotBefore.After(now) {
		r := heap.Pop(&q.delayed).(Run)
		r.NotBefore = time.Time{}
		q.add(r)
	}
}

// from hands out something of a job, unless its bounds are reached: then a Done lets it in again. It tells whether something is
// left that is not for this taker, or not yet.
func (q *Queue) from(j *jobQueue, now time.Time, t Taker, again *time.Time) (p *handed, left bool) {
	if q.jobs[j.id] != j || j.max > 0 && j.running >= j.max {
		return nil, false
	}
	for _, n := range j.order {
		s := j.stages[n]
		if s.max > 0 && s.running >= s.max || len(s.runs) == 0 {
			continue
		}
		if !t.takes(s) {
			left = true
			continue
		}
		if s.pace.began.IsZero() {
			s.pace.began = now
		}
		if t.RTT > 0 {
			if worth, when := s.pace.exceeds(max(2*t.RTT, leastWorth), now); !worth {
				left = true
				if !when.IsZero() && (again.IsZero() || when.Before(*again)) {
					*again = when
				}
				continue
			}
		}
		for len(s.runs) > 0 {
			if p := q.hand(j, j.nearest(s, t)); p != nil {
				if t.RTT == 0 {
					s.pace.own = now
				}
				return p, false
			}
		}
	}
	return nil, left
}

// hand hands out what a Run of one task allows, unless it is known already.
func (q *Queue) hand(j *jobQueue, r Run) *handed {
	id, m := r.Task, mark{r.Generation, r.Attempt}
	s := j.stage(id.Stage)
	if s.seen(id.Index, m) {
		return nil
	}
	if _, busy := q.running[id]; busy {
		// The attempt that runs counts no more, but it is not over yet: the next one waits for it.
		if old, ok := q.behind[id]; !ok || !(mark{old.Generation, old.Attempt}).covers(m) {
			q.behind[id] = r
		}
		return nil
	}
	s.note(id.Index, m)
	if s.lost[id.Index] == m {
		r.Term = unrecorded
	}
	h := &handed{run: r, Pick: Pick{Task: id, Generation: r.Generation, Attempt: r.Attempt, Term: r.Term, Alone: r.Alone}}
	q.running[id] = h
	j.running++
	s.running++
	return h
}

// Adopt hands out an attempt that waits here and runs somewhere already. It tells whether there is such a one.
func (q *Queue) Adopt(id AttemptID) bool {
	j := q.jobs[id.Task.Job]
	if j == nil || j.stages[id.Task.Stage] == nil {
		return false
	}
	s := j.stages[id.Task.Stage]
	for i, r := range s.runs {
		before := id.Task.Index - r.Task.Index
		if r.Generation != id.Generation || r.Attempt != id.Attempt || id.Task.Index < r.Task.Index || before >= r.Count {
			continue
		}
		return q.hand(j, s.takeOut(i, before)) != nil
	}
	return false
}

// Settle lets jobs run of which it is known now who runs what.
func (q *Queue) Settle(match func(JobID) bool) {
	for _, id := range slices.Sorted(maps.Keys(q.jobs)) {
		if j := q.jobs[id]; j.waits && match(id) {
			j.waits = false
			q.enter(j)
		}
	}
}

// Wait keeps what waits now of the jobs that match, until Settle.
func (q *Queue) Wait(match func(JobID) bool) {
	for id, j := range q.jobs {
		j.waits = j.waits || match(id)
	}
	q.ring = slices.DeleteFunc(q.ring, func(j *jobQueue) bool {
		j.inRing = !j.waits
		return j.waits
	})
}

// Starting says that an attempt handed out waits for its start to be recorded: it is not one yet.
func (q *Queue) Starting(id TaskID) {
	if h := q.running[id]; h != nil {
		h.starting = true
	}
}

// Started says that an attempt handed out got a new number when its start was recorded.
func (q *Queue) Started(id TaskID, attempt uint32, term uint64) {
	h := q.running[id]
	if h == nil {
		return
	}
	h.Term = term
	h.starting = false
	h.Attempt, h.run.Attempt, h.run.Term = attempt, attempt, term
	if j := q.jobs[id.Job]; j != nil {
		j.stage(id.Stage).note(id.Index, mark{h.Generation, attempt})
	}
}

// Undo gives back an attempt that was handed out and did not begin. Told of it again, Next hands it out again.
func (q *Queue) Undo(id TaskID) {
	h := q.running[id]
	if h == nil {
		return
	}
	if j := q.jobs[id.Job]; j != nil {
		if s := j.stages[id.Stage]; s != nil {
			s.unnote(id.Index, mark{h.Generation, h.Attempt})
		}
	}
	q.Done(id)
}

// Again hands out an attempt once more that was handed out: as it is, because it did not begin; or, if it may have, in an attempt
// of its own, whose start is to be recorded.
func (q *Queue) Again(id TaskID, begun bool) {
	h := q.running[id]
	if h == nil {
		return
	}
	j := q.jobs[id.Job]
	over := j == nil || j.over
	q.Undo(id)
	if over {
		return
	}
	if s := j.stage(id.Stage); begun {
		if s.lost == nil {
			s.lost = map[uint32]mark{}
		}
		s.lost[id.Index] = mark{h.Generation, h.Attempt}
	}
	q.add(h.run)
}

// unrecorded is the term of no leader: whatever comes of it has to be recorded first.
const unrecorded = ^uint64(0)

// Done says that an attempt handed out has ended, however it did.
func (q *Queue) Done(id TaskID) {
	if _, ok := q.running[id]; !ok {
		return
	}
	delete(q.running, id)
	if j := q.jobs[id.Job]; j != nil {
		j.running--
		j.stage(id.Stage).running--
		if j.over && j.running == 0 {
			delete(q.jobs, id.Job)
			return
		}
		q.enter(j)
	}
	if r, ok := q.behind[id]; ok {
		delete(q.behind, id)
		q.add(r)
	}
}

// Wake returns when the next delayed task will be due that is not yet.
func (q *Queue) Wake(now time.Time) (time.Time, bool) {
	q.due(now)
	if len(q.delayed) == 0 {
		return time.Time{}, false
	}
	return q.delayed[0].NotBefore, true
}

// Hold drops waiting tasks. What was handed out stays so.
func (q *Queue) Hold(h Hold) {
	match := func(r Run) bool { return r.Task.Job == h.Job && (h.All || r.Task.Stage == h.Stage) }
	q.dropWaiting(match)
	if j := q.jobs[h.Job]; j != nil {
		for n, s := range j.stages {
			if h.All || n == h.Stage {
				s.runs = nil
			}
		}
	}
}

// Forget drops everything about a job but what of it still runs.
func (q *Queue) Forget(id JobID) {
	q.Reset(func(j JobID) bool { return j == id })
	if j := q.jobs[id]; j != nil {
		j.over = true
	}
}

// Reset forgets the jobs that match, as if it had never heard of them, and remembers of them only what runs: those
// attempts are adopted. One that waits for its start to be recorded is none yet: told of again, its task waits for how that ends.
func (q *Queue) Reset(match func(JobID) bool) {
	q.dropWaiting(func(r Run) bool { return match(r.Task.Job) })
	for id, j := range q.jobs {
		if match(id) {
			j.stages, j.order, j.running, j.max, j.waits = map[uint32]*stageQueue{}, nil, 0, 0, false
			delete(q.jobs, id)
		}
	}
	q.ring = slices.DeleteFunc(q.ring, func(j *jobQueue) bool { return q.jobs[j.id] != j })
	for id, h := range q.running {
		if match(id.Job) {
			j := q.job(id.Job)
			j.running++
			s := j.stage(id.Stage)
			s.running++
			s.pool, s.external = h.run.Pool, h.run.External
			if !h.starting {
				s.note(id.Index, mark{h.Generation, h.Attempt})
			}
		}
	}
}

func (q *Queue) dropWaiting(match func(Run) bool) {
	q.delayed = slices.DeleteFunc(q.delayed, match)
	heap.Init(&q.delayed)
	maps.DeleteFunc(q.behind, func(_ TaskID, r Run) bool { return match(r) })
}

// Ready returns how many tasks wait that a taker could run, as far as bounds let them.
func (q *Queue) Ready(t Taker) int { return q.ready(t.takes) }

// ReadyToBoth returns how many of them either of two takers could run.
func (q *Queue) ReadyToBoth(t, u Taker) int {
	return q.ready(func(s *stageQueue) bool { return t.takes(s) && u.takes(s) })
}

// takes tells whether a task that was handed out is one that a taker could run.
func (q *Queue) takes(t Taker, id TaskID) bool {
	j := q.jobs[id.Job]
	return j != nil && j.stages[id.Stage] != nil && t.takes(j.stages[id.Stage])
}

func (q *Queue) ready(match func(*stageQueue) bool) (n int) {
	for _, j := range q.ring {
		ready := uint32(0)
		for _, s := range j.stages {
			of := uint32(0)
			if !match(s) {
				continue
			}
			for _, r := range s.runs {
				of += r.Count
			}
			if s.max > 0 {
				of = min(of, s.max-min(s.max, s.running))
			}
			ready += of
		}
		if j.max > 0 {
			ready = min(ready, j.max-min(j.max, j.running))
		}
		n += int(ready)
	}
	return n
}

// Ended says how long an attempt of a stage took.
func (q *Queue) Ended(id TaskID, took time.Duration) {
	if j := q.jobs[id.Job]; j != nil && j.stages[id.Stage] != nil {
		j.stages[id.Stage].pace.ended(took)
	}
}

// Size returns how many jobs the queue knows and how many attempts are handed out.
func (q *Queue) Size() (jobs, running int) { return len(q.jobs), len(q.running) }

// delayed is a heap by NotBefore.
type delayed []Run

func (d delayed) Len() int           { return len(d) }
func (d delayed) Less(i, j int) bool { return d[i].NotBefore.Before(d[j].NotBefore) }
func (d delayed) Swap(i, j int)      { d[i], d[j] = d[j], d[i] }
func (d *delayed) Push(v any)        { *d = append(*d, v.(Run)) }
func (d *delayed) Pop() any {
	old := *d
	v := old[len(old)-1]
	*d = old[:len(old)-1]
	return v
}
