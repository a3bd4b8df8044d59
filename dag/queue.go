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
	alone   []Run
	delayed delayed
	running map[TaskID]Pick
	held    map[TaskID]bool // of those, the ones that wait for their start to be recorded
	behind  map[TaskID]Run  // newer attempts of tasks that still run in an older one
	solo    bool            // what runs, runs alone
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
}

type stageQueue struct {
	runs    []Run
	running uint32
	max     uint32
	first   bitset // tasks whose first attempt was handed out
	later   map[uint32]mark
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
	return &Queue{jobs: map[JobID]*jobQueue{}, running: map[TaskID]Pick{}, held: map[TaskID]bool{}, behind: map[TaskID]Run{}}
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
	if r.Alone {
		q.alone = append(q.alone, r)
		return
	}
	j := q.job(r.Task.Job)
	j.max = r.MaxParallel
	s := j.stage(r.Task.Stage)
	s.max = r.StageMaxParallel
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
	if !j.inRing {
		j.inRing = true
		q.ring = append(q.ring, j)
	}
}

// Next hands out the attempt that is to start now, if there is one.
func (q *Queue) Next(now time.Time) (Pick, bool) {
	q.due(now)
	if q.solo {
		return Pick{}, false
	}
	for len(q.alone) > 0 {
		r := q.alone[0]
		stale := q.job(r.Task.Job).stage(r.Task.Stage).seen(r.Task.Index, mark{r.Generation, r.Attempt})
		if len(q.running) > 0 && !stale {
			return Pick{}, false // nothing new beside what has to run alone
		}
		q.alone = q.alone[1:]
		if p, ok := q.hand(q.job(r.Task.Job), r, r.Task.Index); ok {
			q.solo = true
			return p, true
		}
	}
	for len(q.ring) > 0 {
		j := q.ring[0]
		q.ring = q.ring[1:]
		j.inRing = false
		if p, ok := q.from(j); ok {
			q.enter(j)
			return p, true
		}
	}
	return Pick{}, false
}

// due queues the retries whose time has come.
func (q *Queue) due(now time.Time) {
	for len(q.delayed) > 0 && !q.delayed[0].NotBefore.After(now) {
		r := heap.Pop(&q.delayed).(Run)
		r.NotBefore = time.Time{}
		q.add(r)
	}
}

// from hands out something of a job, unless its bounds are reached: then a Done lets it in again.
func (q *Queue) from(j *jobQueue) (Pick, bool) {
	if q.jobs[j.id] != j || j.max > 0 && j.running >= j.max {
		return Pick{}, false
	}
	for _, n := range j.order {
		s := j.stages[n]
		if s.max > 0 && s.running >= s.max {
			continue
		}
		for len(s.runs) > 0 {
			r := s.runs[0]
			i := r.Task.Index
			if r.Count == 1 {
				s.runs = s.runs[1:]
			} else {
				s.runs[0].Task.Index++
				s.runs[0].Count--
			}
			if p, ok := q.hand(j, r, i); ok {
				return p, true
			}
		}
	}
	return Pick{}, false
}

func (q *Queue) hand(j *jobQueue, r Run, index uint32) (Pick, bool) {
	s := j.stage(r.Task.Stage)
	m := mark{r.Generation, r.Attempt}
	id := TaskID{r.Task.Job, r.Task.Stage, index}
	if s.seen(index, m) {
		return Pick{}, false
	}
	if _, busy := q.running[id]; busy {
		// The attempt that runs counts no more, but it is not over yet: the next one waits for it.
		r.Task, r.Count = id, 1
		if old, ok := q.behind[id]; !ok || !(mark{old.Generation, old.Attempt}).covers(m) {
			q.behind[id] = r
		}
		return Pick{}, false
	}
	s.note(index, m)
	p := Pick{Task: id, Generation: r.Generation, Attempt: r.Attempt, Term: r.Term, Alone: r.Alone}
	q.running[id] = p
	j.running++
	s.running++
	return p, true
}

// Starting says that an attempt handed out waits for its start to be recorded: it is not one yet.
func (q *Queue) Starting(p Pick) { q.held[p.Task] = true }

// Started says that an attempt handed out got a new number when its start was recorded.
func (q *Queue) Started(p Pick, attempt uint32) {
	if r, ok := q.running[p.Task]; ok {
		delete(q.held, p.Task)
		r.Attempt = attempt
		q.running[p.Task] = r
		if j := q.jobs[p.Task.Job]; j != nil {
			j.stage(p.Task.Stage).note(p.Task.Index, mark{p.Generation, attempt})
		}
	}
}

// Undo gives back an attempt that was handed out and did not begin. Told of it again, Next hands it out again.
func (q *Queue) Undo(p Pick) {
	if j := q.jobs[p.Task.Job]; j != nil {
		if s := j.stages[p.Task.Stage]; s != nil {
			s.unnote(p.Task.Index, mark{p.Generation, p.Attempt})
		}
	}
	q.Done(p.Task)
}

// Done says that an attempt handed out has ended, however it did.
func (q *Queue) Done(id TaskID) {
	p, ok := q.running[id]
	if !ok {
		return
	}
	delete(q.running, id)
	delete(q.held, id)
	if p.Alone {
		q.solo = false
	}
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
			j.stages, j.order, j.running, j.max = map[uint32]*stageQueue{}, nil, 0, 0
			delete(q.jobs, id)
		}
	}
	q.ring = slices.DeleteFunc(q.ring, func(j *jobQueue) bool { return q.jobs[j.id] != j })
	for id, p := range q.running {
		if match(id.Job) {
			j := q.job(id.Job)
			j.running++
			s := j.stage(id.Stage)
			s.running++
			if !q.held[id] {
				s.note(id.Index, mark{p.Generation, p.Attempt})
			}
		}
	}
}

func (q *Queue) dropWaiting(match func(Run) bool) {
	q.alone = slices.DeleteFunc(q.alone, match)
	q.delayed = slices.DeleteFunc(q.delayed, match)
	heap.Init(&q.delayed)
	maps.DeleteFunc(q.behind, func(_ TaskID, r Run) bool { return match(r) })
}

// Running returns how many attempts of a stage are handed out.
func (q *Queue) Running(id JobID, stage uint32) uint32 {
	if j := q.jobs[id]; j != nil && j.stages[stage] != nil {
		return j.stages[stage].running
	}
	return 0
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
