package shard

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"go.etcd.io/raft/v3"
)

// ask turns the queued reads into one question to the quorum, which a follower asks through its leader.
func (g *group) ask() {
	g.mu.Lock()
	reads, lead := g.reads, g.leadTerm.Load()
	// A new leader knows what was acknowledged before its term only once an entry of its own is committed. raft waits for
	// that itself, but not where there is a single voter.
	if len(reads) > 0 && g.members.Load().Next() == 1 {
		// It has yet to be told who its members are, and would not take an answer of theirs.
		g.reads = nil
		g.mu.Unlock()
		for _, r := range reads {
			r(errNoReplica(g.id))
		}
		return
	}
	if len(reads) == 0 || g.early() || lead != 0 && g.caughtUp.Load() != lead {
		g.mu.Unlock()
		return
	}
	g.reads = nil
	if g.leader.Load() == 0 {
		g.mu.Unlock()
		err := g.errNoLeader()
		for _, r := range reads {
			r(err)
		}
		return
	}
	g.question++
	g.asked[g.question] = asked{reads, g.ticks}
	// Answers find the way back by the replica they are for, but not by when it was started.
	ctx := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, g.e.id), g.question)
	g.mu.Unlock()
	g.node.ReadIndex(ctx)
}

// askAgain takes back the questions that are on their way: whoever was asked leads no longer, and may be gone. A later answer is as
// good; one to the question that was first is nobody's any more.
func (g *group) askAgain() {
	g.mu.Lock()
	defer g.mu.Unlock()
	var again []func(error)
	for _, q := range sortedKeys(g.asked) {
		again = append(again, g.asked[q].reads...)
	}
	clear(g.asked)
	g.reads = append(again, g.reads...)
}

// settleReads takes the quorum's answers: the index that each question's reads must wait for.
func (g *group) settleReads(states []raft.ReadState) {
	g.mu.Lock()
	for _, s := range states {
		if len(s.RequestCtx) != 16 || binary.BigEndian.Uint64(s.RequestCtx) != g.e.id {
			continue
		}
		q := binary.BigEndian.Uint64(s.RequestCtx[8:])
		if a, ok := g.asked[q]; ok {
			g.awaited = append(g.awaited, awaited{s.Index, a.reads})
			delete(g.asked, q)
		}
	}
	g.mu.Unlock()
	g.wakeReads()
}

// wakeReads answers the reads whose index is applied.
func (g *group) wakeReads() {
	g.mu.Lock()
	applied := g.stands.Load().index
	var due []func(error)
	keep := g.awaited[:0]
	for _, a := range g.awaited {
		if a.index > applied {
			keep = append(keep, a)
			continue
		}
		due = append(due, a.done...)
	}
	clear(g.awaited[len(keep):])
	g.awaited = keep
	g.mu.Unlock()
	for _, d := range due {
		d(nil)
	}
}

// expire gives up what has waited for long: the question or its answer may be lost.
func (g *group) expire() {
	g.ticks++
	g.mu.Lock()
	if len(g.asked)+len(g.waiting) == 0 { // as in most groups at most ticks
		g.mu.Unlock()
		return
	}
	var late []func(error)
	var lost []*waiter
	for _, q := range sortedKeys(g.asked) {
		if a := g.asked[q]; g.ticks-a.tick > readTicks {
			late = append(late, a.reads...)
			delete(g.asked, q)
		}
	}
	for _, seq := range sortedKeys(g.waiting) {
		if w := g.waiting[seq]; w.expires != 0 && g.ticks > w.expires {
			lost = append(lost, w)
			delete(g.waiting, seq)
		}
	}
	g.mu.Unlock()
	for _, r := range late {
		r(errNoLeader(g.id))
	}
	reply(lost, errLeaderLost(g.id))
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
