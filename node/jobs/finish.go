package jobs

import (
	"context"
	"log/slog"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// mostFinishes is how many outcomes are put into one command: each is checked by itself, but the job is read and written once.
const mostFinishes = 256

// finishes are the outcomes of a job that wait for those before them to be recorded.
type finishes struct{ waiting []*storev1.Finish }

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
	if q != nil {
		q.waiting = append(q.waiting, f)
		return
	}
	s.finishes[job] = &finishes{waiting: []*storev1.Finish{f}}
	s.finishing.Go(func() { s.recordAll(job) })
}

func (s *Scheduler) recordAll(job dag.JobID) {
	for {
		s.mu.Lock()
		q := s.finishes[job]
		n := min(len(q.waiting), mostFinishes)
		batch := q.waiting[:n:n]
		if q.waiting = q.waiting[n:]; n == 0 {
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
