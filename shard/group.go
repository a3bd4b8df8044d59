package shard

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/machine"
)

// group is this node's replica of one shard.
type group struct {
	e     *Engine
	id    ID
	node  *raft.RawNode // the loop's own
	log   *log
	slots []machine.Slot

	term     atomic.Uint64
	leadTerm atomic.Uint64 // the term this replica leads, or zero; set by the loop
	applied  atomic.Uint64 // set by the applier
	caughtUp atomic.Uint64 // set by the applier: the term of what it applied last
	hasLead  bool          // the loop's own: the shard has had a leader since the start
	lastTime int64         // the loop's own: the newest time it stamped
	resumed  uint64        // the applier's own: the term for which the sink was told to lead
	atStart  uint64        // the last entry there was when the engine was made

	mu       sync.Mutex
	queue    []*waiter
	waiting  map[uint64]*waiter // proposed, by seq
	seq      uint64
	inflight int
	reads    []chan error            // not yet asked
	asked    map[uint64][]chan error // asked, by number of the question
	question uint64
	awaited  []awaited // index known, not yet applied
}

type waiter struct {
	p    Proposal
	done chan answer
}

type answer struct {
	result machine.Result
	err    error
}

type awaited struct {
	index uint64
	done  []chan error
}

func appliedKey(id ID) []byte { return binary.BigEndian.AppendUint32([]byte{0x01}, uint32(id)) }

func openGroup(e *Engine, id ID) (*group, error) {
	g := &group{e: e, id: id, slots: e.cfg.Table.Slots(id), waiting: map[uint64]*waiter{}, asked: map[uint64][]chan error{}}
	b, _, err := e.cfg.Store.State.Get(appliedKey(id))
	if err != nil {
		return nil, err
	}
	var a storev1.Applied
	if err := proto.Unmarshal(b, &a); err != nil {
		return nil, damaged(e.cfg.Store.State, fmt.Sprintf("position of shard %d", id), err)
	}
	if g.log, err = openLog(e.cfg.Store, id, a.Index); err != nil {
		return nil, err
	}
	applied := max(a.Index, g.log.head.Index)
	g.applied.Store(applied)
	g.atStart = g.log.last
	g.node, err = raft.NewRawNode(&raft.Config{
		ID: e.cfg.Replica, ElectionTick: 10, HeartbeatTick: 2, Storage: g.log, Applied: applied,
		AsyncStorageWrites: true, MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: maxBatchBytes,
		MaxInflightMsgs: 256, CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, Logger: newRaftLogger(),
	})
	return g, err
}

// enqueue queues a proposal and tells whether the loop has to be woken for it.
func (g *group) enqueue(w *waiter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.queue = append(g.queue, w)
	return len(g.queue) == 1
}

func (g *group) enqueueRead(done chan error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reads = append(g.reads, done)
	return len(g.reads) == 1
}

// propose moves what is queued into the log, one entry at a time.
func (g *group) propose() {
	for {
		g.mu.Lock()
		n, size := 0, 0
		for n < len(g.queue) && n < maxBatchCommands && (n == 0 || size+len(g.queue[n].p.Body) <= maxBatchBytes) {
			size += len(g.queue[n].p.Body)
			n++
		}
		if n == 0 || g.inflight >= maxInflight {
			g.mu.Unlock()
			return
		}
		if g.leadTerm.Load() == 0 {
			q := g.queue
			g.queue = nil
			g.mu.Unlock()
			// Before the first election a proposal is early, not wrong: it waits for the leader.
			if !g.hasLead {
				g.mu.Lock()
				g.queue = append(q, g.queue...)
				g.mu.Unlock()
				return
			}
			reply(q, errNotLeader(g.id))
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
			g.waiting[g.seq] = w
			batch.Proposals[i] = &storev1.Proposal{
				Proposer: g.e.id, Seq: g.seq, Slot: uint32(w.p.Slot), Machine: uint32(w.p.Machine), Body: w.p.Body,
			}
		}
		first := g.seq - uint64(n) + 1
		g.inflight++
		g.mu.Unlock()

		data, err := proto.Marshal(batch)
		if err == nil {
			err = g.node.Propose(data)
		}
		if err != nil {
			g.mu.Lock()
			for i := range taken {
				delete(g.waiting, first+uint64(i))
			}
			g.inflight--
			g.mu.Unlock()
			reply(taken, errNotLeader(g.id))
		}
	}
}

// ask turns the queued reads into one question to the quorum.
func (g *group) ask() {
	g.mu.Lock()
	reads, lead := g.reads, g.leadTerm.Load()
	// A new leader knows what was acknowledged before its term only once an entry of its own is committed. raft waits for
	// that itself, but not where there is a single voter.
	if len(reads) == 0 || lead == 0 && !g.hasLead || lead != 0 && g.caughtUp.Load() != lead {
		g.mu.Unlock()
		return
	}
	g.reads = nil
	if lead == 0 {
		g.mu.Unlock()
		for _, r := range reads {
			r <- errNotLeader(g.id)
		}
		return
	}
	g.question++
	g.asked[g.question] = reads
	ctx := binary.BigEndian.AppendUint64(nil, g.question)
	g.mu.Unlock()
	g.node.ReadIndex(ctx)
}

// settleReads takes the quorum's answers: the index that each question's reads must wait for.
func (g *group) settleReads(states []raft.ReadState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range states {
		q := binary.BigEndian.Uint64(s.RequestCtx)
		g.awaited = append(g.awaited, awaited{s.Index, g.asked[q]})
		delete(g.asked, q)
	}
	g.wakeReads()
}

// wakeReads answers the reads whose index is applied. The caller holds mu.
func (g *group) wakeReads() {
	applied := g.applied.Load()
	keep := g.awaited[:0]
	for _, a := range g.awaited {
		if a.index > applied {
			keep = append(keep, a)
			continue
		}
		for _, d := range a.done {
			d <- nil
		}
	}
	clear(g.awaited[len(keep):])
	g.awaited = keep
}

// take removes and returns the waiter of a proposal of this engine, if it still waits.
func (g *group) take(seq uint64) *waiter {
	g.mu.Lock()
	defer g.mu.Unlock()
	w := g.waiting[seq]
	delete(g.waiting, seq)
	return w
}

// fail answers everybody who waits for this shard.
func (g *group) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	reply(g.queue, err)
	g.queue = nil
	for seq, w := range g.waiting {
		w.done <- answer{err: err}
		delete(g.waiting, seq)
	}
	g.inflight = 0
	reads := g.reads
	for _, a := range g.awaited {
		reads = append(reads, a.done...)
	}
	for _, r := range g.asked {
		reads = append(reads, r...)
	}
	g.reads, g.awaited = nil, nil
	clear(g.asked)
	for _, r := range reads {
		r <- err
	}
}

func reply(ws []*waiter, err error) {
	for _, w := range ws {
		w.done <- answer{err: err}
	}
}

// soleVoter tells whether this replica can elect itself.
func (g *group) soleVoter() bool {
	_, conf, err := g.log.InitialState()
	return err == nil && len(conf.GetVoters()) == 1 && conf.GetVoters()[0] == g.e.cfg.Replica && len(conf.GetVotersOutgoing()) == 0
}

// inMessage wakes a group in the loop, and brings it a message if there is one.
type inMessage struct {
	g *group
	m *raftpb.Message
}
