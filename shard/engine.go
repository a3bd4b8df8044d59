package shard

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
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
	// Installed says that the state was replaced as a whole: what was derived from it has to be derived anew.
	Installed(id ID)
	// Yield says that this replica leads no longer, or is no more.
	Yield(id ID)
}

// Config is what an Engine needs. Fields without a default must be set.
type Config struct {
	Store    *store.Store
	Table    *Table
	Node     NodeID
	Machines map[machine.ID]machine.Machine
	Sink     Sink
	// Send takes messages for another node and must not block; it may drop them. Nil drops all, which is
	// right where there is one node.
	Send func(to NodeID, ms []*peerv1.ShardMessage)
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
	// ChunkBytes is about how much of a state is sent at a time to a replica that needs all of it. 256 KiB by default.
	ChunkBytes int
	// Run is a number that no other start of a node has; drawn by default.
	Run uint64
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Tick == 0 {
		c.Tick = 100 * time.Millisecond
	}
	if c.TrimEntries == 0 {
		c.TrimEntries = 10_000
	}
	if c.TrimBytes == 0 {
		c.TrimBytes = 8 << 20
	}
	if c.MaxQueued == 0 {
		c.MaxQueued = 64 << 20
	}
	if c.ChunkBytes == 0 {
		c.ChunkBytes = 256 << 10
	}
	if c.Send == nil {
		c.Send = func(NodeID, []*peerv1.ShardMessage) {}
	}
	if c.Run == 0 {
		c.Run = rand.Uint64()
	}
	return c
}

// Engine runs this node's replicas. Its methods may be called concurrently.
type Engine struct {
	cfg   Config
	id    uint64 // who proposes
	ready chan struct{}

	mu      sync.RWMutex
	groups  map[ID]*group
	sorted  []*group // by shard; never changed in place
	tombs   map[ID]uint64
	loop    loop
	courier courier

	appender appender
	applier  applier

	queued   atomic.Int64 // bytes of admissions not yet answered
	unready  atomic.Int64 // shards that have no leader yet
	stopOnce sync.Once
	stopped  chan struct{}

	counts counts
}

// New reads the shards' logs and positions from the store. It starts nothing.
func New(cfg Config) (*Engine, error) {
	cfg = cfg.withDefaults()
	e := &Engine{
		cfg: cfg, id: cfg.Run, ready: make(chan struct{}), stopped: make(chan struct{}), groups: map[ID]*group{}, tombs: map[ID]uint64{},
	}
	e.loop = loop{e: e, inbox: newMailbox[inMessage]()}
	e.courier = courier{e: e, inbox: newMailbox[parcel](), in: map[ID]*incoming{}}
	e.appender = appender{e: e, inbox: newMailbox[storageMessage]()}
	e.applier = applier{e: e, inbox: newMailbox[storageMessage]()}
	for id := range ID(cfg.Table.Shards) {
		if err := e.open(id); err != nil {
			return nil, err
		}
	}
	if e.unready.Store(int64(len(e.sorted))); len(e.sorted) == 0 {
		close(e.ready)
	}
	return e, nil
}

// open reads what there is of a shard on this node.
func (e *Engine) open(id ID) error {
	var retired storev1.Retired
	if _, err := getProto(e.cfg.Store.Log, retiredKey(id), fmt.Sprintf("log of shard %d", id), &retired); err != nil {
		return err
	}
	e.tombs[id] = retired.Below
	var head storev1.LogHead
	there, err := getProto(e.cfg.Store.Log, headKey(id), fmt.Sprintf("log of shard %d", id), &head)
	if err != nil {
		return err
	}
	if !there {
		return e.sweep(id)
	}
	g, err := openGroup(e, id, &head)
	if err != nil {
		return err
	}
	g.atOpen = true
	e.put(g)
	return nil
}

// sweep removes what a replica left that was removed from this node.
func (e *Engine) sweep(id ID) error {
	if _, ok, err := e.cfg.Store.State.Get(appliedKey(id)); err != nil || !ok {
		return err
	}
	b := e.cfg.Store.State.NewBatch(false)
	defer b.Close()
	e.applier.drop(b, e.group0(id, 0))
	return b.Commit(false)
}

func (e *Engine) group(id ID) *group {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.groups[id]
}

func (e *Engine) all() []*group {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.sorted
}

func (e *Engine) retired(id ID) uint64 {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.tombs[id]
}

func (e *Engine) put(g *group) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.groups[g.id] = g
	e.sort()
}

func (e *Engine) remove(g *group) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tombs[g.id] = g.replica + 1
	if e.groups[g.id] == g {
		delete(e.groups, g.id)
	}
	e.sort()
}

func (e *Engine) sort() {
	e.sorted = make([]*group, 0, len(e.groups))
	for _, id := range sortedKeys(e.groups) {
		e.sorted = append(e.sorted, e.groups[id])
	}
}

// Ready is closed once every shard has a leader that this replica knows and follows, or is.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Table returns the routing table.
func (e *Engine) Table() *Table { return e.cfg.Table }

// Has tells whether there is a replica of a shard on this node.
func (e *Engine) Has(id ID) bool { return e.group(id) != nil }

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
	guard("courier", e.courier.run)
	guard("appender", e.appender.run)
	guard("loop", e.loop.run)
	<-ctx.Done()
	wg.Wait()
	e.stopOnce.Do(func() { close(e.stopped) })
	for _, g := range e.all() {
		g.fail(g.errNoLeader(), errStopping())
	}
	if err := context.Cause(ctx); err != context.Canceled && err != context.DeadlineExceeded {
		return err
	}
	return nil
}

func errStopping() *fault.Error {
	return fault.New(fault.Unavailable, "stopping", "the node is stopping").Hint("try again, at another node or when this one is back")
}

func errNoLeader(id ID) *fault.Error {
	return fault.New(fault.Unavailable, "no_leader", "shard %d has no leader on this node", id).
		Hint("try again in a moment; if that does not help, most of the nodes that have its replicas are away: wattle cluster status, wattle node ls")
}

func errLeaderLost(id ID) *fault.Error {
	return fault.New(fault.Unavailable, "leader_lost", "the leader of shard %d changed before it was known whether the command counts", id).
		Hint("look, or send it again: sent twice it counts once")
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
// that a quorum has it on disk. An error means that the outcome is unknown, unless its reason is "overloaded",
// "command_too_large", "no_replica" or "no_leader": then nothing happened. A caller that tries again after others must send
// a command for which twice is as good as once. "no_leader" names the node that leads as "leader", if that is known.
func (e *Engine) Propose(ctx context.Context, p Proposal) (machine.Result, error) {
	type answer struct {
		result machine.Result
		err    error
	}
	select {
	case <-e.stopped:
		return machine.Result{}, errNoLeader(e.cfg.Table.Of(p.Slot)) // nothing was done
	default:
	}
	done := make(chan answer, 1)
	e.propose(p, func(r machine.Result, err error) { done <- answer{r, err} })
	select {
	case a := <-done:
		return a.result, a.err
	case <-ctx.Done():
		return machine.Result{}, ctx.Err()
	case <-e.stopped:
		return machine.Result{}, errStopping()
	}
}

// propose is Propose that answers by calling done, once, which must not block.
func (e *Engine) propose(p Proposal, done func(machine.Result, error)) {
	if len(p.Body) > MaxCommand {
		done(machine.Result{}, fault.New(fault.Invalid, "command_too_large", "%d bytes in one command: the limit is %d", len(p.Body), MaxCommand).
			Hint("hand large inputs over as files"))
		return
	}
	g := e.group(e.cfg.Table.Of(p.Slot))
	if g == nil {
		done(machine.Result{}, errNoReplica(e.cfg.Table.Of(p.Slot)))
		return
	}
	if p.Admit {
		size := int64(len(p.Body))
		if e.queued.Add(size) > e.cfg.MaxQueued {
			e.queued.Add(-size)
			done(machine.Result{}, fault.New(fault.Exhausted, "overloaded", "too many submissions are waiting").
				Hint("try again in a second").With("retry_after_ms", 1000))
			return
		}
		answer := done
		done = func(r machine.Result, err error) { e.queued.Add(-size); answer(r, err) }
	}
	if g.enqueue(&waiter{p: p, done: done}) {
		e.loop.inbox.put(inMessage{g: g})
	}
}

func errNoReplica(id ID) *fault.Error {
	return fault.New(fault.Unavailable, "no_replica", "this node has no replica of shard %d", id).Hint("ask another node")
}

// Read calls fn with a machine's part of a slot as it is at some moment after Read was called: what was acknowledged
// before is seen, whichever replica is asked. It costs no log entry.
func (e *Engine) Read(ctx context.Context, slot machine.Slot, id machine.ID, fn func(machine.Reader) error) error {
	return e.readShard(ctx, e.cfg.Table.Of(slot), func(s store.Snapshot) error {
		return readSlot(s, slot, id, fn)
	})
}

// Peek is Read of what is applied here, which may be old.
func (e *Engine) Peek(slot machine.Slot, id machine.ID, fn func(machine.Reader) error) error {
	s := e.cfg.Store.State.Snapshot()
	defer s.Close()
	return readSlot(s, slot, id, fn)
}

// ReadShard is Read over all slots of a shard, all at the same moment.
// Slots in which no machine has anything are left out.
func (e *Engine) ReadShard(ctx context.Context, shard ID, id machine.ID, fn func(machine.Slot, machine.Reader) error) error {
	return e.readShard(ctx, shard, func(s store.Snapshot) error {
		for slot := range usedSlots(s, slotRuns(e.cfg.Table.Slots(shard))) {
			if err := readSlot(s, slot, id, func(r machine.Reader) error { return fn(slot, r) }); err != nil {
				return err
			}
		}
		return nil
	})
}

func (e *Engine) readShard(ctx context.Context, id ID, fn func(store.Snapshot) error) (err error) {
	done := make(chan error, 1)
	g := e.group(id)
	e.await(id, func(err error) { done <- err })
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
	if g == nil || e.group(id) != g {
		return errNoReplica(id) // it was taken away meanwhile, and its state with it
	}
	return fn(s)
}

// await calls done, once, when the state here has everything that was acknowledged before.
func (e *Engine) await(id ID, done func(error)) {
	g := e.group(id)
	if g == nil {
		done(errNoReplica(id))
		return
	}
	if g.enqueueRead(done) {
		e.loop.inbox.put(inMessage{g: g})
	}
}

// Change changes the members of a shard, which this node must lead, and returns when that is in effect. Several changes
// take effect together. After an error other than "bad_change" the outcome is unknown: look at the members.
func (e *Engine) Change(ctx context.Context, id ID, changes ...Change) error {
	done := make(chan error, 1)
	e.change(id, changes, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-e.stopped:
		return errStopping()
	}
}

func (e *Engine) change(id ID, changes []Change, done func(error)) {
	g := e.group(id)
	if g == nil {
		done(errNoReplica(id))
		return
	}
	e.loop.do(g, func() { g.change(changes, done) })
}

// TransferLeader asks the leader of a shard, if it is here, to let another replica lead. Whether it does shows in Status.
func (e *Engine) TransferLeader(id ID, to uint64) {
	if g := e.group(id); g != nil {
		e.loop.do(g, func() { g.node.TransferLeader(to) })
	}
}

// HandOver has other replicas lead the shards that this node leads, where there are others that can, and returns when they do or ctx ends:
// a node that is stopped in good order keeps nobody waiting for an election.
func (e *Engine) HandOver(ctx context.Context) {
	tick := time.NewTicker(e.cfg.Tick / 4)
	defer tick.Stop()
	for {
		left := false
		for _, s := range e.Status() {
			if to := s.heir(); to != 0 {
				left = true
				e.TransferLeader(s.ID, to)
			}
		}
		if !left {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// heir is the voter that is best prepared to lead after this replica; zero if it does not lead, or nobody can.
func (s Status) heir() (to uint64) {
	best := uint64(0)
	for _, f := range s.Followers {
		if s.Leading && f.Active && !f.Receives && s.Members.Voter(f.Replica) && f.Match >= best {
			to, best = f.Replica, f.Match
		}
	}
	return to
}

// Retire takes a replica away from this node. The caller has seen members of the shard that it is none of although its
// number was given before: a replica that nobody writes to does not find out by itself.
func (e *Engine) Retire(id ID, replica uint64) {
	if g := e.group(id); g != nil && g.replica == replica {
		e.loop.do(g, func() { e.loop.retire(g) })
	}
}

// Step takes messages that the Send of another node was given. It does not keep ms.
func (e *Engine) Step(from NodeID, ms []*peerv1.ShardMessage) {
	in := make([]inMessage, len(ms))
	for i, m := range ms {
		in[i] = inMessage{from: from, wire: m}
	}
	e.loop.inbox.put(in...)
}

type quietLogger struct{ raft.Logger }

func newRaftLogger() raft.Logger { return quietLogger{&raft.DefaultLogger{Logger: discard}} }
