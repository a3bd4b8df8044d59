package shard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

// Bounds of what one turn takes. A batch that is full just means another one right behind it.
const (
	maxBatchCommands = 4096
	maxBatchBytes    = 4 << 20
	// More entries in flight than two gain nothing and make batches smaller.
	maxInflight = 2
	// MaxCommand is the largest body of a command in bytes.
	MaxCommand = 4 << 20
)

// Sink is told what the shards of this node decide. Its methods are called one at a time, in the order
// of the log within a shard, and must not block.
type Sink interface {
	// Lead says that this replica leads from now on and has applied everything before its term.
	// The effects are those the state calls for.
	Lead(id ID, term uint64, effects []machine.Effect)
	// Applied hands over the effects of commands, on every replica. term is zero if this one does not lead.
	Applied(id ID, term uint64, effects []machine.Effect)
	// Yield says that this replica leads no longer.
	Yield(id ID)
}

// Config is what an Engine needs. Fields without a default must be set.
type Config struct {
	Store    *store.Store
	Table    *Table
	Replica  uint64
	Machines map[machine.ID]machine.Machine
	Sink     Sink
	// Send takes messages for other replicas and must not block; it may drop them. Nil drops all, which is
	// right where there is one replica.
	Send func(id ID, m *raftpb.Message)
	// Now is the clock that stamps commands; time.Now by default.
	Now func() time.Time
	// Tick is raft's unit of time: a follower stands for election after 10 to 20 of them in silence. 100 ms by default.
	Tick time.Duration
	// TrimEntries and TrimBytes are how long a shard's log grows before its beginning is dropped, and with it
	// how much is replayed after a crash. 10,000 entries or 8 MiB by default.
	TrimEntries uint64
	TrimBytes   int64
	// MaxQueued bounds the bytes of admissions that wait for the log; further ones are refused. 64 MiB by default.
	MaxQueued int64
}

// Engine runs this node's replicas. Its methods may be called concurrently.
type Engine struct {
	cfg    Config
	id     uint64 // who proposes: drawn at each start
	groups []*group
	ready  chan struct{}

	loop     loop
	appender appender
	applier  applier

	queued   atomic.Int64 // bytes of admissions not yet answered
	unready  atomic.Int64 // shards that have no leader yet
	stopOnce sync.Once
	stopped  chan struct{}
}

// New reads the shards' logs and positions from the store. It starts nothing.
func New(cfg Config) (*Engine, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Tick == 0 {
		cfg.Tick = 100 * time.Millisecond
	}
	if cfg.TrimEntries == 0 {
		cfg.TrimEntries = 10_000
	}
	if cfg.TrimBytes == 0 {
		cfg.TrimBytes = 8 << 20
	}
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = 64 << 20
	}
	if cfg.Send == nil {
		cfg.Send = func(ID, *raftpb.Message) {}
	}
	e := &Engine{cfg: cfg, id: rand.Uint64(), ready: make(chan struct{}), stopped: make(chan struct{})}
	e.loop = loop{e: e, inbox: newMailbox[inMessage]()}
	e.appender = appender{e: e, inbox: newMailbox[storageMessage]()}
	e.applier = applier{e: e, inbox: newMailbox[storageMessage]()}
	for id := range ID(cfg.Table.Shards) {
		g, err := openGroup(e, id)
		if err != nil {
			return nil, err
		}
		e.groups = append(e.groups, g)
	}
	e.unready.Store(int64(len(e.groups)))
	return e, nil
}

// Ready is closed once every shard has a leader that this replica knows and follows, or is.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Table returns the routing table.
func (e *Engine) Table() *Table { return e.cfg.Table }

// Run drives the shards until ctx ends; then every waiting caller has its answer. An error means that the
// node can no longer keep its state and must end.
func (e *Engine) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	guard := func(name string, f func(context.Context)) {
		wg.Go(func() {
			defer func() {
				if r := recover(); r != nil {
					b, ok := r.(*machine.Broken)
					if !ok {
						panic(r)
					}
					cancel(fmt.Errorf("shard %s: %w", name, b))
				}
			}()
			f(ctx)
		})
	}
	guard("applier", e.applier.run)
	guard("appender", e.appender.run)
	guard("loop", e.loop.run)
	<-ctx.Done()
	wg.Wait()
	e.stopOnce.Do(func() { close(e.stopped) })
	for _, g := range e.groups {
		g.fail(errStopping())
	}
	if err := context.Cause(ctx); err != context.Canceled && err != context.DeadlineExceeded {
		return err
	}
	return nil
}

func errStopping() *fault.Error {
	return fault.New(fault.Unavailable, "stopping", "the node is stopping").Hint("try again, at another node or when this one is back")
}

func errNotLeader(id ID) *fault.Error {
	return fault.New(fault.Unavailable, "no_leader", "shard %d has no leader on this node", id).Hint("try again in a moment")
}

// Proposal is a command before it has a place in the log.
type Proposal struct {
	Slot    machine.Slot
	Machine machine.ID
	Body    []byte
	// Admit marks what brings new work. Only such proposals are refused when too much is queued: what ends or stops
	// work always gets in.
	Admit bool
}

// Propose puts a command into the log and returns what its machine answered once it is applied, which implies
// that a quorum has it on disk. An error means that the outcome is unknown, unless its reason is
// "overloaded" or "command_too_large": then nothing happened. A caller that tries again must send a
// command for which twice is as good as once.
func (e *Engine) Propose(ctx context.Context, p Proposal) (machine.Result, error) {
	if len(p.Body) > MaxCommand {
		return machine.Result{}, fault.New(fault.Invalid, "command_too_large", "%d bytes in one command: the limit is %d", len(p.Body), MaxCommand).
			Hint("hand large inputs over as files")
	}
	if p.Admit {
		size := int64(len(p.Body))
		if e.queued.Add(size) > e.cfg.MaxQueued {
			e.queued.Add(-size)
			return machine.Result{}, fault.New(fault.Exhausted, "overloaded", "too many submissions are waiting").
				Hint("try again in a second").With("retry_after_ms", 1000)
		}
		defer e.queued.Add(-size)
	}
	g := e.groups[e.cfg.Table.Of(p.Slot)]
	w := &waiter{p: p, done: make(chan answer, 1)}
	if g.enqueue(w) {
		e.loop.inbox.put(inMessage{g: g})
	}
	select {
	case a := <-w.done:
		return a.result, a.err
	case <-ctx.Done():
		return machine.Result{}, ctx.Err()
	case <-e.stopped:
		return machine.Result{}, errStopping()
	}
}

// Read calls fn with a machine's part of a slot as it is at some moment after Read was called: what was acknowledged
// before is seen. It costs no log entry.
func (e *Engine) Read(ctx context.Context, slot machine.Slot, id machine.ID, fn func(machine.Reader) error) error {
	return e.readShard(ctx, e.cfg.Table.Of(slot), func(s *store.Snapshot) error {
		return readSlot(s, slot, id, fn)
	})
}

// ReadShard is Read over all slots of a shard, all at the same moment.
func (e *Engine) ReadShard(ctx context.Context, shard ID, id machine.ID, fn func(machine.Slot, machine.Reader) error) error {
	return e.readShard(ctx, shard, func(s *store.Snapshot) error {
		for _, slot := range e.groups[shard].slots {
			if err := readSlot(s, slot, id, func(r machine.Reader) error { return fn(slot, r) }); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *Engine) readShard(ctx context.Context, id ID, fn func(*store.Snapshot) error) (err error) {
	g := e.groups[id]
	done := make(chan error, 1)
	if g.enqueueRead(done) {
		e.loop.inbox.put(inMessage{g: g})
	}
	select {
	case err := <-done:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return errStopping()
	}
	s := e.cfg.Store.State.Snapshot()
	defer s.Close()
	return fn(s)
}

// Step takes a message that another replica's Send was given.
func (e *Engine) Step(id ID, m *raftpb.Message) {
	if int(id) < len(e.groups) {
		e.loop.inbox.put(inMessage{g: e.groups[id], m: m})
	}
}

// Status is one replica's view of its shard.
type Status struct {
	ID      ID
	Term    uint64
	Leading bool
	Applied uint64
	// Entries counts the log's entries that are kept.
	Entries uint64
}

// Status returns the state of every replica on this node.
func (e *Engine) Status() []Status {
	s := make([]Status, 0, len(e.groups))
	for _, g := range e.groups {
		first, err := g.log.FirstIndex()
		last, err2 := g.log.LastIndex()
		if err != nil || err2 != nil {
			continue
		}
		s = append(s, Status{ID: g.id, Term: g.term.Load(), Leading: g.leadTerm.Load() != 0, Applied: g.applied.Load(), Entries: last + 1 - first})
	}
	return s
}

// Trimmed returns how many log entries were dropped since the start, over all shards.
func (e *Engine) Trimmed() uint64 { return e.appender.trimmed.Load() }

// Replayed returns how many log entries were applied that a process before this one had applied already or left behind.
func (e *Engine) Replayed() uint64 { return e.applier.replayed.Load() }

// Syncs returns how many synced writes the log store has taken.
func (e *Engine) Syncs() uint64 { return e.appender.syncs.Load() }

type quietLogger struct{ raft.Logger }

func newRaftLogger() raft.Logger { return quietLogger{&raft.DefaultLogger{Logger: discard}} }
