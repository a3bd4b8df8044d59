package shard

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

// applier is the only one to write the state store: it runs the machines over what is committed.
type applier struct {
	e        *Engine
	inbox    *mailbox[storageMessage]
	replayed atomic.Uint64
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

// turn applies the entries of some messages in one unsynced batch, then tells everybody.
func (a *applier) turn(ms []storageMessage) {
	b := a.e.cfg.Store.State.NewBatch(true)
	defer b.Close()
	type outcome struct {
		effects []machine.Effect
		answers []func()
	}
	outcomes := make([]outcome, len(ms))
	for i, m := range ms {
		if m.m == nil {
			continue
		}
		o := &outcomes[i]
		for _, entry := range m.m.Entries {
			if entry.GetIndex() <= m.g.atStart {
				a.replayed.Add(1)
			}
			effects, answers := a.apply(b, m.g, entry)
			o.effects = append(o.effects, effects...)
			o.answers = append(o.answers, answers...)
		}
		last := m.m.Entries[len(m.m.Entries)-1]
		v, err := proto.Marshal(&storev1.Applied{Index: last.GetIndex(), Term: last.GetTerm()})
		must(err)
		must(b.Set(appliedKey(m.g.id), v))
	}
	must(b.Commit(false))

	var replies []inMessage
	for i, m := range ms {
		g := m.g
		if m.yield {
			g.resumed = 0
			a.e.cfg.Sink.Yield(g.id)
			continue
		}
		last := m.m.Entries[len(m.m.Entries)-1]
		g.mu.Lock()
		g.applied.Store(last.GetIndex())
		g.caughtUp.Store(last.GetTerm())
		g.wakeReads()
		g.mu.Unlock()
		lead := g.leadTerm.Load()
		a.e.cfg.Sink.Applied(g.id, min(lead, g.resumed), outcomes[i].effects)
		for _, f := range outcomes[i].answers {
			f()
		}
		if lead != 0 && last.GetTerm() == lead && g.resumed != lead {
			g.resumed = lead
			a.lead(g, lead)
		}
		for _, r := range m.m.Responses {
			replies = append(replies, inMessage{g, r})
		}
	}
	a.e.loop.inbox.put(replies...)
}

// lead derives what the state of a shard calls for.
func (a *applier) lead(g *group, term uint64) {
	s := a.e.cfg.Store.State.Snapshot()
	defer s.Close()
	var effects []machine.Effect
	for id, m := range a.e.machines() {
		for _, slot := range g.slots {
			must(readSlot(s, slot, id, func(r machine.Reader) error {
				effects = append(effects, m.Resume(r)...)
				return nil
			}))
		}
	}
	a.e.cfg.Sink.Lead(g.id, term, effects)
}

// apply runs the commands of one entry and returns their effects and what there is to tell their proposers.
func (a *applier) apply(b *store.Batch, g *group, entry *raftpb.Entry) (effects []machine.Effect, answers []func()) {
	if entry.GetType() != raftpb.EntryNormal {
		must(fmt.Errorf("entry %d of shard %d has type %v, which this release does not know", entry.GetIndex(), g.id, entry.GetType()))
	}
	if len(entry.Data) == 0 {
		return nil, nil // the first entry of a leader's term
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
		tx := &tx{slotReader: slotReader{r: b, prefix: slotPrefix(machine.Slot(p.Slot), machine.ID(p.Machine))}, b: b}
		res, eff := m.Apply(tx, machine.Command{
			Index: entry.GetIndex(), Term: entry.GetTerm(), Time: time.Unix(0, batch.Time), Body: p.Body,
		})
		effects = append(effects, eff...)
		if p.Proposer != a.e.id {
			continue
		}
		mine = true
		if w := g.take(p.Seq); w != nil {
			answers = append(answers, func() { w.done <- answer{result: res} })
		}
	}
	if mine {
		g.mu.Lock()
		g.inflight = max(g.inflight-1, 0)
		g.mu.Unlock()
	}
	return effects, answers
}
