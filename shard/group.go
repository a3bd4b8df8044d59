package shard

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
)

// group is this node's replica of one shard.
type group struct {
	e       *Engine
	id      ID
	replica uint64
	node    *raft.RawNode // the loop's own
	log     *log
	runs    [][2][]byte // the ranges of its slots' keys
	founded *Members    // those it began with

	members  atomic.Pointer[Members] // set by the loop, as far as it has seen the log
	term     atomic.Uint64
	leadTerm atomic.Uint64         // the term this replica leads, or zero; set by the loop
	leader   atomic.Uint64         // the replica that leads, or zero; set by the loop
	stands   atomic.Pointer[stand] // set by the applier
	caughtUp atomic.Uint64         // set by the applier: the term of what it applied last
	// followers is set by the loop, of a leader: how far each replica is, itself excepted.
	followers atomic.Pointer[[]Follower]
	removed   atomic.Bool   // it is no replica of the shard any more
	settled   atomic.Bool   // set by the loop, of a leader: what was removed may go
	staged    atomic.Uint64 // the snapshot that is being put in, or zero

	// The loop's own.
	homes    map[uint64]NodeID // of replicas that wrote to this one
	heard    map[uint64]int    // by a leader, of followers: at which tick
	hasLead  bool              // the shard has had a leader since the start
	lastTime int64             // the newest time it stamped
	dirty    bool              // it has to be looked at in this turn
	atOpen   bool              // it was there when the engine was made
	ticks    int
	joint    int // ticks since this leader saw a change of the members begin that has not ended
	farewell farewell
	offered  uint64 // the snapshot that raft was told of in this turn
	taken    uint64 // the last one it took

	ended bool // the appender's own: it was retired

	// The applier's own.
	dropped  bool
	position uint64 // of the state
	resumed  uint64 // the term for which the sink was told to lead
	hash     uint64
	atStart  uint64 // the last entry there was when the engine was made

	mu       sync.Mutex
	queue    []*waiter
	waiting  map[uint64]*waiter // proposed, by seq
	seq      uint64
	inflight int
	reads    []func(error)    // not yet asked
	asked    map[uint64]asked // by number of the question
	question uint64
	awaited  []awaited // index known, not yet applied
}

// stand is where a state is, and the hash of everything that led there.
type stand struct{ index, hash uint64 }

type waiter struct {
	p    Proposal
	done func(machine.Result, error)
	// term is that of the leader who put it into the log.
	term uint64
	// expires is the tick at which it is given up, or zero.
	expires int
}

// asked are reads whose question is on its way, since a tick.
type asked struct {
	reads []func(error)
	tick  int
}

type awaited struct {
	index uint64
	done  []func(error)
}

// electionTicks is how long a follower waits for its leader, at least, and a leader for a quorum.
const electionTicks = 10

// Reads and changes that no quorum has answered for so many ticks are given up.
// So are commands of a leader that is none any more, if nobody else leads by then.
const readTicks, changeTicks, lostTicks = 20, 100, 20

func appliedKey(id ID) []byte { return binary.BigEndian.AppendUint32([]byte{0x01}, uint32(id)) }
func membersKey(id ID) []byte { return binary.BigEndian.AppendUint32([]byte{0x03}, uint32(id)) }

// newGroup makes a replica that has nothing yet: it waits to be told.
func newGroup(e *Engine, id ID, replica uint64) (*group, error) {
	g := e.group0(id, replica)
	g.log = newLog(id, replica)
	g.founded = founders(nil)
	g.members.Store(g.founded)
	return g, g.start(0)
}

func (e *Engine) group0(id ID, replica uint64) *group {
	return &group{
		e: e, id: id, replica: replica, runs: slotRuns(e.cfg.Table.Slots(id)), homes: map[uint64]NodeID{}, heard: map[uint64]int{},
		waiting: map[uint64]*waiter{}, asked: map[uint64]asked{},
	}
}

// openGroup reads a replica from the store.
func openGroup(e *Engine, id ID, head *storev1.LogHead) (*group, error) {
	s := e.cfg.Store
	what := fmt.Sprintf("log of shard %d", id)
	var err error
	founded := founders(nil)
	switch {
	case head.Members != nil:
		founded, err = membersOf(head.Members)
	case len(head.ConfState) > 0:
		if founded, err = foundersAlone(head, e.cfg.Node); err == nil {
			head.Replica = founded.next - 1
		}
	}
	if err != nil {
		return nil, damaged(s.Log, what, err)
	}
	g := e.group0(id, head.Replica)
	g.founded = founded
	var applied storev1.Applied
	if _, err := getProto(s.State, appliedKey(id), fmt.Sprintf("position of shard %d", id), &applied); err != nil {
		return nil, err
	}
	if applied.Replica != 0 && applied.Replica != g.replica {
		// Of a replica that was retired here: this one has nothing but what it was sent.
		if err := e.sweep(id); err != nil {
			return nil, err
		}
		applied.Reset()
	}
	if head.Installing != 0 {
		if applied.Index < head.Index {
			if err := g.reinstall(head.Installing, &applied); err != nil {
				return nil, err
			}
		}
		g.staged.Store(head.Installing)
		g.taken = head.Installing
	}
	members := founded
	if b, ok, err := s.State.Get(membersKey(id)); err != nil {
		return nil, err
	} else if ok {
		if members, err = decodeMembers(b); err != nil {
			return nil, damaged(s.State, fmt.Sprintf("members of shard %d", id), err)
		}
	}
	g.members.Store(members)
	if g.log, err = openLog(s, id, head, applied.Index, members.conf); err != nil {
		return nil, err
	}
	g.hash = applied.Hash
	g.atStart = g.log.last
	return g, g.start(max(applied.Index, g.log.head.Index))
}

// reinstall puts in a snapshot that was received and is not, or not for good.
func (g *group) reinstall(number uint64, applied *storev1.Applied) error {
	b := g.e.cfg.Store.State.NewBatch(false)
	defer b.Close()
	a, err := install(b, g.e.cfg.Store.State, g, number)
	if err != nil {
		return err
	}
	proto.Reset(applied)
	proto.Merge(applied, a)
	return b.Commit(false)
}

func (g *group) start(applied uint64) (err error) {
	g.position = applied
	g.stands.Store(&stand{applied, g.hash})
	g.node, err = raft.NewRawNode(&raft.Config{
		ID: g.replica, ElectionTick: electionTicks, HeartbeatTick: 2, Storage: g.log, Applied: applied,
		AsyncStorageWrites: true, MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: maxBatchBytes,
		MaxInflightMsgs: 256, MaxInflightBytes: 16 << 20, CheckQuorum: true, PreVote: true, DisableProposalForwarding: true,
		StepDownOnRemoval: true, Logger: newRaftLogger(),
	})
	return err
}

// home returns the node that has a replica, as far as this one knows.
func (g *group) home(replica uint64) NodeID {
	if n := g.members.Load().Node(replica); n != "" {
		return n
	}
	return g.homes[replica]
}

func (g *group) errNoLeader() *fault.Error {
	err := errNoLeader(g.id)
	if n := g.members.Load().Node(g.leader.Load()); n != "" && n != g.e.cfg.Node {
		return err.With("leader", string(n))
	}
	return err
}

// enqueue queues a proposal and tells whether the loop has to be woken for it.
func (g *group) enqueue(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, w)
	return len(g.queue) == 1
}

func (g *group) enqueueRead(done func(error)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reads = append(g.reads, done)
	return len(g.reads) == 1
}

// early tells that the first election since the start may be on its way: what is asked for is not wrong then, and waits for the leader. But
// not for ever: where no quorum is, there is none.
func (g *group) early() bool { return g.leadTerm.Load() == 0 && !g.hasLead && g.ticks <= readTicks }

// propose moves what is queued into the log, one entry at a time.
func (g *group) propose() {
	for {
		g.mu.Lock()
		n, size := 0, 0
		for n < len(g.queue) && n < maxBatchCommands && (n == 0 || size+len(g.queue[n].p.Body) <= maxBatchBytes) {
			size += len(g.queue[n].p.Body)
			n++
		}
		if n == 0 || g.inflight >= maxInflight || g.early() {
			g.mu.Unlock()
			return
		}
		if g.leadTerm.Load() == 0 {
			q := g.queue
			g.queue = nil
			g.mu.Unlock()
			reply(q, g.errNoLeader())
			continue
		}
		taken := g.queue[:n:n]
		if g.queue = g.queue[n:]; len(g.queue) == 0 {
			g.queue = nil
		}
		g.lastTime = max(g.lastTime, g.e.cfg.Now().UnixNano())
		batch := &storev1.Batch{Time: g.lastTime, Proposals: make([]*storev1.Proposal, n)}
		for i, w := range taken {
			g.seq++
			w.term = g.leadTerm.Load()
			g.waiting[g.seq] = w
			batch.Proposals[i] = &storev1.Proposal{
				Proposer: g.e.id, Seq: g.seq, Slot: uint32(w.p.Slot), Machine: uint32(w.p.Machine), Body: w.p.Body,
			}
		}
		first := g.seq - uint64(n) + 1
		g.inflight++
		g.mu.Unlock()

		data, err := proto.Marshal(batch)
		must(err)
		if g.node.Propose(data) != nil {
			// Raft takes nothing while it hands over. If that comes to nothing, the leader goes on in the same term, and those who
			// wait must not think that it is none: they wait for how it ends.
			g.mu.Lock()
			for i := range taken {
				delete(g.waiting, first+uint64(i))
			}
			g.inflight--
			g.queue = append(taken, g.queue...)
			g.mu.Unlock()
			return
		}
	}
}

// change proposes a change of the members. done is told when it is in effect, or why it is not; if the leader changes
// meanwhile, it is not known.
func (g *group) change(changes []Change, done func(error)) {
	if g.leadTerm.Load() == 0 {
		done(g.errNoLeader())
		return
	}
	cc, added, err := g.members.Load().plan(changes)
	if err != nil {
		done(err)
		return
	}
	g.mu.Lock()
	g.seq++
	seq := g.seq
	// raft drops a change without a word while it thinks of another as on its way.
	g.waiting[seq] = &waiter{done: func(_ machine.Result, err error) { done(err) }, term: g.leadTerm.Load(), expires: g.ticks + changeTicks}
	g.mu.Unlock()
	cc.Context, err = proto.Marshal(&storev1.MemberChange{Proposer: g.e.id, Seq: seq, Added: added})
	if err == nil {
		err = g.node.ProposeConfChange(cc)
	}
	if err != nil && g.take(seq) != nil {
		done(g.errNoLeader())
	}
}

// leaveJoint ends a change that is not ended by itself: raft proposes that when it applies something, and only once, which
// fails while a leader hands over.
func (g *group) leaveJoint() {
	if g.leadTerm.Load() == 0 || !g.members.Load().Joint() {
		g.joint = 0
		return
	}
	if g.joint++; g.joint%readTicks == 0 {
		_ = g.node.ProposeConfChange(&raftpb.ConfChangeV2{}) // refused if it is on its way
	}
}

// take removes and returns the waiter of a proposal of this engine, if it still waits.
func (g *group) take(seq uint64) *waiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.waiting[seq]
	delete(g.waiting, seq)
	return w
}

// fail answers everybody who waits for this shard: with proposed those whose command may be in the log, with err the others.
func (g *group) fail(err, proposed error) {
	g.mu.Lock()
	var ws []*waiter
	for _, seq := range sortedKeys(g.waiting) {
		ws = append(ws, g.waiting[seq])
	}
	clear(g.waiting)
	g.mu.Unlock()
	g.turnAway(err)
	reply(ws, proposed)
}

// deposed answers everybody who waits because this replica led, but those whose command may be in the log: what becomes of it will
// show, soon if the lead was handed over.
func (g *group) deposed() {
	g.mu.Lock()
	for _, w := range g.waiting {
		if w.expires == 0 {
			w.expires = g.ticks + lostTicks
		}
	}
	g.mu.Unlock()
	g.turnAway(g.errNoLeader())
}

// overtaken answers those whose command an earlier leader put into the log, once an entry of a later term is applied: what came
// before that is applied as well, and nothing of an earlier term can come after it. err says what that means.
func (g *group) overtaken(term uint64, err error) {
	g.mu.Lock()
	var ws []*waiter
	for _, seq := range sortedKeys(g.waiting) {
		if w := g.waiting[seq]; w.term < term {
			ws = append(ws, w)
			delete(g.waiting, seq)
		}
	}
	g.mu.Unlock()
	reply(ws, err)
}

// turnAway answers those whose command is not in the log, and those who want to read.
func (g *group) turnAway(err error) {
	g.mu.Lock()
	queue := g.queue
	g.queue = nil
	g.inflight = 0
	reads := g.reads
	for _, a := range g.awaited {
		reads = append(reads, a.done...)
	}
	for _, q := range sortedKeys(g.asked) {
		reads = append(reads, g.asked[q].reads...)
	}
	g.reads, g.awaited = nil, nil
	clear(g.asked)
	g.mu.Unlock()
	reply(queue, err)
	for _, r := range reads {
		r(err)
	}
}

func reply(ws []*waiter, err error) {
	for _, w := range ws {
		w.done(machine.Result{}, err)
	}
}
