package jobs

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/wattlehq/wattle/dag"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
)

// Peers are the other nodes.
type Peers interface {
	// Leaders returns those that may lead shards, Workers all that may run something; without this node.
	Leaders() []string
	Workers() []string
	// Pools are the worker pools that this node and the others belong to.
	Pools() []string
	// Acquire asks a node for tasks in the name of a client, and AwaitTasks waits until it may have some.
	Acquire(ctx context.Context, from string, q *peerv1.AcquireRequest) (*peerv1.Grants, error)
	AwaitTasks(ctx context.Context, at string, q *peerv1.AwaitTasksRequest) (bool, error)
	// Running asks the node that leads a shard which tasks of a job there run now. It may be this node.
	Running(ctx context.Context, id shard.ID, job string) ([]*peerv1.RunningTask, error)
	// Send sends messages. It does not block, and they may be lost.
	Send(to string, ms ...*peerv1.WorkMessage)
}

// asks is how many other nodes are asked for work at a time.
const asks = 2

// message is something to be sent.
type message struct {
	to string
	m  *peerv1.WorkMessage
}

// Run tells other nodes what they have to know, gives them what they asked for, wakes retries that are due and ends jobs whose time is
// over. It returns when ctx has ended and every outcome handed to Done is recorded.
func (s *Scheduler) Run(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		r := s.round()
		for _, m := range r.messages {
			s.peers.Send(m.to, m.m)
		}
		for node, grants := range r.grants {
			s.finishing.Go(func() { s.give(ctx, node, grants) })
		}
		for _, id := range r.expired {
			s.finishing.Go(func() {
				_, err := s.propose(ctx, id, &storev1.JobCommand{Change: &storev1.JobCommand_Expire{Expire: &storev1.Expire{}}})
				if err != nil && fault.KindOf(err) != fault.NotFound && ctx.Err() == nil {
					slog.Warn("deadline not recorded", "job", id, "error", err)
				}
			})
		}
		timer.Reset(max(r.wake, time.Millisecond))
		select {
		case <-timer.C:
		case <-s.changed:
		case <-ctx.Done():
			s.finishing.Wait()
			return nil
		}
	}
}

// round is what is to be done now, and how long there is nothing more to do.
type round struct {
	messages []message
	grants   map[string][]dag.Grant
	expired  []dag.JobID
	wake     time.Duration
}

func (s *Scheduler) round() (r round) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	if now.Sub(s.rounded) > asleep {
		s.woke = now
	}
	s.rounded = now
	s.dispatcher.Expire(now)
	for _, e := range s.dispatcher.Overdue(now) {
		s.enqueue(e.Task.Job, e.Finish)
	}
	s.tellAwaiting()
	r.expired = s.dispatcher.Due(now)
	free := s.holder.Free()
	if s.stopping {
		free = 0
	}
	r.grants = map[string][]dag.Grant{}
	for _, g := range s.dispatcher.Grants(now, free) {
		r.grants[g.To] = append(r.grants[g.To], g)
	}
	s.dispatcher.Recall(free)
	s.choose(now)
	if len(s.holder.Adrift()) > 0 {
		s.holder.Search(s.peers.Leaders())
	}
	for node, reply := range s.dispatcher.Replies() {
		r.messages = append(r.messages, message{node, &peerv1.WorkMessage{Body: &peerv1.WorkMessage_Reply{Reply: replyTo(reply)}}})
	}
	reports, at := s.holder.Reports(now)
	for node, report := range reports {
		r.messages = append(r.messages, message{node, &peerv1.WorkMessage{Body: &peerv1.WorkMessage_Report{Report: reportTo(report)}}})
	}
	next := now.Add(dag.BeatTime)
	if !at.IsZero() && at.Before(next) {
		next = at
	}
	if at, ok := s.dispatcher.Wake(now); ok && at.Before(next) {
		next = at
	}
	r.wake = next.Sub(now)
	s.wake()
	return r
}

// choose picks the nodes to ask for work: others than before every now and then, and none while there is enough here. The caller
// holds mu.
func (s *Scheduler) choose(now time.Time) {
	switch {
	case s.stopping || s.cfg.Resting() || s.dispatcher.Ready() > 0:
		s.holder.Ask(nil)
		s.asked = time.Time{}
	case now.Sub(s.asked) >= dag.BeatTime:
		leaders := slices.Clone(s.peers.Leaders())
		rand.Shuffle(len(leaders), func(i, j int) { leaders[i], leaders[j] = leaders[j], leaders[i] })
		s.holder.Ask(leaders[:min(asks, len(leaders))])
		s.asked = now
		s.dispatcher.AskAgain()
	}
}

// give sends a node what it was granted.
func (s *Scheduler) give(ctx context.Context, node string, grants []dag.Grant) {
	attempts := s.handOut(ctx, node, grants)
	s.mu.Lock()
	s.stats.Given += uint64(len(attempts))
	s.mu.Unlock()
	if len(attempts) > 0 {
		s.peers.Send(node, &peerv1.WorkMessage{Body: &peerv1.WorkMessage_Grants{Grants: grantsTo(attempts)}})
	}
}

// handOut makes attempts of what was granted, once the starts are recorded that have to be.
func (s *Scheduler) handOut(ctx context.Context, to string, grants []dag.Grant) []*Attempt {
	picks := make([]pick, len(grants))
	for i, g := range grants {
		picks[i] = pick{g.Pick, g.Start}
	}
	attempts := s.prepare(ctx, picks)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	var given []*Attempt
	for _, a := range attempts {
		switch {
		case s.dispatcher.Granted(now, to, a.Pick):
			given = append(given, a)
		case a.Work.Stage.External:
			s.enqueue(a.Task.Job, released(a.ID())) // it is recorded that a client has it
		}
	}
	s.poke()
	return given
}

// Heard takes what another node said.
func (s *Scheduler) Heard(from string, ms []*peerv1.WorkMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	for _, m := range ms {
		switch b := m.Body.(type) {
		case *peerv1.WorkMessage_Report:
			s.dispatcher.Report(now, from, reportFrom(b.Report))
		case *peerv1.WorkMessage_Reply:
			s.stop(s.holder.Reply(now, from, replyFrom(b.Reply)))
		case *peerv1.WorkMessage_Grants:
			s.given(from, b.Grants)
		}
	}
	s.poke()
}

// given takes attempts that another node gave. The caller holds mu.
func (s *Scheduler) given(from string, g *peerv1.Grants) {
	for _, a := range attemptsFrom(g) {
		if pool := a.Work.Stage.GetPool(); s.stopping || pool != "" && !slices.Contains(s.cfg.Pools, pool) || !s.holder.Given(from, a.Term, a.Pick) {
			continue
		}
		s.attempts[a.ID()] = a
		s.stats.Taken++
	}
}

// Gone says that a node's process is no more.
func (s *Scheduler) Gone(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dispatcher.Gone(node)
	s.poke()
}
