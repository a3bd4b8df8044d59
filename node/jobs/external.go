package jobs

import (
	"context"

	"github.com/wattlehq/wattle/dag"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
)

// mostAcquired is how many tasks a client gets at a time.
const mostAcquired = 1000

// poolsOf are those whose tasks a client gets that asks for one.
func poolsOf(pool string) []string {
	if pool == "" {
		return nil
	}
	return []string{pool}
}

// Give gives a client tasks of jobs that this node leads.
func (s *Scheduler) Give(ctx context.Context, q *peerv1.AcquireRequest) *peerv1.Grants {
	return grantsTo(s.acquire(ctx, q))
}

func (s *Scheduler) acquire(ctx context.Context, q *peerv1.AcquireRequest) []*Attempt {
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return nil
	}
	grants := s.dispatcher.Acquire(s.cfg.Now(), q.Client, poolsOf(q.Pool), int(min(q.MaxTasks, mostAcquired)), q.Lease.AsDuration())
	s.mu.Unlock()
	if len(grants) == 0 {
		return nil
	}
	attempts := s.handOut(ctx, q.Client, grants)
	if ctx.Err() != nil { // nobody hears the answer
		s.release(attempts)
		return nil
	}
	return attempts
}

// release gives attempts back that nobody will run.
func (s *Scheduler) release(attempts []*Attempt) {
	for _, a := range attempts {
		s.finish(a.Task.Job, released(a.ID()))
	}
}

func external(id dag.AttemptID) *storev1.Finish {
	return &storev1.Finish{Stage: id.Task.Stage, Task: id.Task.Index, Generation: id.Generation, Attempt: id.Attempt, External: true}
}

func released(id dag.AttemptID) *storev1.Finish {
	f := external(id)
	f.Outcome = &storev1.Finish_Released{Released: &storev1.Release{}}
	return f
}

// Await waits until this node may have something for clients of a pool, and tells whether it has.
func (s *Scheduler) Await(ctx context.Context, q *peerv1.AwaitTasksRequest) bool {
	ctx, cancel := context.WithTimeout(ctx, min(q.Wait.AsDuration(), mostWait))
	defer cancel()
	told := make(chan struct{})
	s.mu.Lock()
	if s.stopping {
		s.mu.Unlock()
		return false
	}
	if s.dispatcher.ReadyFor(poolsOf(q.Pool)) > 0 {
		s.mu.Unlock()
		return true
	}
	if s.awaiting[q.Pool] == nil {
		s.awaiting[q.Pool] = map[chan struct{}]bool{}
	}
	s.awaiting[q.Pool][told] = true
	s.mu.Unlock()
	select {
	case <-told:
		return true
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.awaiting[q.Pool], told); len(s.awaiting[q.Pool]) == 0 {
		delete(s.awaiting, q.Pool)
	}
	return false
}

// tellAwaiting wakes those who wait for something that there may be now, and all when this node stops. The caller holds mu.
func (s *Scheduler) tellAwaiting() {
	for pool, waiting := range s.awaiting {
		if s.stopping || s.dispatcher.ReadyFor(poolsOf(pool)) > 0 {
			for told := range waiting {
				close(told)
			}
			delete(s.awaiting, pool)
		}
	}
}
