package shard

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

// applier is the only one to write the shards' state: it runs the machines over what is committed.
type applier struct {
	e     *Engine
	inbox *mailbox[storageMessage]
	hash  xxhash.Digest
}

func (a *applier) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.inbox.wake:
			for ms := range slices.Chunk(a.inbox.take(), 64) {
				a.turn(ms)
			}
		}
	}
}

// outcome is what applying the entries of one message has led to.
type outcome struct {
	term    uint64 // of the last entry in a snapshot that was put in
	last    *raftpb.Entry
	effects []machine.Effect
	answers []func()
}

// turn applies the entries of some messages in one unsynced batch, then tells everybody.
func (a *applier) turn(ms []storageMessage) {
	b := a.e.cfg.Store.State.NewBatch(true)
	defer b.Close()
	outcomes := make([]outcome, len(ms))
	for i, m := range ms {
		switch {
		case m.retire:
			a.drop(b, m.g)
		case m.g.dropped:
		case m.install != 0:
			outcomes[i].term = a.install(b, m.g, m.install)
		case m.m != nil:
			outcomes[i] = a.applyAll(b, m)
		}
	}
	must(b.Commit(false))

	var replies []inMessage
	for i, m := range ms {
		g := m.g
		switch {
		case m.retire || m.yield:
			g.resumed = 0
			a.e.cfg.Sink.Yield(g.id)
		case g.dropped:
		case m.install != 0:
			// Not before it is in the state: reads that wait for it look there.
			g.stands.Store(&stand{g.position, g.hash})
			g.caughtUp.Store(outcomes[i].term)
			a.e.counts.installed.Add(1)
			a.e.cfg.Sink.Installed(g.id)
			g.overtaken(g.caughtUp.Load()+1, errLeaderLost(g.id)) // it may have brought their commands
			g.wakeReads()
		default:
			a.tell(g, &outcomes[i])
			for _, r := range m.m.Responses {
				replies = append(replies, inMessage{g: g, m: r})
			}
		}
	}
	a.e.loop.inbox.put(replies...)
}

func (a *applier) applyAll(b store.Batch, m storageMessage) (o outcome) {
	g := m.g
	for _, entry := range m.m.Entries {
		o.last = entry
		if entry.GetIndex() <= g.position {
			continue // a snapshot brought it
		}
		if entry.GetIndex() <= g.atStart {
			a.e.counts.replayed.Add(1)
		}
		if members := m.members[entry.GetIndex()]; members != nil {
			v, err := members.encode()
			must(err)
			must(b.Set(membersKey(g.id), v))
		}
		effects, answers := a.apply(b, g, entry)
		o.effects = append(o.effects, effects...)
		o.answers = append(o.answers, answers...)
		g.position = entry.GetIndex()
	}
	if o.last.GetIndex() == g.position {
		must(setProto(b, appliedKey(g.id), &storev1.Applied{Index: o.last.GetIndex(), Term: o.last.GetTerm(), Hash: g.hash, Replica: g.replica}))
	}
	return o
}

// tell lets those know who wait for entries, or act on them.
func (a *applier) tell(g *group, o *outcome) {
	g.stands.Store(&stand{g.position, g.hash})
	later := g.caughtUp.Swap(o.last.GetTerm()) != o.last.GetTerm()
	g.wakeReads()
	lead := g.leadTerm.Load()
	a.e.cfg.Sink.Applied(g.id, min(lead, g.resumed), o.effects)
	for _, f := range o.answers {
		f()
	}
	if later {
		g.overtaken(o.last.GetTerm(), g.errNoLeader())
	}
	if lead != 0 && o.last.GetTerm() == lead && g.resumed != lead {
		g.resumed = lead
		a.lead(g, lead)
	}
}

// install puts a snapshot in the place of everything there was.
func (a *applier) install(b store.Batch, g *group, number uint64) (term uint64) {
	applied, err := install(b, a.e.cfg.Store.State, g, number)
	must(err)
	g.position, g.hash = applied.Index, applied.Hash
	return applied.Term
}

// drop removes the state of a replica that is no more.
func (a *applier) drop(b store.Batch, g *group) {
	g.dropped = true
	for _, r := range g.runs {
		must(b.DeleteRange(r[0], r[1]))
	}
	must(b.Delete(appliedKey(g.id)))
	must(b.Delete(membersKey(g.id)))
}

// lead derives what the state of a shard calls for.
func (a *applier) lead(g *group, term uint64) {
	s := a.e.cfg.Store.State.Snapshot()
	defer s.Close()
	var effects []machine.Effect
	for slot := range usedSlots(s, g.runs) {
		for id, m := range a.e.machines() {
			must(readSlot(s, slot, id, func(r machine.Reader) error {
				effects = append(effects, m.Resume(r)...)
				return nil
			}))
		}
	}
	a.e.cfg.Sink.Lead(g.id, term, effects)
}

// apply runs the commands of one entry and returns their effects and what there is to tell their proposers.
func (a *applier) apply(b store.Batch, g *group, entry *raftpb.Entry) (effects []machine.Effect, answers []func()) {
	a.hash.Reset()
	var at [24]byte
	binary.BigEndian.PutUint64(at[:], g.hash)
	binary.BigEndian.PutUint64(at[8:], entry.GetIndex())
	binary.BigEndian.PutUint64(at[16:], entry.GetTerm())
	_, _ = a.hash.Write(at[:])
	defer func() { g.hash = a.hash.Sum64() }()
	switch entry.GetType() {
	case raftpb.EntryNormal:
	case raftpb.EntryConfChangeV2:
		return nil, a.settleChange(g, entry)
	default:
		must(fmt.Errorf("entry %d of shard %d has type %v, which this release does not know", entry.GetIndex(), g.id, entry.GetType()))
	}
	if len(entry.Data) == 0 {
		return nil, nil // the first entry of a leader's term, or a farewell
	}
	var batch storev1.Batch
	if err := proto.Unmarshal(entry.Data, &batch); err != nil {
		must(fmt.Errorf("entry %d of shard %d: %w", entry.GetIndex(), g.id, err))
	}
	mine := false
	for _, p := range batch.Proposals {
		m := a.e.cfg.Machines[machine.ID(p.Machine)]
		if m == nil {
			must(fmt.Errorf("entry %d of shard %d is for machine %d, which this release does not have", entry.GetIndex(), g.id, p.Machine))
		}
		tx := &tx{slotReader: slotReader{r: b, prefix: slotPrefix(machine.Slot(p.Slot), machine.ID(p.Machine))}, b: b, hash: &a.hash}
		res, eff := m.Apply(tx, machine.Command{
			Index: entry.GetIndex(), Term: entry.GetTerm(), Time: time.Unix(0, batch.Time), Body: p.Body,
		})
		effects = append(effects, eff...)
		if p.Proposer != a.e.id {
			continue
		}
		mine = true
		if w := g.take(p.Seq); w != nil {
			answers = append(answers, func() { w.done(res, nil) })
		}
	}
	if mine {
		g.mu.Lock()
		g.inflight = max(g.inflight-1, 0)
		g.mu.Unlock()
	}
	return effects, answers
}

// settleChange answers who asked for a change of the members. The loop has carried it out.
func (a *applier) settleChange(g *group, entry *raftpb.Entry) []func() {
	_, c, err := decodeChange(entry)
	must(err)
	if c.Proposer != a.e.id {
		return nil
	}
	w := g.take(c.Seq)
	if w == nil {
		return nil
	}
	return []func(){func() { w.done(machine.Result{}, nil) }}
}
