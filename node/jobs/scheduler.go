package jobs

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store/blob"
)

// Shards is what the scheduler needs of the shard engine.
type Shards interface {
	Propose(ctx context.Context, p shard.Proposal) (machine.Result, error)
	// ProposeHere is Propose if this node leads, and fails at once otherwise.
	ProposeHere(ctx context.Context, p shard.Proposal) (machine.Result, error)
	// Peek reads the replica on this node, if there is one, as it is.
	Peek(slot machine.Slot, id machine.ID, fn func(machine.Reader) error) error
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
	// OpenAt opens a blob to be read where it is: on this node, or on the one that is named. It is NotFound, at once or when it is
	// read, if that does not have it or is away for long.
	OpenAt(ctx context.Context, d digest.Digest, size int64, node string) (blob.Reader, error)
	// Create begins one here. Once it is committed, Spread sees to copies.
	Create(ctx context.Context) (*blob.Writer, error)
	Spread(ctx context.Context, d digest.Digest)
	// FinishUpload makes a blob of what was uploaded here in parts.
	FinishUpload(ctx context.Context, d digest.Digest) error
}

// Attempt is one try of a task, handed to the worker.
type Attempt struct {
	dag.Pick
	// Work is what it has to do.
	Work *dag.Work
	// confirmed is when it was known to count.
	confirmed time.Time
	// ctx ends when the job is stopped or the node is, or when the attempt counts no more.
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// Outcome is how an attempt ended. Without a Finish there is nothing to record: the job is over.
type Outcome struct {
	Finish *storev1.Finish
	// Lost are finished tasks whose outputs could not be read.
	Lost []*storev1.Lose
}

// errJobOver is why an attempt's context ends when it counts no more.
var errJobOver = errors.New("the job is over, or another attempt took over")

// Scheduler hands out what this node runs next, as its Dispatcher and its Holder decide, to its own worker and to other nodes,
// takes from them what its worker has room for, and records how it ended. It is a shard.Sink and a worker.Source.
type Scheduler struct {
	cfg    Config
	shards Shards
	peers  Peers

	mu         sync.Mutex
	more       *sync.Cond // something may have become ready
	dispatcher *dag.Dispatcher
	holder     *dag.Holder
	attempts   map[dag.AttemptID]*Attempt // that the holder has
	watchers   map[dag.JobID]map[chan struct{}]bool
	changed    chan struct{} // there may be something to tell others, or the next wake-up changed
	asked      time.Time     // when other nodes were chosen to be asked
	rounded    time.Time     // when the last round was
	woke       time.Time     // when the last one was that came after a long pause
	stopping   bool
	finishing  sync.WaitGroup
	finishes   map[dag.JobID]*finishes
	awaiting   map[string]map[chan struct{}]bool // clients that wait for tasks, by their pool
	stats      Stats
}

// Config is what a Scheduler needs. Fields without a default must be set.
type Config struct {
	// Node is this node's name.
	Node string
	// Slots is how many attempts run here at once.
	Slots int
	// Pools are the worker pools of this node.
	Pools []string
	// Resting tells that this node is to take nothing from others; never by default.
	Resting func() bool
	// Now is the clock; time.Now by default.
	Now func() time.Time
}

// Stats count since the start.
type Stats struct {
	Started, Completed, Failed, Released, Restarted uint64
	// Given are attempts that went to other nodes, Taken those that came from them.
	Given, Taken uint64
	// Fenced are outcomes that did not count.
	Fenced uint64
	dag.Counts
}

// NewScheduler returns a Scheduler that starts nothing. Connect must be called before it is used: shards and scheduler know
// each other.
func NewScheduler(cfg Config) *Scheduler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Resting == nil {
		cfg.Resting = func() bool { return false }
	}
	s := &Scheduler{
		cfg: cfg, attempts: map[dag.AttemptID]*Attempt{}, watchers: map[dag.JobID]map[chan struct{}]bool{}, changed: make(chan struct{}, 1),
		finishes: map[dag.JobID]*finishes{}, awaiting: map[string]map[chan struct{}]bool{},
	}
	shardOf := func(id dag.JobID) uint32 { return uint32(s.shards.Table().Of(Slot(id))) }
	s.dispatcher = dag.NewDispatcher(shardOf, cfg.Node, cfg.Pools)
	s.holder = dag.NewHolder(dag.HolderConfig{ShardOf: shardOf, Slots: cfg.Slots, Session: rand.Uint64(), Pools: cfg.Pools})
	s.more = sync.NewCond(&s.mu)
	return s
}

// Connect ties the scheduler to the engine whose Sink it is, and to other nodes.
func (s *Scheduler) Connect(sh Shards, p Peers) { s.shards, s.peers = sh, p }

// Slot returns where a job's state lies.
func Slot(id dag.JobID) machine.Slot { return shard.SlotOf(string(id)) }

// Lead implements shard.Sink: what runs already is adopted, everything else comes from the state.
func (s *Scheduler) Lead(id shard.ID, term uint64, effects []machine.Effect) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stale := s.dispatcher.Lead(s.cfg.Now(), uint32(id), term, effects, s.holder.Of(uint32(id), term), s.peers.Workers())
	s.stop(stale)
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
	for _, job := range s.dispatcher.Applied(s.cfg.Now(), effects) {
		for id := range s.attempts {
			if id.Task.Job == job {
				s.stop([]dag.AttemptID{id})
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
	s.holder.Yield(uint32(id))
}

// poke wakes those who wait for work, if there may be some, and the timer. The caller holds mu.
func (s *Scheduler) poke() {
	s.wake()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// wake wakes those who wait for work, if there may be some or they are to end: with many slots, waking them for nothing is most of what an
// idle node does. The caller holds mu.
func (s *Scheduler) wake() {
	if s.stopping || s.holder.Waits() || s.dispatcher.Waits() {
		s.more.Broadcast()
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

// Next implements worker.Source. What other nodes gave comes first: they wait for it.
func (s *Scheduler) Next(ctx context.Context) (*Attempt, error) {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.stopping {
			s.stopping = true
			for _, id := range s.holder.Return() {
				s.unbegun(id)
			}
			s.forget()
		}
		s.poke()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if id, ok := s.holder.Next(); ok {
			a := s.attempts[id]
			a.ctx, a.cancel = context.WithCancelCause(ctx)
			a.confirmed = s.cfg.Now()
			s.stats.Started++
			return a, nil
		}
		if picks := s.picks(); len(picks) > 0 {
			s.take(ctx, picks)
			continue
		}
		s.more.Wait()
	}
}

// pick is an attempt handed out, and what has to be recorded before it starts, if something has to.
type pick struct {
	dag.Pick
	start *storev1.Start
}

// picks are what this node is to run next of its own. The caller holds mu.
func (s *Scheduler) picks() (all []pick) {
	for n := 1; len(all) < n && !s.holder.Full(); {
		p, start, ok := s.dispatcher.Next(s.cfg.Now())
		if !ok {
			break
		}
		if all = append(all, pick{p, start}); start != nil {
			n = max(n, s.dispatcher.Ahead(p))
		}
		if p.Alone {
			break
		}
	}
	return all
}

// take makes attempts of what this node is to run of its own. The caller holds mu, which is free meanwhile.
func (s *Scheduler) take(ctx context.Context, picks []pick) {
	s.mu.Unlock()
	attempts := s.prepare(ctx, picks)
	s.mu.Lock()
	for _, a := range attempts {
		if s.stopping {
			s.dispatcher.Done(a.ID(), 0)
			s.unbegun(a.ID())
			continue
		}
		s.attempts[a.ID()] = a
		s.holder.Hand(a.Pick)
	}
	s.poke() // some may have to wait, and of some there is none
}

// prepare records the starts of attempts that may repeat others, and reads what they have to do. Those that do not run are refused, and left out.
func (s *Scheduler) prepare(ctx context.Context, picks []pick) (attempts []*Attempt) {
	started := s.start(ctx, picks)
	var run []dag.Pick
	for i, p := range picks {
		if p.start != nil {
			if started[i] == 0 {
				s.refuse(p.Pick)
				continue
			}
			s.mu.Lock()
			p.Pick = s.dispatcher.Started(p.Pick, started[i])
			s.stats.Restarted++
			s.mu.Unlock()
		}
		run = append(run, p.Pick)
	}
	for len(run) > 0 {
		job, n := run[0].Task.Job, 1
		for n < len(run) && run[n].Task.Job == job {
			n++
		}
		attempts = append(attempts, s.read(job, run[:n])...)
		run = run[n:]
	}
	return attempts
}

// read makes attempts of picks of a job, and refuses those that do not run.
func (s *Scheduler) read(job dag.JobID, picks []dag.Pick) (attempts []*Attempt) {
	var refused []dag.Pick
	// As this node has it: if it leads no more, the attempt may count no more, which shows in the end.
	err := s.shards.Peek(Slot(job), machine.Jobs, func(r machine.Reader) error {
		works := dag.ReadWorks(r, job)
		for _, p := range picks {
			if w, err := works.Of(p); err != nil {
				refused = append(refused, p)
			} else {
				attempts = append(attempts, &Attempt{Pick: p, Work: w})
			}
		}
		return nil
	})
	if err != nil {
		attempts, refused = nil, picks
	}
	for _, p := range refused {
		s.refuse(p)
	}
	return attempts
}

func (s *Scheduler) refuse(p dag.Pick) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dispatcher.Refused(p)
}

// start records the starts, those of a job together, and returns the attempts they are recorded as; zero where nothing is recorded.
func (s *Scheduler) start(ctx context.Context, picks []pick) []uint32 {
	attempts := make([]uint32, len(picks))
	jobs := map[dag.JobID][]int{}
	for i, p := range picks {
		if p.start != nil {
			jobs[p.Task.Job] = append(jobs[p.Task.Job], i)
		}
	}
	var wg sync.WaitGroup
	for job, of := range jobs {
		wg.Go(func() {
			c := &storev1.Starts{}
			for _, i := range of {
				c.Starts = append(c.Starts, picks[i].start)
			}
			// A start whose outcome nobody waited for would look like one that was lost with its node.
			// Only the leader that hands it out may start it, so nobody else is asked.
			res, err := s.put(context.WithoutCancel(ctx), s.shards.ProposeHere, job, &storev1.JobCommand{Change: &storev1.JobCommand_Starts{Starts: c}})
			if err != nil || len(res.Attempts) != len(of) {
				return
			}
			for k, i := range of {
				attempts[i] = res.Attempts[k]
			}
		})
	}
	wg.Wait()
	return attempts
}

// unbegun records that an attempt does not begin, since this node ends: a start that is recorded and of which no end is known would look like one that took
// its node along. The caller holds mu.
func (s *Scheduler) unbegun(id dag.AttemptID) {
	s.enqueue(id.Task.Job, &storev1.Finish{
		Stage: id.Task.Stage, Task: id.Task.Index, Generation: id.Generation, Attempt: id.Attempt, Outcome: &storev1.Finish_Released{Released: &storev1.Release{}},
	})
}

// stop ends attempts that count no more. The caller holds mu.
func (s *Scheduler) stop(ids []dag.AttemptID) {
	for _, id := range ids {
		if a := s.attempts[id]; a != nil && s.holder.Drop(id) {
			a.cancel(errJobOver)
		}
	}
	s.forget()
}

// forget forgets attempts of which nothing will come. Those that run are given back when they end. The caller holds mu.
func (s *Scheduler) forget() {
	for _, id := range s.holder.Dropped() {
		if a := s.attempts[id]; a != nil && a.cancel == nil {
			delete(s.attempts, id)
		}
		s.dispatcher.Done(id, 0)
	}
}

// Done implements worker.Source. The slot is free at once; the outcome is recorded beside the next attempt.
func (s *Scheduler) Done(a *Attempt, o Outcome) {
	a.cancel(nil)
	took := time.Duration(0)
	s.mu.Lock()
	switch {
	case o.Finish.GetCompleted() != nil:
		s.stats.Completed++
		took = o.Finish.GetUsage().GetDuration().AsDuration()
	case o.Finish.GetFailed() != nil:
		s.stats.Failed++
	case o.Finish != nil:
		s.stats.Released++
	}
	delete(s.attempts, a.ID())
	s.holder.Done(a.ID(), took)
	s.dispatcher.Done(a.ID(), took)
	s.poke()
	s.mu.Unlock()
	s.record(a, o)
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

// Load returns how many attempts this node has and how many shards it leads.
func (s *Scheduler) Load() (running, leading int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.attempts), s.dispatcher.Leading()
}

// Stats returns the counts so far.
func (s *Scheduler) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	stats.Counts = s.dispatcher.Counts()
	return stats
}
