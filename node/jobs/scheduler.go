package jobs

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store/blob"
)

// Shards is what the scheduler needs of the shard engine.
type Shards interface {
	Propose(ctx context.Context, p shard.Proposal) (machine.Result, error)
	// ProposeHere is Propose if this node leads, and fails at once otherwise.
	ProposeHere(ctx context.Context, p shard.Proposal) (machine.Result, error)
	Read(ctx context.Context, slot machine.Slot, id machine.ID, fn func(machine.Reader) error) error
	ReadShard(ctx context.Context, id shard.ID, m machine.ID, fn func(machine.Slot, machine.Reader) error) error
	Table() *shard.Table
	// Here tells whether this node has a replica of a shard, and so hears of its changes.
	Here(id shard.ID) bool
}

// Blobs is what jobs need of blobs, wherever those are.
type Blobs interface {
	// Open opens a blob, which it may have to fetch.
	Open(ctx context.Context, d digest.Digest) (*blob.Blob, error)
	// Create begins one here. Once it is committed, Spread sees to copies.
	Create(ctx context.Context) (*blob.Writer, error)
	Spread(ctx context.Context, d digest.Digest)
}

// Attempt is one try of a task, handed to the worker.
type Attempt struct {
	dag.Pick
	// ctx ends when the job is stopped or the node is.
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Outcome is how an attempt ended. Without a Finish there is nothing to record: the job is over.
type Outcome struct {
	Finish *storev1.Finish
	// Lost are finished tasks whose outputs could not be read.
	Lost []*storev1.Lose
}

// errJobOver is why an attempt's context ends when its job does.
var errJobOver = errors.New("the job is over")

// Scheduler hands out what this node runs next, as its Dispatcher decides, and records how it ended. It is a shard.Sink and a
// worker.Source.
type Scheduler struct {
	shards Shards
	now    func() time.Time

	mu         sync.Mutex
	more       *sync.Cond // something may have become ready
	dispatcher *dag.Dispatcher
	running    map[dag.TaskID]*Attempt
	watchers   map[dag.JobID]map[chan struct{}]bool
	timer      chan struct{} // the next wake-up may have changed
	finishing  sync.WaitGroup
	stats      Stats
}

// Stats count since the start.
type Stats struct {
	Started, Completed, Failed, Released, Restarted uint64
}

// NewScheduler returns a Scheduler that starts nothing. SetShards must be called before it is used: shards and scheduler know
// each other.
func NewScheduler(now func() time.Time) *Scheduler {
	s := &Scheduler{
		now: now, running: map[dag.TaskID]*Attempt{}, watchers: map[dag.JobID]map[chan struct{}]bool{}, timer: make(chan struct{}, 1),
	}
	s.dispatcher = dag.NewDispatcher(func(id dag.JobID) uint32 { return uint32(s.shards.Table().Of(Slot(id))) })
	s.more = sync.NewCond(&s.mu)
	return s
}

// SetShards ties the scheduler to the engine whose Sink it is.
func (s *Scheduler) SetShards(sh Shards) { s.shards = sh }

// Slot returns where a job's state lies.
func Slot(id dag.JobID) machine.Slot { return shard.SlotOf(string(id)) }

// Lead implements shard.Sink: what runs here already is adopted, everything else comes from the state.
func (s *Scheduler) Lead(id shard.ID, term uint64, effects []machine.Effect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dispatcher.Lead(uint32(id), term, effects)
	s.poke()
}

// Applied implements shard.Sink.
func (s *Scheduler) Applied(_ shard.ID, term uint64, effects []machine.Effect) {
	if len(effects) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range effects {
		if c, ok := e.(dag.Changed); ok {
			for w := range s.watchers[c.Job] {
				select {
				case w <- struct{}{}:
				default:
				}
			}
		}
	}
	if term == 0 {
		return
	}
	for _, job := range s.dispatcher.Applied(effects) {
		for task, a := range s.running {
			if task.Job == job {
				a.cancel(errJobOver)
			}
		}
	}
	s.poke()
}

// Yield implements shard.Sink. What runs goes on: its finish counts if the next leader adopts it.
func (s *Scheduler) Yield(id shard.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dispatcher.Yield(uint32(id))
}

// poke wakes those who wait for work and the timer. The caller holds mu.
func (s *Scheduler) poke() {
	s.more.Broadcast()
	select {
	case s.timer <- struct{}{}:
	default:
	}
}

// Watch returns a channel that gets a value when the job may have changed, and a function that ends it. Changes that come
// quickly are told once.
func (s *Scheduler) Watch(id dag.JobID) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers[id] == nil {
		s.watchers[id] = map[chan struct{}]bool{}
	}
	s.watchers[id][c] = true
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if delete(s.watchers[id], c); len(s.watchers[id]) == 0 {
			delete(s.watchers, id)
		}
	}
}

// Next implements worker.Source.
func (s *Scheduler) Next(ctx context.Context) (*Attempt, error) {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.more.Broadcast()
	})()
	for {
		a, start, err := s.pick(ctx)
		if err != nil {
			return nil, err
		}
		if start == nil || s.record(ctx, a, start) {
			return a, nil
		}
		s.undo(a)
	}
}

// undo gives back an attempt that did not start.
func (s *Scheduler) undo(a *Attempt) {
	a.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, a.Task)
	s.dispatcher.Refused(a.Pick)
	s.poke()
}

// pick waits for an attempt, and for the command that records its start if there has to be one.
func (s *Scheduler) pick(ctx context.Context) (*Attempt, *storev1.JobCommand, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if p, start, ok := s.dispatcher.Next(s.now()); ok {
			a := &Attempt{Pick: p}
			a.ctx, a.cancel = context.WithCancelCause(ctx)
			s.running[p.Task] = a
			s.stats.Started++
			return a, start, nil
		}
		s.more.Wait()
	}
}

// record makes the start of an attempt that may repeat one durable, and tells whether it may run.
func (s *Scheduler) record(ctx context.Context, a *Attempt, start *storev1.JobCommand) bool {
	// A start whose outcome nobody waited for would look like one that was lost with its node.
	// Only the leader that hands it out may start it, so nobody else is asked.
	res, err := s.put(context.WithoutCancel(ctx), s.shards.ProposeHere, a.Task.Job, start)
	if err != nil || res.GetAttempt() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a.Attempt = res.Attempt
	s.dispatcher.Started(a.Pick, res.Attempt)
	s.stats.Restarted++
	return true
}

func (s *Scheduler) drop(a *Attempt) {
	a.cancel(nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, a.Task)
	s.dispatcher.Done(a.Task)
	s.poke()
}

// Done implements worker.Source. The slot is free at once; the outcome is recorded beside the next attempt.
func (s *Scheduler) Done(a *Attempt, o Outcome) {
	s.drop(a)
	if o.Finish == nil && len(o.Lost) == 0 {
		return
	}
	s.mu.Lock()
	switch {
	case o.Finish.GetCompleted() != nil:
		s.stats.Completed++
	case o.Finish.GetFailed() != nil:
		s.stats.Failed++
	default:
		s.stats.Released++
	}
	s.mu.Unlock()
	s.finishing.Go(func() {
		// Not the attempt's context: what it did must be recorded although it has ended.
		ctx := context.WithoutCancel(a.ctx)
		for _, l := range o.Lost {
			if _, err := s.propose(ctx, a.Task.Job, &storev1.JobCommand{Change: &storev1.JobCommand_Lose{Lose: l}}); err != nil {
				slog.Warn("lost output not recorded", "task", a.Task, "error", err)
			}
		}
		if o.Finish == nil {
			return
		}
		_, err := s.propose(ctx, a.Task.Job, &storev1.JobCommand{Change: &storev1.JobCommand_Finish{Finish: o.Finish}})
		// A stale attempt or a job that is over is the fence at work; without a leader the task is found by the next one.
		if err != nil && fault.KindOf(err) != fault.Precondition && fault.KindOf(err) != fault.Unavailable && fault.KindOf(err) != fault.NotFound {
			slog.Error("finish not recorded", "task", a.Task, "error", err)
		}
	})
}

// propose puts a command of a job into its shard's log.
func (s *Scheduler) propose(ctx context.Context, id dag.JobID, c *storev1.JobCommand) (*storev1.JobResult, error) {
	return s.put(ctx, s.shards.Propose, id, c)
}

func (s *Scheduler) put(
	ctx context.Context, propose func(context.Context, shard.Proposal) (machine.Result, error), id dag.JobID, c *storev1.JobCommand,
) (*storev1.JobResult, error) {
	c.Job = string(id)
	body, err := proto.Marshal(c)
	if err != nil {
		return nil, err
	}
	res, err := propose(ctx, shard.Proposal{Slot: Slot(id), Machine: machine.Jobs, Body: body, Admit: c.GetSubmit() != nil})
	if err != nil {
		return nil, err
	}
	if res.Err != nil {
		return nil, res.Err
	}
	r := &storev1.JobResult{}
	return r, proto.Unmarshal(res.Value, r)
}

// Run wakes retries that are due and ends jobs whose time is over. It returns when ctx has ended and every outcome handed
// to Done is recorded.
func (s *Scheduler) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		s.mu.Lock()
		now := s.now()
		expired := s.dispatcher.Due(now)
		next := now.Add(time.Hour)
		if at, ok := s.dispatcher.Wake(now); ok && at.Before(next) {
			next = at
		}
		s.more.Broadcast()
		s.mu.Unlock()
		for _, id := range expired {
			s.finishing.Go(func() {
				_, err := s.propose(ctx, id, &storev1.JobCommand{Change: &storev1.JobCommand_Expire{Expire: &storev1.Expire{}}})
				if err != nil && fault.KindOf(err) != fault.NotFound && ctx.Err() == nil {
					slog.Warn("deadline not recorded", "job", id, "error", err)
				}
			})
		}
		timer.Reset(max(next.Sub(now), time.Millisecond))
		select {
		case <-timer.C:
		case <-s.timer:
		case <-ctx.Done():
			s.finishing.Wait()
			return nil
		}
	}
}

// Running returns how many attempts of a stage run here.
func (s *Scheduler) Running(id dag.JobID, stage uint32) uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dispatcher.Running(id, stage)
}

// Load returns how many attempts run and how many shards this node leads.
func (s *Scheduler) Load() (running, leading int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dispatcher.Load()
}

// Stats returns the counts so far.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}
