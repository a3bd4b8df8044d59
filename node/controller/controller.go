// Package controller keeps every shard's replicas where they should be: it watches which nodes there are and what they hold,
// asks package placement what to change next, and has the leaders of the shards change it.
//
// Every node runs one; the one on the node that leads the first shard acts. It keeps nothing: what is under way shows in the
// shards themselves, so another one can go on at any moment, and two at once ask for the same.
package controller

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/wattlehq/wattle/cluster"
	"github.com/wattlehq/wattle/internal/fault"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/placement"
)

// DefaultReplicas is how many a shard has where there are nodes enough.
const DefaultReplicas = 3

// Nodes carries out what is decided, on any node.
type Nodes interface {
	Replicas(ctx context.Context, node shard.NodeID) (*peerv1.GetReplicasResponse, error)
	Change(ctx context.Context, node shard.NodeID, id shard.ID, steps []*peerv1.MemberStep) error
	Transfer(ctx context.Context, node shard.NodeID, id shard.ID, to uint64) error
	Retire(ctx context.Context, node shard.NodeID, id shard.ID, replica uint64) error
}

// Config is what a Controller needs. Fields without a default must be set.
type Config struct {
	Nodes Nodes
	// Members returns who is there.
	Members func() []cluster.Member
	// Acts tells whether this node leads the first shard.
	Acts func() bool
	// Want is how many replicas a shard should have; DefaultReplicas by default.
	Want int
	// Grace is how long a node may be silent before its replicas are replaced; 5 minutes by default.
	Grace time.Duration
	// Interval is the time between two looks; 1 second by default.
	Interval time.Duration
}

// Controller is a node's.
type Controller struct {
	cfg      Config
	observer observer
}

// New makes a Controller and starts nothing.
func New(cfg Config) *Controller {
	if cfg.Want == 0 {
		cfg.Want = DefaultReplicas
	}
	if cfg.Grace == 0 {
		cfg.Grace = 5 * time.Minute
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	return &Controller{cfg: cfg, observer: observer{grace: cfg.Grace, missing: map[shard.NodeID]time.Time{}}}
}

// How long one question may take, and one change.
const askTimeout, changeTimeout = 2 * time.Second, 5 * time.Second

// soon is the time between two looks while something is under way.
const soon = 100 * time.Millisecond

// Run looks and acts until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	next := time.NewTimer(soon)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		wait := c.cfg.Interval
		if c.cfg.Acts() && c.round(ctx) {
			wait = min(wait, soon)
		}
		next.Reset(wait)
	}
}

// round looks once and carries out what comes of it. It tells whether anything is under way.
func (c *Controller) round(ctx context.Context) bool {
	members := c.cfg.Members()
	p := c.observer.look(time.Now(), members, c.ask(ctx, members), c.cfg.Want)
	moves := placement.Next(p.view, placement.Limits{Incoming: 8})
	var wg sync.WaitGroup
	act := func(what string, f func(context.Context) error) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, changeTimeout)
			defer cancel()
			switch err := f(ctx); {
			case err == nil:
				slog.Debug("placement", "move", what)
			case fault.Reason(err) != "bad_change" && fault.Reason(err) != "no_leader" && ctx.Err() == nil:
				slog.Warn("placement", "move", what, "error", err)
			}
		})
	}
	for _, s := range p.strays {
		act("retire", func(ctx context.Context) error { return c.cfg.Nodes.Retire(ctx, s.node, s.shard, s.replica) })
	}
	for _, m := range moves {
		id := shard.ID(m.Shard)
		act(m.String(), func(ctx context.Context) error {
			if m.Kind == placement.TransferLeader {
				return c.cfg.Nodes.Transfer(ctx, p.leaders[id], id, uint64(m.Replica))
			}
			return c.cfg.Nodes.Change(ctx, p.leaders[id], id, steps(m))
		})
	}
	wg.Wait()
	return len(moves) > 0 || slices.ContainsFunc(p.view.Shards, func(s placement.Shard) bool {
		return s.Changing || slices.ContainsFunc(s.Replicas, func(r placement.Replica) bool { return !r.Voter })
	})
}

// ask asks all nodes that seem to be there what they hold.
func (c *Controller) ask(ctx context.Context, members []cluster.Member) []report {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	reports := make([]report, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		reports[i].node = shard.NodeID(m.ID)
		if m.Status == cluster.Left || m.Status == cluster.Failed {
			continue
		}
		wg.Go(func() {
			if r, err := c.cfg.Nodes.Replicas(ctx, reports[i].node); err == nil {
				reports[i].replicas = r
			}
		})
	}
	wg.Wait()
	return reports
}

func steps(m placement.Move) (all []*peerv1.MemberStep) {
	if m.Kind == placement.AddLearner {
		return []*peerv1.MemberStep{{Step: &peerv1.MemberStep_Add{Add: string(m.Node)}}}
	}
	for _, r := range m.Promote {
		all = append(all, &peerv1.MemberStep{Step: &peerv1.MemberStep_Promote{Promote: uint64(r)}})
	}
	for _, r := range m.Remove {
		all = append(all, &peerv1.MemberStep{Step: &peerv1.MemberStep_Remove{Remove: uint64(r)}})
	}
	return all
}
