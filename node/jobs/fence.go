package jobs

import (
	"context"
	"time"

	"github.com/wattlehq/wattle/dag"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/machine"
)

// fenced lets an attempt act on the world outside only while it is known to count. A node that was paused, or cut off, for longer than
// a lease may have been replaced and not know it yet: what it computes then does no harm, since its outcome is refused, but a request
// would be made twice.
type fenced struct {
	host.Capabilities
	counts func(context.Context) error
}

func (f fenced) HTTP(ctx context.Context, r *host.HTTPRequest) (*host.HTTPResponse, error) {
	if err := f.counts(ctx); err != nil {
		return nil, err
	}
	return f.Capabilities.HTTP(ctx, r)
}

func (f fenced) Invoke(ctx context.Context, r *host.Invocation) ([]byte, error) {
	if err := f.counts(ctx); err != nil {
		return nil, err
	}
	return f.Capabilities.Invoke(ctx, r)
}

// asleep is a time between two rounds after which this process counts as one that was stopped.
const asleep = 2 * dag.BeatTime

// doubt is how long an attempt waits before it asks again whether it counts.
const doubt = 20 * time.Millisecond

// Counts returns once it is known that an attempt counts, which is at once as a rule. The error is that of ctx, which ends when it does not.
func (s *Scheduler) Counts(ctx context.Context, a *Attempt) error {
	for {
		s.mu.Lock()
		now := s.cfg.Now()
		woke := s.woke
		if now.Sub(s.rounded) > asleep {
			woke = now // the round that finds out is still to come
		}
		valid := s.holder.Valid(now, a.ID())
		s.mu.Unlock()
		if valid && a.confirmed.After(woke) {
			return nil
		}
		// What this node leads it may lead no more: those who do are asked. Where others lead, their next reply tells.
		if valid && s.confirm(ctx, a) {
			a.confirmed = now
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(doubt):
		}
	}
}

// confirm tells whether an attempt is the recorded one, as the leader of its shard has it.
func (s *Scheduler) confirm(ctx context.Context, a *Attempt) bool {
	return s.shards.Read(ctx, Slot(a.Task.Job), machine.Jobs, func(r machine.Reader) error {
		return dag.ReadWorks(r, a.Task.Job).Current(a.Pick)
	}) == nil
}
