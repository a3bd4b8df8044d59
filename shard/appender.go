package shard

import (
	"context"
	"encoding/binary"
	"sync/atomic"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/store"
)

// storageMessage is work of a group for the appender or the applier.
type storageMessage struct {
	g *group
	m *raftpb.Message
	// For the applier only, without m: the group stopped leading.
	yield bool
}

// appender is the only one to write the log store: what all groups have to append becomes one batch with one sync.
type appender struct {
	e     *Engine
	inbox *mailbox[storageMessage]

	// Appended since the logs' lengths were last looked at.
	entries uint64
	bytes   int64

	trimmed, syncs atomic.Uint64
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

func (a *appender) turn(ms []storageMessage) {
	if len(ms) == 0 {
		return
	}
	b := a.e.cfg.Store.Log.NewBatch(false)
	defer b.Close()
	sync := false
	for _, m := range ms {
		before := m.g.log.bytes
		s, err := m.g.log.write(b, m.m)
		must(err)
		sync = sync || s
		a.entries += uint64(len(m.m.Entries))
		a.bytes += m.g.log.bytes - before
	}
	a.trim(b)
	must(b.Commit(sync))
	if sync {
		a.syncs.Add(1)
	}
	var replies []inMessage
	for _, m := range ms {
		must(m.g.log.settle(m.m))
		for _, r := range m.m.Responses {
			if r.GetTo() == a.e.cfg.Replica {
				replies = append(replies, inMessage{m.g, r})
			} else {
				a.e.cfg.Send(m.g.id, r)
			}
		}
	}
	a.e.loop.inbox.put(replies...)
}

// trim drops the beginning of logs that have grown long, up to what the state store would still have after a crash.
// Looking costs a read of the state store for all shards together, so it happens a few times while a log fills, not on
// every turn.
func (a *appender) trim(b *store.Batch) {
	if a.entries < a.e.cfg.TrimEntries/4 && a.bytes < a.e.cfg.TrimBytes/4 {
		return
	}
	a.entries, a.bytes = 0, 0
	durable := a.readDurable()
	flush := false
	total := int64(0)
	for _, g := range a.e.groups {
		total += g.log.bytes
	}
	for _, g := range a.e.groups {
		long := g.log.last-g.log.head.Index > a.e.cfg.TrimEntries || g.log.bytes > a.e.cfg.TrimBytes
		// Many logs that are not long are too much together.
		if !long && (total <= maxLogBytes || g.log.bytes == 0) {
			continue
		}
		if d := durable[g.id]; d > g.log.head.Index {
			a.trimmed.Add(d - g.log.head.Index)
			must(g.log.trim(b, d))
		}
		// Still long: what it holds was applied but not flushed.
		flush = flush || total > maxLogBytes || g.log.last-g.log.head.Index > a.e.cfg.TrimEntries/2 || g.log.bytes > a.e.cfg.TrimBytes/2
	}
	if flush {
		must(a.e.cfg.Store.State.AsyncFlush())
	}
}

// maxLogBytes bounds the entries of all shards together, which are kept in memory, loosely.
const maxLogBytes = 64 << 20

func (a *appender) readDurable() map[ID]uint64 {
	durable := map[ID]uint64{}
	var err error
	for k, v := range a.e.cfg.Store.State.ScanDurable([]byte{0x01}, []byte{0x02}, &err) {
		var p storev1.Applied
		must(proto.Unmarshal(v, &p))
		durable[ID(binary.BigEndian.Uint32(k[1:]))] = p.Index
	}
	must(err)
	return durable
}
