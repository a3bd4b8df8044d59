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
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
	"github.com/wattlehq/wattle/shard/placement"
)

// DefaultReplicas is how many a shard has where there are nodes enough.
const DefaultReplicas = 3

// Limits bound what is under way.
var Limits = placement.Limits{Incoming: 8}

// Nodes answers for any node, and carries out what is decided there.
type Nodes interface {
	Ask(ctx context.Context, nodes []shard.NodeID) []directory.Report
	Change(ctx context.Context, node shard.NodeID, id shard.ID, changes []shard.Change) error
	Transfer(ctx context.Context, node shard.NodeID, id shard.ID, to uint64) error
	Retire(ctx context.Context, node shard.NodeID, id shard.ID, replica uint64) error
}

// Config is what a Controller needs. Fields without a default must be set.
type Config struct {
	Nodes Nodes
	// Members returns who is there.
	Members func() []cluster.Member
	// Removed tells which nodes were given up for good, whether gossip still knows them or not.
	Removed func(node string) bool
	// Acts tells whether this node leads the first shard.
	Acts func() bool
	// Watch is shown what this node sees while it acts, of so many shards.
	Watch  *directory.Watch
	Shards uint32
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
	observer Observer
	// empty are workers that have no replicas, and will get none, since when they have been there.
	empty map[string]time.Time
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
	return &Controller{cfg: cfg, observer: Observer{Grace: cfg.Grace, Removed: cfg.Removed}}
}

// changeTimeout is how long one change may take.
const changeTimeout = 5 * time.Second

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
		if !c.cfg.Acts() {
			c.cfg.Watch.Forget()
		} else if c.round(ctx) {
			wait = min(wait, soon)
		}
		next.Reset(wait)
	}
}

// round looks once and carries out what comes of it. It tells whether anything is under way.
func (c *Controller) round(ctx context.Context) bool {
	members := c.cfg.Members()
	now, reports := time.Now(), c.ask(ctx, members)
	p := c.observer.Look(now, members, reports, c.cfg.Want)
	for _, l := range p.Leaders {
		for _, m := range l.Members {
			delete(c.empty, m.Node) // one that is on its way
		}
	}
	c.cfg.Watch.Look(now, p.Leaders, c.cfg.Shards, uint32(min(c.cfg.Want, there(members))))
	moves := placement.Next(p.View, Limits)
	var wg sync.WaitGroup
	for _, s := range p.Steps(moves) {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, changeTimeout)
			defer cancel()
			switch err := c.carryOut(ctx, s); {
			case err == nil:
				slog.Debug("placement", "step", s)
			case fault.Reason(err) != "bad_change" && fault.Reason(err) != "no_leader" && ctx.Err() == nil:
				slog.Warn("placement", "step", s, "error", err)
			}
		})
	}
	wg.Wait()
	return len(moves) > 0 || slices.ContainsFunc(p.View.Shards, func(s placement.Shard) bool {
		return s.Changing || slices.ContainsFunc(s.Replicas, func(r placement.Replica) bool { return !r.Voter })
	})
}

func (c *Controller) carryOut(ctx context.Context, s Step) error {
	switch {
	case s.Retire != 0:
		return c.cfg.Nodes.Retire(ctx, s.Node, s.Shard, s.Retire)
	case s.Transfer != 0:
		return c.cfg.Nodes.Transfer(ctx, s.Node, s.Shard, s.Transfer)
	}
	return c.cfg.Nodes.Change(ctx, s.Node, s.Shard, s.Changes)
}

// there counts the nodes that could hold replicas now.
func there(members []cluster.Member) (n int) {
	for _, m := range members {
		if m.Status == cluster.Alive && !m.Worker {
			n++
		}
	}
	return n
}

// ask asks all nodes that seem to be there what they hold. Workers are asked until they hold nothing: there may be hundreds.
func (c *Controller) ask(ctx context.Context, members []cluster.Member) []directory.Report {
	var nodes []shard.NodeID
	workers, empty := map[shard.NodeID]cluster.Member{}, map[string]time.Time{}
	for _, m := range members {
		if m.Status == cluster.Left || m.Status == cluster.Failed {
			continue
		}
		if m.Worker {
			if since, ok := c.empty[m.ID]; ok && since.Equal(m.Since) {
				empty[m.ID] = since
				continue
			}
			workers[shard.NodeID(m.ID)] = m
		}
		nodes = append(nodes, shard.NodeID(m.ID))
	}
	reports := c.cfg.Nodes.Ask(ctx, nodes)
	for _, r := range reports {
		if m, ok := workers[r.Node]; ok && r.Answer != nil && len(r.Answer.Replicas) == 0 {
			empty[m.ID] = m.Since
		}
	}
	c.empty = empty
	return reports
}
