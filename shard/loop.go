package shard

import (
	"context"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/machine"
)

// loop is the only one to touch the raft nodes: it feeds them what came in and passes on what they want done.
type loop struct {
	e     *Engine
	inbox *mailbox[inMessage]
	out   outbox
	later outbox // what can wait for something else to the same node
	ticks int
}

// lookTicks is how many ticks pass between looks at what was put in and may be cleared away.
const lookTicks = 10

// inMessage wakes a group in the loop and brings it something, if there is something.
type inMessage struct {
	g  *group
	m  *raftpb.Message
	do func()
	// From another node.
	from NodeID
	wire *peerv1.ShardMessage
}

// outbox collects what goes to other nodes, in the order in which they were first named.
type outbox struct {
	order []NodeID
	to    map[NodeID][]*peerv1.ShardMessage
}

func (o *outbox) add(to NodeID, m *peerv1.ShardMessage) {
	if o.to == nil {
		o.to = map[NodeID][]*peerv1.ShardMessage{}
	}
	if o.to[to] == nil {
		o.order = append(o.order, to)
	}
	o.to[to] = append(o.to[to], m)
}

func (o *outbox) flush(send func(NodeID, []*peerv1.ShardMessage)) {
	for _, n := range o.order {
		send(n, o.to[n])
	}
	o.order, o.to = nil, nil
}

// take adds what another outbox has for nodes that get something anyway, or for all.
func (o *outbox) take(from *outbox, all bool) {
	nodes := o.order
	if all {
		nodes = from.order
	}
	for _, n := range nodes {
		for _, m := range from.to[n] {
			o.add(n, m)
		}
		delete(from.to, n)
	}
	if all {
		from.order = nil
	}
}

func (l *loop) run(ctx context.Context) {
	tick := time.NewTicker(l.e.cfg.Tick)
	defer tick.Stop()
	l.begin()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.tick()
		case <-l.inbox.wake:
			l.turn(l.receive())
		}
	}
}

// begin lets those stand for election who need not wait for others.
func (l *loop) begin() {
	all := l.e.all()
	for _, g := range all {
		if g.members.Load().sole(g.replica) {
			must(g.node.Campaign())
		}
	}
	l.turn(all)
}

// do calls f where a group's raft node may be touched.
func (l *loop) do(g *group, f func()) { l.inbox.put(inMessage{g: g, do: f}) }

func (l *loop) tick() {
	look := false
	for _, g := range l.e.all() {
		g.node.Tick()
		g.expire()
		g.lookAfter()
		g.leaveJoint()
		look = look || g.staged.Load() != 0
	}
	if l.ticks++; look && l.ticks%lookTicks == 0 {
		l.e.appender.inbox.put(storageMessage{look: true})
	}
	l.receive()
	l.out.take(&l.later, true)
	l.turn(l.e.all())
	l.e.courier.inbox.put(parcel{tick: true})
}

// receive feeds the nodes what is in the inbox and returns the groups it was for.
func (l *loop) receive() []*group {
	var dirty []*group
	for _, m := range l.inbox.take() {
		g := m.g
		if m.wire != nil {
			if g = l.accept(m.from, m.wire); g == nil {
				continue
			}
		}
		if m.do != nil {
			m.do()
		}
		if g.removed.Load() {
			g.fail(errNoReplica(g.id), errLeaderLost(g.id)) // who came too late to be told at its end
			continue
		}
		if m.m != nil {
			if m.m.GetType() == raftpb.MsgSnap {
				g.offered = snapshotNumber(m.m.Snapshot)
			}
			// An error here is a message that no longer fits, which raft wants dropped.
			_ = g.node.Step(m.m)
		}
		if !g.dirty {
			g.dirty = true
			dirty = append(dirty, g)
		}
	}
	return dirty
}

// accept takes a message of another node and returns the group it was for, if there is more to do.
func (l *loop) accept(from NodeID, w *peerv1.ShardMessage) *group {
	g := l.e.group(ID(w.Shard))
	if w.To == 0 || uint64(w.Shard) >= uint64(l.e.cfg.Table.Shards) {
		return nil
	}
	if w.GetGone() != nil {
		if g != nil && g.replica == w.To {
			l.retire(g)
		}
		return nil
	}
	if g == nil || g.replica < w.To {
		if g = l.admit(ID(w.Shard), w.To, g); g == nil {
			return nil
		}
	}
	if g.replica != w.To {
		return nil // for one that was here before
	}
	if g.members.Load().Removed(w.From) {
		if g.settled.Load() {
			l.gone(g, from, w.From)
		}
		return nil
	}
	g.homes[w.From] = from
	switch {
	case w.GetRaft() != nil:
		m := &raftpb.Message{}
		if proto.Unmarshal(w.GetRaft(), m) != nil || m.GetFrom() != w.From || m.GetTo() != w.To {
			return nil
		}
		// What only a node itself may tell its raft.
		if raft.IsLocalMsg(m.GetType()) || raft.IsLocalMsgTarget(m.GetFrom()) || m.GetType() == raftpb.MsgSnap {
			return nil
		}
		_ = g.node.Step(m)
	case w.GetChunk() != nil, w.GetAck() != nil:
		l.e.courier.inbox.put(parcel{g: g, home: from, wire: w})
		return nil
	}
	return g
}

// admit makes a replica that another node knows of. One that was here and is gone does not come back.
func (l *loop) admit(id ID, replica uint64, old *group) *group {
	if replica < l.e.retired(id) {
		return nil
	}
	if old != nil {
		l.retire(old)
	}
	g, err := newGroup(l.e, id, replica)
	must(err)
	l.e.put(g)
	return g
}

// retire takes a replica away from this node: nothing of it is left but that it may never come back.
func (l *loop) retire(g *group) {
	if g.removed.Load() {
		return
	}
	g.removed.Store(true)
	l.e.remove(g)
	l.found(g)
	g.leadTerm.Store(0)
	g.fail(errNoReplica(g.id), errLeaderLost(g.id))
	l.e.appender.inbox.put(storageMessage{g: g, retire: true})
}

// turn proposes what is queued in the groups and hands their output to the appender and the applier.
func (l *loop) turn(groups []*group) {
	var appends, applies []storageMessage
	for _, g := range groups {
		g.dirty = false
		if g.removed.Load() {
			continue
		}
		l.settle(g)
		g.propose()
		g.ask()
		for g.node.HasReady() && !g.removed.Load() {
			rd := g.node.Ready()
			if rd.HardState != nil && !raft.IsEmptyHardState(rd.HardState) {
				g.term.Store(rd.HardState.GetTerm())
			}
			if rd.SoftState != nil {
				applies = append(applies, l.follow(g, rd.SoftState)...)
			}
			if len(rd.ReadStates) > 0 {
				g.settleReads(rd.ReadStates)
			}
			if !raft.IsEmptySnap(rd.Snapshot) {
				g.taken = snapshotNumber(rd.Snapshot)
				m, err := snapshotMembers(rd.Snapshot)
				must(err)
				g.members.Store(m)
			}
			for _, m := range rd.Messages {
				switch m.GetTo() {
				case raft.LocalAppendThread:
					if n := len(m.Entries); n > 0 {
						g.farewell.appended(m.Entries[n-1].GetIndex())
					}
					appends = append(appends, storageMessage{g: g, m: m, homes: l.homes(g, m)})
				case raft.LocalApplyThread:
					g.farewell.committed = m.Entries[len(m.Entries)-1].GetIndex()
					applies = append(applies, storageMessage{g: g, m: m, members: l.reconfigure(g, m)})
				default:
					l.send(g, m)
				}
			}
			// What became a leader just now can take what was waiting for one.
			l.settle(g)
			g.propose()
			g.ask()
		}
		if g.offered != 0 && g.offered != g.taken {
			g.staged.CompareAndSwap(g.offered, 0) // raft has no use for it: there is room for the next
		}
		g.offered = 0
	}
	l.out.take(&l.later, false)
	l.out.flush(l.e.cfg.Send)
	if len(appends) > 0 {
		l.e.appender.inbox.put(appends...)
	}
	if len(applies) > 0 {
		l.e.applier.inbox.put(applies...)
	}
}

func (l *loop) send(g *group, m *raftpb.Message) {
	home := g.home(m.GetTo())
	switch {
	case home == "":
		if m.GetType() == raftpb.MsgSnap {
			g.node.ReportSnapshot(m.GetTo(), raft.SnapshotFailure)
		}
	case m.GetType() == raftpb.MsgSnap:
		l.e.courier.inbox.put(parcel{g: g, home: home, send: m})
	case m.GetType() == raftpb.MsgHeartbeatResp && len(m.Context) == 0:
		// Nobody waits to hear that all is well: it goes with the next thing that does, or with the next tick.
		l.later.add(home, wire(g, m))
	default:
		l.out.add(home, wire(g, m))
	}
}

func wire(g *group, m *raftpb.Message) *peerv1.ShardMessage {
	b, err := proto.Marshal(m)
	must(err)
	return &peerv1.ShardMessage{Shard: uint32(g.id), From: m.GetFrom(), To: m.GetTo(), Body: &peerv1.ShardMessage_Raft{Raft: b}}
}

// homes answers where the responses of an append go that are for other replicas.
func (l *loop) homes(g *group, m *raftpb.Message) []NodeID {
	var homes []NodeID
	for i, r := range m.Responses {
		if r.GetTo() != g.replica {
			if homes == nil {
				homes = make([]NodeID, len(m.Responses))
			}
			homes[i] = g.home(r.GetTo())
		}
	}
	return homes
}

// reconfigure tells raft of the changes of members among committed entries, and answers the members after each.
func (l *loop) reconfigure(g *group, m *raftpb.Message) map[uint64]*Members {
	var after map[uint64]*Members
	for _, entry := range m.Entries {
		if entry.GetType() != raftpb.EntryConfChangeV2 {
			continue
		}
		cc, c, err := decodeChange(entry)
		must(err)
		now := g.members.Load()
		if now.check(cc, c.Added) != nil {
			continue // every replica comes to this
		}
		before := now
		now = before.with(c.Added, g.node.ApplyConfChange(cc))
		g.members.Store(now)
		g.farewell.removed(before, now)
		if l.e.counts.changes.Add(1); now.Joint() {
			l.e.counts.joint.Add(1)
		}
		if after == nil {
			after = map[uint64]*Members{}
		}
		after[entry.GetIndex()] = now
	}
	return after
}

func decodeChange(entry *raftpb.Entry) (*raftpb.ConfChangeV2, *storev1.MemberChange, error) {
	cc, c := &raftpb.ConfChangeV2{}, &storev1.MemberChange{}
	if err := proto.Unmarshal(entry.Data, cc); err != nil {
		return nil, nil, err
	}
	return cc, c, proto.Unmarshal(cc.Context, c)
}

// follow notes who leads a group now.
func (l *loop) follow(g *group, s *raft.SoftState) (out []storageMessage) {
	if old := g.leader.Swap(s.Lead); s.Lead != raft.None && s.Lead != old {
		g.askAgain()
	}
	leads := s.RaftState == raft.StateLeader
	switch {
	case leads && g.leadTerm.Load() == 0:
		g.leadTerm.Store(g.node.BasicStatus().HardState.GetTerm())
		g.farewell.lead()
		g.lookAfter()
	case !leads && g.leadTerm.Load() != 0:
		g.leadTerm.Store(0)
		g.deposed()
		out = append(out, storageMessage{g: g, yield: true})
	}
	if s.Lead != raft.None {
		l.found(g)
	}
	return out
}

// found notes that a start need not wait for a group any more: it has a leader, or is gone.
func (l *loop) found(g *group) {
	if g.hasLead {
		return
	}
	g.hasLead = true
	if g.atOpen && l.e.unready.Add(-1) == 0 {
		close(l.e.ready)
	}
}

// must turns a failure of what lies below into the panic that ends Run: a replica that cannot write
// its log or state must not go on as if it had.
func must(err error) {
	if err != nil {
		panic(&machine.Broken{Err: err})
	}
}
