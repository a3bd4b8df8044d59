package shard

import (
	"context"
	"encoding/binary"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/store"
)

// storageMessage is work of a group for the appender or the applier.
type storageMessage struct {
	g *group
	m *raftpb.Message
	// For the appender: where each of the responses goes; nothing means to this replica, or nowhere.
	homes []NodeID
	// The replica is no more: its log goes, and then its state.
	retire bool
	// For the appender, without a group: it is time to look at the logs' lengths.
	look bool
	// For the applier, without m.
	yield   bool   // the group stopped leading
	install uint64 // the snapshot to put in
	// For the applier, with m: the members after each change among the entries.
	members map[uint64]*Members
}

// appender is the only one to write the log store: what all groups have to append becomes one batch with one sync.
type appender struct {
	e     *Engine
	inbox *mailbox[storageMessage]

	// Appended since the logs' lengths were last looked at.
	entries uint64
	bytes   int64
	look    bool
}

func (a *appender) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.inbox.wake:
			a.turn(a.inbox.take())
		}
	}
}

func (a *appender) turn(all []storageMessage) {
	if len(all) == 0 {
		return
	}
	b := a.e.cfg.Store.Log.NewBatch(false)
	defer b.Close()
	sync := false
	ms := all[:0:0]
	for _, m := range all {
		if m.look {
			a.look = true
			continue
		}
		if m.g.ended {
			continue
		}
		ms = append(ms, m)
		if m.retire {
			must(m.g.log.retire(b))
			m.g.ended, sync = true, true
			continue
		}
		before := m.g.log.bytes
		if n := len(m.m.Entries); n > 0 && m.m.Entries[0].GetIndex() <= m.g.log.last && m.m.Snapshot == nil {
			a.e.counts.truncated.Add(1)
		}
		s, err := m.g.log.write(b, m.m)
		must(err)
		sync = sync || s
		a.entries += uint64(len(m.m.Entries))
		a.bytes += max(m.g.log.bytes-before, 0)
	}
	settled := a.trim(b)
	sync = sync || len(settled) > 0
	must(b.Commit(sync))
	if sync {
		a.e.counts.syncs.Add(1)
	}
	for _, g := range settled {
		a.e.courier.discard(g.id)
		g.staged.Store(0)
	}
	var replies []inMessage
	var out outbox
	for _, m := range ms {
		if m.retire {
			a.e.applier.inbox.put(m)
			continue
		}
		must(m.g.log.settle(m.m))
		if m.m.Snapshot != nil {
			// Before raft hears of it: nothing is applied until the state it follows is there.
			a.e.applier.inbox.put(storageMessage{g: m.g, install: snapshotNumber(m.m.Snapshot)})
		}
		for i, r := range m.m.Responses {
			if r.GetTo() == m.g.replica {
				replies = append(replies, inMessage{g: m.g, m: r})
			} else if m.homes[i] != "" {
				out.add(m.homes[i], wire(m.g, r))
			}
		}
	}
	out.flush(a.e.cfg.Send)
	a.e.loop.inbox.put(replies...)
}

// trim drops the beginning of logs that have grown long, up to what the state store would still have after a crash, and
// what followers that are there still need. Looking costs a read of the state store for all shards together, so it happens
// a few times while a log fills, not on every turn. It returns the groups whose snapshot is put in for good.
func (a *appender) trim(b store.Batch) (settled []*group) {
	if a.entries < a.e.cfg.TrimEntries/4 && a.bytes < a.e.cfg.TrimBytes/4 && !a.look {
		return nil
	}
	a.entries, a.bytes, a.look = 0, 0, false
	durable := a.readDurable()
	flush := false
	total := int64(0)
	all := a.e.all()
	for _, g := range all {
		total += g.log.bytes
	}
	for _, g := range all {
		if g.log.head.Installing != 0 {
			if durable[g.id] < g.log.head.Index {
				flush = true
				continue
			}
			g.log.head.Installing = 0
			must(setProto(b, headKey(g.id), g.log.head))
			settled = append(settled, g)
		}
		length := g.log.last - g.log.head.Index
		long := length > a.e.cfg.TrimEntries || g.log.bytes > a.e.cfg.TrimBytes
		// Many logs that are not long are too much together.
		if !long && (total <= maxLogBytes || g.log.bytes == 0) {
			continue
		}
		to := durable[g.id]
		// A follower that is there but far behind is sent the state in the end.
		if length < lagging*a.e.cfg.TrimEntries && g.log.bytes < lagging*a.e.cfg.TrimBytes {
			to = min(to, g.needed())
		}
		if to > g.log.head.Index {
			a.e.counts.trimmed.Add(to - g.log.head.Index)
			must(g.log.trim(b, to))
		}
		// Still long: what it holds was applied but not flushed.
		flush = flush || total > maxLogBytes || g.log.last-g.log.head.Index > a.e.cfg.TrimEntries/2 || g.log.bytes > a.e.cfg.TrimBytes/2
	}
	if flush {
		must(a.e.cfg.Store.State.AsyncFlush())
	}
	return settled
}

// maxLogBytes bounds the entries of all shards together, which are kept in memory, loosely.
const maxLogBytes = 64 << 20

// lagging is how many times longer a log may get while a follower needs it.
const lagging = 4

func (a *appender) readDurable() map[ID]uint64 {
	durable := map[ID]uint64{}
	var err error
	for k, v := range a.e.cfg.Store.State.ScanDurable([]byte{0x01}, []byte{0x02}, &err) {
		var p storev1.Applied
		must(proto.Unmarshal(v, &p))
		id := ID(binary.BigEndian.Uint32(k[1:]))
		if g := a.e.group(id); g != nil && (p.Replica == 0 || p.Replica == g.replica) {
			durable[id] = p.Index
		}
	}
	must(err)
	return durable
}
