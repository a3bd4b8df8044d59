package shard

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/store"
)

// Bounds of what is on its way. Silence is counted in ticks.
const (
	window       = 4 // chunks that are not confirmed
	maxTransfers = 2 // in each direction
	resendAfter  = 5
	giveUpAfter  = 50
	forgetAfter  = 2 * giveUpAfter // what came in and was not gone on with
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// stagedKey is where a chunk waits for the rest of its snapshot.
func stagedKey(id ID, number uint64, seq uint32) []byte {
	k := binary.BigEndian.AppendUint32(append(make([]byte, 0, 17), 0x04), uint32(id))
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(k, number), seq)
}

// snapshotData is what a snapshot carries through raft: the number under which its pairs are staged, and the members.
func snapshotData(number uint64, members []byte) []byte {
	return append(binary.BigEndian.AppendUint64(nil, number), members...)
}

func snapshotNumber(s *raftpb.Snapshot) uint64 { return binary.BigEndian.Uint64(s.Data) }

func snapshotMembers(s *raftpb.Snapshot) (*Members, error) { return decodeMembers(s.Data[8:]) }

// courier carries whole states of shards to replicas that lack too much to be told the log, chunk by chunk, and takes them
// in. It keeps what arrives aside; only when all of it is durable does raft hear of the snapshot.
type courier struct {
	e     *Engine
	inbox *mailbox[parcel]
	out   []*outgoing
	queue []*outgoing
	in    map[ID]*incoming
	drawn uint64
}

// parcel is work for the courier.
type parcel struct {
	g    *group
	home NodeID // of the other end
	// To send: the message that raft wants to go with the state.
	send *raftpb.Message
	// What came in.
	wire *peerv1.ShardMessage
	tick bool
}

// outgoing is a state on its way to a replica.
type outgoing struct {
	g        *group
	to       uint64
	home     NodeID
	number   uint64
	raft     *raftpb.Message
	state    store.Snapshot
	members  []byte
	ranges   [][2][]byte
	pending  []*peerv1.SnapshotChunk // sent, not confirmed
	sent     uint32
	complete bool // the last one is among them
	welcome  bool // the first one is confirmed
	silent   int
}

// incoming is a state that arrives.
type incoming struct {
	number   uint64
	received uint32          // so many are here, without a gap
	ahead    map[uint32]bool // these as well
	raft     []byte          // what came with the last one
	complete bool
	silent   int
}

func (c *courier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			c.close()
			return
		case <-c.inbox.wake:
			c.turn(c.inbox.take())
		}
	}
}

func (c *courier) close() {
	for _, o := range slices.Concat(c.out, c.queue) {
		o.close()
	}
	c.out, c.queue = nil, nil
}

func (c *courier) turn(ps []parcel) {
	for _, p := range ps {
		switch {
		case p.tick:
			c.tick()
		case p.send != nil:
			c.queue = append(c.queue, &outgoing{g: p.g, to: p.send.GetTo(), home: p.home, raft: p.send})
		case p.wire.GetChunk() != nil:
			c.receive(p)
		case p.wire.GetAck() != nil:
			c.confirmed(p)
		}
	}
	for len(c.queue) > 0 && len(c.out) < maxTransfers {
		o := c.queue[0]
		c.queue = c.queue[1:]
		if c.open(o) {
			c.out = append(c.out, o)
			c.fill(o)
		}
	}
}

// open looks at the state as it is now, which may be newer than what raft asked for.
func (c *courier) open(o *outgoing) bool {
	o.state = c.e.cfg.Store.State.Snapshot()
	var applied storev1.Applied
	b, ok, err := o.state.Get(appliedKey(o.g.id))
	must(err)
	if !ok {
		o.close()
		c.report(o, raft.SnapshotFailure)
		return false
	}
	must(proto.Unmarshal(b, &applied))
	members, ok, err := o.state.Get(membersKey(o.g.id))
	must(err)
	if !ok {
		members, err = o.g.founded.encode()
		must(err)
	}
	m, err := decodeMembers(members)
	must(err)
	if m.Node(o.to) == "" { // its addition is not applied here yet
		o.close()
		c.report(o, raft.SnapshotFailure)
		return false
	}
	c.drawn++
	o.number, o.members = c.e.id>>1+c.drawn, members
	o.raft = proto.Clone(o.raft).(*raftpb.Message)
	o.raft.Snapshot = &raftpb.Snapshot{
		Data:     members,
		Metadata: &raftpb.SnapshotMetadata{Index: &applied.Index, Term: &applied.Term, ConfState: m.conf},
	}
	o.ranges = append(o.ranges, [2][]byte{appliedKey(o.g.id), appliedKey(o.g.id + 1)})
	o.ranges = append(o.ranges, o.g.runs...)
	return true
}

func (o *outgoing) close() {
	if o.state != nil {
		o.state.Close()
		o.state = nil
	}
}

// read cuts the next chunk.
func (o *outgoing) read(most int) *peerv1.SnapshotChunk {
	var pairs peerv1.Pairs
	if o.sent == 0 {
		pairs.Pairs = append(pairs.Pairs, membersKey(o.g.id), o.members)
	}
	size := 0
	for len(o.ranges) > 0 && size < most {
		var err error
		r := o.ranges[0]
		o.ranges = o.ranges[1:]
		for k, v := range o.state.Scan(r[0], r[1], &err) {
			pairs.Pairs = append(pairs.Pairs, slices.Clone(k), slices.Clone(v))
			if size += len(k) + len(v); size >= most {
				o.ranges = append([][2][]byte{{append(slices.Clone(k), 0), r[1]}}, o.ranges...)
				break
			}
		}
		must(err)
	}
	b, err := proto.Marshal(&pairs)
	must(err)
	chunk := &peerv1.SnapshotChunk{Snapshot: o.number, Seq: o.sent, Pairs: b, Checksum: crc32.Checksum(b, castagnoli)}
	if len(o.ranges) == 0 {
		chunk.Raft, err = proto.Marshal(o.raft)
		must(err)
		o.complete = true
	}
	o.sent++
	return chunk
}

// fill sends as much as may be on its way.
// fill sends what there is room for on the way. The first chunk holds next to nothing, and goes alone: it asks whether there is room
// at the other end.
func (c *courier) fill(o *outgoing) {
	for len(o.pending) < window && !o.complete && (o.sent == 0 || o.welcome) {
		size := c.e.cfg.ChunkBytes
		if o.sent == 0 {
			size = 0
		}
		chunk := o.read(size)
		o.pending = append(o.pending, chunk)
		c.send(o, chunk)
	}
}

func (c *courier) send(o *outgoing, chunk *peerv1.SnapshotChunk) {
	c.e.cfg.Send(o.home, []*peerv1.ShardMessage{{
		Shard: uint32(o.g.id), From: o.g.replica, To: o.to, Body: &peerv1.ShardMessage_Chunk{Chunk: chunk},
	}})
}

func (c *courier) confirmed(p parcel) {
	ack := p.wire.GetAck()
	i := slices.IndexFunc(c.out, func(o *outgoing) bool { return o.g == p.g && o.number == ack.Snapshot })
	if i < 0 {
		return
	}
	o := c.out[i]
	if ack.Refused {
		c.finish(o, raft.SnapshotFailure)
		return
	}
	o.welcome = true
	for len(o.pending) > 0 && o.pending[0].Seq < ack.Received {
		o.pending, o.silent = o.pending[1:], 0
	}
	if c.fill(o); len(o.pending) == 0 {
		c.finish(o, raft.SnapshotFinish)
	}
}

func (c *courier) finish(o *outgoing, status raft.SnapshotStatus) {
	o.close()
	c.out = slices.DeleteFunc(c.out, func(x *outgoing) bool { return x == o })
	c.report(o, status)
}

func (c *courier) report(o *outgoing, status raft.SnapshotStatus) {
	if status == raft.SnapshotFinish {
		c.e.counts.sent.Add(1)
	}
	c.e.loop.do(o.g, func() { o.g.node.ReportSnapshot(o.to, status) })
}

func (c *courier) tick() {
	for _, o := range slices.Clone(c.out) {
		switch o.silent++; {
		case o.silent >= giveUpAfter || o.g.removed.Load():
			c.finish(o, raft.SnapshotFailure)
		case o.silent%resendAfter == 0:
			for _, chunk := range o.pending {
				c.send(o, chunk)
			}
		}
	}
	for id, in := range c.in {
		if in.silent++; in.silent >= forgetAfter {
			delete(c.in, id)
		}
	}
}

// receive puts a chunk aside and confirms it.
func (c *courier) receive(p parcel) {
	chunk := p.wire.GetChunk()
	ack := &peerv1.SnapshotAck{Snapshot: chunk.Snapshot}
	defer func() {
		c.e.cfg.Send(p.home, []*peerv1.ShardMessage{{
			Shard: uint32(p.g.id), From: p.g.replica, To: p.wire.From, Body: &peerv1.ShardMessage_Ack{Ack: ack},
		}})
	}()
	in := c.in[p.g.id]
	if in == nil || in.number != chunk.Snapshot {
		// While one that arrived is being put in, no other may take its place.
		if chunk.Seq != 0 || c.arriving(p.g.id) >= maxTransfers || p.g.staged.Load() != 0 {
			ack.Refused = true
			return
		}
		c.discard(p.g.id)
		in = &incoming{number: chunk.Snapshot, ahead: map[uint32]bool{}}
		c.in[p.g.id] = in
	}
	in.silent = 0
	if chunk.Seq >= in.received && chunk.Seq < in.received+window && !in.ahead[chunk.Seq] && !in.complete &&
		crc32.Checksum(chunk.Pairs, castagnoli) == chunk.Checksum {
		b := c.e.cfg.Store.State.NewBatch(false)
		must(b.Set(stagedKey(p.g.id, in.number, chunk.Seq), chunk.Pairs))
		must(b.Commit(false))
		must(b.Close())
		in.ahead[chunk.Seq] = true
		if len(chunk.Raft) > 0 {
			in.raft = chunk.Raft
		}
		for in.ahead[in.received] {
			delete(in.ahead, in.received)
			in.received++
		}
		if in.raft != nil && len(in.ahead) == 0 {
			c.complete(p, in)
		}
	}
	ack.Received = in.received
}

// arriving counts the states of other shards that are not here as a whole yet.
func (c *courier) arriving(but ID) (n int) {
	for id, in := range c.in {
		if id != but && !in.complete {
			n++
		}
	}
	return n
}

// complete tells raft of a snapshot whose pairs are all here, and durable.
func (c *courier) complete(p parcel, in *incoming) {
	in.complete = true
	must(c.e.cfg.Store.State.Flush())
	m := &raftpb.Message{}
	if err := proto.Unmarshal(in.raft, m); err != nil || m.Snapshot == nil {
		return // raft asks again
	}
	if _, err := decodeMembers(m.Snapshot.Data); err != nil {
		return
	}
	m.Snapshot.Data = snapshotData(in.number, m.Snapshot.Data)
	p.g.staged.Store(in.number)
	c.e.loop.inbox.put(inMessage{g: p.g, m: m})
}

// discard removes what was put aside for a shard.
func (c *courier) discard(id ID) {
	b := c.e.cfg.Store.State.NewBatch(false)
	defer b.Close()
	must(b.DeleteRange(stagedKey(id, 0, 0), stagedKey(id+1, 0, 0)))
	must(b.Commit(false))
}

// install puts what was staged in the place of a shard's state, and answers where that stands.
func install(b store.Batch, state store.DB, g *group, number uint64) (*storev1.Applied, error) {
	for _, r := range g.runs {
		if err := b.DeleteRange(r[0], r[1]); err != nil {
			return nil, err
		}
	}
	var applied storev1.Applied
	var scanErr error
	for _, v := range state.Scan(stagedKey(g.id, number, 0), stagedKey(g.id, number+1, 0), &scanErr) {
		var pairs peerv1.Pairs
		if err := proto.Unmarshal(v, &pairs); err != nil {
			return nil, damaged(state, "a received snapshot", err)
		}
		for i := 0; i+1 < len(pairs.Pairs); i += 2 {
			k, v := pairs.Pairs[i], pairs.Pairs[i+1]
			if bytes.Equal(k, appliedKey(g.id)) {
				if err := proto.Unmarshal(v, &applied); err != nil {
					return nil, damaged(state, "a received snapshot", err)
				}
				continue
			}
			if err := b.Set(k, v); err != nil {
				return nil, err
			}
		}
	}
	if scanErr != nil {
		return nil, scanErr
	}
	if applied.Index == 0 {
		return nil, damaged(state, "a received snapshot", fmt.Errorf("%x of shard %d has no position", number, g.id))
	}
	applied.Replica = g.replica
	return &applied, setProto(b, appliedKey(g.id), &applied)
}
