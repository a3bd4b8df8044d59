package shard

import (
	"context"
	"slices"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/wattlehq/wattle/internal/machine"
)

// loop is the only one to touch the raft nodes: it feeds them what came in and passes on what they want done.
type loop struct {
	e     *Engine
	inbox *mailbox[inMessage]
}

func (l *loop) run(ctx context.Context) {
	tick := time.NewTicker(l.e.cfg.Tick)
	defer tick.Stop()
	for _, g := range l.e.groups {
		if g.soleVoter() {
			must(g.node.Campaign())
		}
	}
	l.turn(l.e.groups)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, g := range l.e.groups {
				g.node.Tick()
			}
			l.receive()
			l.turn(l.e.groups)
		case <-l.inbox.wake:
			l.turn(l.receive())
		}
	}
}

// receive feeds the nodes what is in the inbox and returns the groups it was for.
func (l *loop) receive() []*group {
	var dirty []*group
	for _, m := range l.inbox.take() {
		if m.m != nil {
			// An error here is a message that no longer fits, which raft wants dropped.
			_ = m.g.node.Step(m.m)
		}
		if !slices.Contains(dirty, m.g) {
			dirty = append(dirty, m.g)
		}
	}
	return dirty
}

// turn proposes what is queued in the groups and hands their output to the appender and the applier.
func (l *loop) turn(groups []*group) {
	var appends, applies []storageMessage
	for _, g := range groups {
		g.propose()
		g.ask()
		for g.node.HasReady() {
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
			for _, m := range rd.Messages {
				switch m.GetTo() {
				case raft.LocalAppendThread:
					appends = append(appends, storageMessage{g: g, m: m})
				case raft.LocalApplyThread:
					applies = append(applies, storageMessage{g: g, m: m})
				default:
					l.e.cfg.Send(g.id, m)
				}
			}
			// What became a leader just now can take what was waiting for one.
			g.propose()
			g.ask()
		}
	}
	if len(appends) > 0 {
		l.e.appender.inbox.put(appends...)
	}
	if len(applies) > 0 {
		l.e.applier.inbox.put(applies...)
	}
}

// follow notes who leads a group now.
func (l *loop) follow(g *group, s *raft.SoftState) (out []storageMessage) {
	leads := s.RaftState == raft.StateLeader
	switch {
	case leads && g.leadTerm.Load() == 0:
		g.leadTerm.Store(g.node.BasicStatus().HardState.GetTerm())
	case !leads && g.leadTerm.Load() != 0:
		g.leadTerm.Store(0)
		g.fail(errNotLeader(g.id))
		out = append(out, storageMessage{g: g, yield: true})
	}
	if s.Lead != raft.None && !g.hasLead {
		g.hasLead = true
		if l.e.unready.Add(-1) == 0 {
			close(l.e.ready)
		}
	}
	return out
}

// must turns a failure of what lies below into the panic that ends Run: a replica that cannot write
// its log or state must not go on as if it had.
func must(err error) {
	if err != nil {
		panic(&machine.Broken{Err: err})
	}
}
