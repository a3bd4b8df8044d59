package dag

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// model is a queue that keeps everything it was told and looks at all of it each time.
type model struct {
	waiting map[TaskID][]Run
	newest  map[TaskID]mark // of those handed out
	running map[TaskID]Pick
	jobMax  map[JobID]uint32
	stMax   map[JobID][]uint32
	waits   map[JobID]bool
}

func (m *model) seen(id TaskID, k mark) bool {
	n, ok := m.newest[id]
	return ok && n.covers(k)
}

func (m *model) add(r Run) {
	for i := range r.Count {
		one := r
		one.Task.Index += i
		one.Count = 1
		m.waiting[one.Task] = append(m.waiting[one.Task], one)
	}
}

// load counts what runs of a job and of a stage.
func (m *model) load(id TaskID) (job, stage uint32) {
	for r := range m.running {
		if r.Job == id.Job {
			job++
			if r.Stage == id.Stage {
				stage++
			}
		}
	}
	return job, stage
}

func (m *model) full(id TaskID, atMost bool) bool {
	job, stage := m.load(id)
	if atMost { // with the task among what runs
		job, stage = job-1, stage-1
	}
	jm, sm := m.jobMax[id.Job], m.stMax[id.Job][id.Stage]
	return jm > 0 && job >= jm || sm > 0 && stage >= sm
}

// ready tells whether Next could hand it out.
func (m *model) ready(r Run, now time.Time) bool {
	_, busy := m.running[r.Task]
	return !busy && !m.waits[r.Task.Job] && !r.NotBefore.After(now) && !m.seen(r.Task, mark{r.Generation, r.Attempt}) && !m.full(r.Task, false)
}

// missed returns something that Next should have handed out.
func (m *model) missed(now time.Time) (Run, bool) {
	for _, runs := range m.waiting {
		for _, r := range runs {
			if m.ready(r, now) {
				return r, true
			}
		}
	}
	return Run{}, false
}

// drop forgets what waits of an attempt and those before it.
func (m *model) drop(p Pick) {
	m.waiting[p.Task] = slices.DeleteFunc(m.waiting[p.Task], func(r Run) bool { return mark{p.Generation, p.Attempt}.covers(mark{r.Generation, r.Attempt}) })
}

func (m *model) forget(match func(TaskID) bool, all bool) {
	maps.DeleteFunc(m.waiting, func(id TaskID, _ []Run) bool { return match(id) })
	if !all {
		return
	}
	maps.DeleteFunc(m.newest, func(id TaskID, _ mark) bool { return match(id) })
	for id, p := range m.running {
		if match(id) {
			m.newest[id] = mark{p.Generation, p.Attempt}
		}
	}
}

// Whatever it is told in whatever order, the queue hands each attempt out at most once, exceeds no bound, leaves nothing waiting that
// could run, and is empty in the end.
func TestQueueModel(t *testing.T) {
	t.Parallel()
	rounds := 2000
	if testing.Short() {
		rounds = 300
	}
	for seed := range uint64(rounds) {
		if !queueRound(t, seed) {
			return
		}
	}
}

func queueRound(t *testing.T, seed uint64) (ok bool) {
	rng := rand.New(rand.NewPCG(seed, 1))
	q, now := NewQueue(), epoch
	m := &model{map[TaskID][]Run{}, map[TaskID]mark{}, map[TaskID]Pick{}, map[JobID]uint32{}, map[JobID][]uint32{}, map[JobID]bool{}}
	jobs, nodes := []JobID{"a", "b", "c"}, []string{"x", "y", "z"}
	for _, j := range jobs {
		m.jobMax[j] = rng.Uint32N(4)
		m.stMax[j] = []uint32{rng.Uint32N(3), rng.Uint32N(3), rng.Uint32N(3)}
	}
	var log []string
	fail := func(format string, args ...any) bool {
		t.Errorf("seed %d: %s\n%s", seed, fmt.Sprintf(format, args...), fmt.Sprint(log))
		return false
	}
	anyRunning := func() (Pick, bool) {
		ids := slices.SortedFunc(maps.Keys(m.running), func(a, b TaskID) int { return compareTasks(a, b) })
		if len(ids) == 0 {
			return Pick{}, false
		}
		return m.running[ids[rng.IntN(len(ids))]], true
	}
	for range 150 {
		j := jobs[rng.IntN(len(jobs))]
		switch op := rng.IntN(25); {
		case op < 7:
			r := Run{Task: TaskID{j, rng.Uint32N(3), rng.Uint32N(6)}, Count: 1, Attempt: 1, MaxParallel: m.jobMax[j]}
			r.Each, r.From = r.Task.Stage > 0, r.Task.Stage-1
			r.StageMaxParallel = m.stMax[j][r.Task.Stage]
			if rng.IntN(2) == 0 {
				r.Count = rng.Uint32N(5)
			} else {
				r.Generation, r.Attempt, r.Alone = rng.Uint32N(2), 1+rng.Uint32N(4), rng.IntN(6) == 0
				if rng.IntN(3) == 0 {
					r.NotBefore = now.Add(time.Duration(rng.IntN(5)) * time.Second)
				}
			}
			log = append(log, fmt.Sprintf("add %v x%d %d.%d alone=%v %v;", r.Task, r.Count, r.Generation, r.Attempt, r.Alone, r.NotBefore.Sub(now)))
			q.Add(r)
			m.add(r)
		case op < 12:
			now = now.Add(time.Duration(rng.IntN(2)) * time.Second)
			p, _, got := q.Next(now, Taker{Name: nodes[rng.IntN(len(nodes))]})
			log = append(log, fmt.Sprintf("next %v %v;", p, got))
			if !got {
				if r, missed := m.missed(now); missed {
					return fail("%v was left waiting", r)
				}
				break
			}
			k := mark{p.Generation, p.Attempt}
			told := slices.ContainsFunc(m.waiting[p.Task], func(r Run) bool {
				return r.Generation == p.Generation && r.Attempt == p.Attempt && !r.NotBefore.After(now)
			})
			if _, busy := m.running[p.Task]; busy || !told || m.seen(p.Task, k) {
				return fail("%v: running %v, told %v, handed out before %v", p, busy, told, m.seen(p.Task, k))
			}
			m.running[p.Task], m.newest[p.Task] = p, k
			if m.waits[p.Task.Job] {
				return fail("%v of a job that waits", p)
			}
			if m.full(p.Task, true) {
				return fail("%v is one too many", p)
			}
		case op < 15:
			if p, some := anyRunning(); some {
				log = append(log, fmt.Sprintf("done %v;", p.Task))
				q.Done(p.Task)
				delete(m.running, p.Task)
			}
		case op == 15:
			if p, some := anyRunning(); some {
				log = append(log, fmt.Sprintf("started %v;", p.Task))
				q.Started(p.Task, p.Attempt+1, 1)
				p.Attempt++
				m.running[p.Task], m.newest[p.Task] = p, mark{p.Generation, p.Attempt}
			}
		case op == 16:
			if p, some := anyRunning(); some {
				log = append(log, fmt.Sprintf("undo %v;", p))
				q.Undo(p.Task)
				delete(m.running, p.Task)
				m.newest[p.Task] = mark{p.Generation, p.Attempt - 1}
				m.drop(p) // it waits no more until it is told of again
				q.Hold(Hold{Job: p.Task.Job, All: true})
				m.forget(func(id TaskID) bool { return id.Job == p.Task.Job }, false)
			}
		case op == 17:
			h := Hold{Job: j, Stage: rng.Uint32N(3), All: rng.IntN(2) == 0}
			log = append(log, fmt.Sprintf("hold %v;", h))
			q.Hold(h)
			m.forget(func(id TaskID) bool { return id.Job == j && (h.All || id.Stage == h.Stage) }, false)
		case op == 18:
			log = append(log, fmt.Sprintf("reset %v;", j))
			q.Reset(func(id JobID) bool { return id == j })
			m.forget(func(id TaskID) bool { return id.Job == j }, true)
			delete(m.waits, j)
		case op == 19:
			if p, some := anyRunning(); some {
				begun := rng.IntN(2) == 0
				log = append(log, fmt.Sprintf("again %v %v;", p, begun))
				q.Again(p.Task, begun)
				delete(m.running, p.Task)
				m.newest[p.Task] = mark{p.Generation, p.Attempt - 1}
				m.drop(p)
				m.waiting[p.Task] = append(m.waiting[p.Task], Run{Task: p.Task, Count: 1, Generation: p.Generation, Attempt: p.Attempt, Alone: p.Alone})
			}
		case op == 20:
			for _, id := range slices.SortedFunc(maps.Keys(m.waiting), compareTasks) {
				for _, r := range m.waiting[id] {
					k := mark{r.Generation, r.Attempt}
					if _, busy := m.running[id]; busy || !r.NotBefore.IsZero() || m.seen(id, k) || rng.IntN(3) > 0 {
						continue
					}
					log = append(log, fmt.Sprintf("adopt %v %v;", id, k))
					if !q.Adopt(AttemptID{id, r.Generation, r.Attempt}) {
						return fail("%v %v cannot be adopted", id, k)
					}
					m.running[id], m.newest[id] = Pick{Task: id, Generation: r.Generation, Attempt: r.Attempt, Alone: r.Alone}, k
				}
			}
			if q.Adopt(AttemptID{TaskID{j, 0, 77}, 0, 1}) {
				return fail("adopted what nobody told of")
			}
		case op == 21:
			log = append(log, fmt.Sprintf("wait %v;", j))
			q.Wait(func(id JobID) bool { return id == j })
			m.waits[j] = q.jobs[j] != nil
		case op == 22:
			log = append(log, fmt.Sprintf("settle %v;", j))
			q.Settle(func(id JobID) bool { return id == j })
			delete(m.waits, j)
		case op == 23:
			id, at := TaskID{j, rng.Uint32N(2), rng.Uint32N(8)}, nodes[rng.IntN(len(nodes))]
			log = append(log, fmt.Sprintf("made %v at %s;", id, at))
			q.made(id, at)
		}
		for _, j := range jobs {
			for s := range uint32(3) {
				if _, want := m.load(TaskID{j, s, 0}); handedOut(q, j, s) != want {
					return fail("%s/%d: %d run, want %d", j, s, handedOut(q, j, s), want)
				}
			}
		}
	}
	// The jobs end, some before what of them still runs.
	for _, j := range jobs {
		q.Forget(j)
	}
	for id := range m.running {
		q.Done(id)
	}
	if p, got := next(q, now.Add(time.Hour)); got {
		return fail("%v of a job that is over", p)
	}
	if n, r := q.Size(); n != 0 || r != 0 || len(q.ring)+len(q.delayed)+len(q.behind) != 0 {
		return fail("left over: %d jobs, %d attempts, %+v", n, r, q)
	}
	return true
}

func next(q *Queue, now time.Time) (Pick, bool) {
	p, _, ok := q.Next(now, Taker{})
	return p, ok
}

// Jobs take turns however many tasks each has, and what was begun is finished first.
func TestQueueOrder(t *testing.T) {
	t.Parallel()
	q := NewQueue()
	for _, j := range []JobID{"big", "small"} {
		q.Add(Run{Task: TaskID{j, 0, 0}, Count: 1_000_000, Attempt: 1})
	}
	q.Add(Run{Task: TaskID{"small", 2, 5}, Count: 1, Attempt: 1})
	q.Add(Run{Task: TaskID{"small", 1, 0}, Count: 1, Attempt: 1})
	var got []string
	for range 6 {
		p, _ := next(q, epoch)
		got = append(got, p.Task.String())
	}
	if want := []string{"big/0/0", "small/2/5", "big/0/1", "small/1/0", "big/0/2", "small/0/0"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A newer attempt of a task whose old one still runs comes when that one is over, not never.
func TestQueueAttemptBehind(t *testing.T) {
	t.Parallel()
	q, id := NewQueue(), TaskID{"a", 0, 0}
	q.Add(Run{Task: id, Count: 1, Attempt: 1})
	if _, ok := next(q, epoch); !ok {
		t.Fatal("nothing")
	}
	q.Add(Run{Task: id, Count: 1, Attempt: 3})
	q.Add(Run{Task: id, Count: 1, Attempt: 2})
	if p, ok := next(q, epoch); ok {
		t.Fatalf("%v while the first attempt runs", p)
	}
	q.Done(id)
	if p, ok := next(q, epoch); !ok || p.Attempt != 3 {
		t.Fatalf("%v, %v, want attempt 3", p, ok)
	}
	q.Done(id)
	if p, ok := next(q, epoch); ok {
		t.Fatalf("%v although attempt 3 was handed out", p)
	}
}

// An attempt whose start was refused is handed out again once the queue is told of it again, and not before.
func TestQueueUndo(t *testing.T) {
	t.Parallel()
	q, id := NewQueue(), TaskID{"a", 0, 0}
	for range 3 {
		q.Add(Run{Task: id, Count: 1, Attempt: 2})
		p, ok := next(q, epoch)
		if !ok || p.Attempt != 2 {
			t.Fatalf("%v, %v", p, ok)
		}
		q.Undo(p.Task)
		if p, ok := next(q, epoch); ok {
			t.Fatalf("%v, told of by nobody", p)
		}
	}
	q.Add(Run{Task: id, Count: 1, Attempt: 1})
	if p, ok := next(q, epoch); ok {
		t.Fatalf("%v, which is older", p)
	}
}

func TestQueueWake(t *testing.T) {
	t.Parallel()
	q := NewQueue()
	if at, ok := q.Wake(epoch); ok {
		t.Errorf("wake at %v for nothing", at)
	}
	for _, s := range []int{7, 3, 5} {
		q.Add(Run{Task: TaskID{"a", 0, uint32(s)}, Count: 1, Attempt: 2, NotBefore: epoch.Add(time.Duration(s) * time.Second)})
	}
	for _, s := range []int{3, 5, 7} {
		due := epoch.Add(time.Duration(s) * time.Second)
		if at, ok := q.Wake(due.Add(-1)); !ok || !at.Equal(due) {
			t.Errorf("wake at %v, want %v", at, due)
		}
		if p, ok := next(q, due.Add(-1)); ok {
			t.Errorf("%v too early", p)
		}
		if p, ok := next(q, due); !ok || p.Task.Index != uint32(s) {
			t.Errorf("%v, %v, want task %d", p, ok, s)
		}
	}
}

// A shard that this node lost and leads again tells of tasks anew. What runs of them is adopted; what only waits for its start to be
// recorded is not, because that start is void by now.
func TestQueueResetWhileStarting(t *testing.T) {
	t.Parallel()
	q, id := NewQueue(), TaskID{"a", 0, 0}
	run := Run{Task: id, Count: 1, Attempt: 1}
	all := func(JobID) bool { return true }
	q.Add(run)
	p, _ := next(q, epoch)
	q.Starting(p.Task)
	q.Reset(all)
	q.Add(run)
	if p, ok := next(q, epoch); ok {
		t.Fatalf("%v beside the one that waits", p)
	}
	q.Undo(p.Task)
	p, ok := next(q, epoch)
	if !ok || p.Attempt != 1 {
		t.Fatalf("%v, %v: the task is forgotten", p, ok)
	}
	q.Starting(p.Task)
	q.Started(p.Task, 2, 1)
	q.Reset(all)
	q.Add(Run{Task: id, Count: 1, Attempt: 2})
	q.Done(id)
	if p, ok := next(q, epoch); ok {
		t.Fatalf("%v, which has run", p)
	}
}

// handedOut returns how many attempts of a stage are.
func handedOut(q *Queue, id JobID, stage uint32) uint32 {
	if j := q.jobs[id]; j != nil && j.stages[stage] != nil {
		return j.stages[stage].running
	}
	return 0
}
