package jobs

import (
	"context"
	"log/slog"
	"time"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// mostFinishes is how many outcomes are put into one command: each is checked by itself, but the job is read and written once.
const mostFinishes = 256

// An outcome waits for others of its job that are to come here, so that they travel together: for a part of the time that its attempt took,
// which is little to anybody who waits for it, if that is long enough for company to come, and not for long.
const (
	patience                    = 4 // a fourth
	leastPatience, mostPatience = time.Millisecond, 5 * time.Millisecond
)

// finishes are the outcomes of a job that wait for those before them to be recorded, or for company.
type finishes struct {
	waiting []*storev1.Finish
	since   time.Time     // the first of them waits
	last    chan struct{} // no more are to come for now
}

// record makes an outcome durable. What comes while another one of the same job is on its way travels together.
func (s *Scheduler) record(a *Attempt, o Outcome) {
	job := a.Task.Job
	if len(o.Lost) > 0 {
		s.finishing.Go(func() {
			for _, l := range o.Lost {
				if _, err := s.propose(context.Background(), job, &storev1.JobCommand{Change: &storev1.JobCommand_Lose{Lose: l}}); err != nil {
					slog.Warn("lost output not recorded", "task", a.Task, "error", err)
				}
			}
			s.finish(job, o.Finish)
		})
		return
	}
	s.finish(job, o.Finish)
}

func (s *Scheduler) finish(job dag.JobID, f *storev1.Finish) {
	if f == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enqueue(job, f)
}

// enqueue is finish for who holds mu.
func (s *Scheduler) enqueue(job dag.JobID, f *storev1.Finish) {
	q := s.finishes[job]
	if q == nil {
		q = &finishes{last: make(chan struct{}, 1)}
		s.finishes[job] = q
		s.finishing.Go(func() { s.recordAll(job, q) })
	}
	if len(q.waiting) == 0 {
		q.since = s.cfg.Now()
	}
	q.waiting = append(q.waiting, f)
	if s.stopping || !s.has(job) {
		select {
		case q.last <- struct{}{}:
		default:
		}
	}
}

// has tells whether attempts of a job are here. The caller holds mu.
func (s *Scheduler) has(job dag.JobID) bool {
	for id := range s.attempts {
		if id.Task.Job == job {
			return true
		}
	}
	return false
}

// gather waits for company.
func (s *Scheduler) gather(job dag.JobID, q *finishes) {
	s.mu.Lock()
	wait := time.Duration(0)
	if len(q.waiting) > 0 && !s.stopping && s.has(job) {
		wait = min(q.waiting[0].GetUsage().GetDuration().AsDuration()/patience, mostPatience)
		if wait < leastPatience {
			wait = 0
		}
		wait -= s.cfg.Now().Sub(q.since)
	}
	s.mu.Unlock()
	if wait <= 0 {
		return
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.last:
	}
}

func (s *Scheduler) recordAll(job dag.JobID, q *finishes) {
	for {
		s.gather(job, q)
		s.mu.Lock()
		n := min(len(q.waiting), mostFinishes)
		batch := q.waiting[:n:n]
		if q.waiting, q.since = q.waiting[n:], s.cfg.Now(); n == 0 {
			delete(s.finishes, job)
		}
		s.mu.Unlock()
		if n == 0 {
			return
		}
		// Not the attempts' context: what they did must be recorded although it has ended.
		r, err := s.propose(context.Background(), job, &storev1.JobCommand{Change: &storev1.JobCommand_Finishes{Finishes: &storev1.Finishes{Finishes: batch}}})
		s.mu.Lock()
		s.stats.Fenced += uint64(len(r.GetRefused()))
		s.mu.Unlock()
		// A job that is over is the fence at work; without a leader the tasks are found by the next one.
		if k := fault.KindOf(err); err != nil && k != fault.Precondition && k != fault.Unavailable && k != fault.NotFound {
			slog.Error("outcomes not recorded", "job", job, "outcomes", n, "error", err)
		}
	}
}
