package node

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// keepHouse removes what nobody needs any more: old jobs, and blobs that nothing refers to. Workers, of which there may be many, leave
// the jobs to the others, and all of them together look as often as a few would.
func (n *Node) keepHouse(ctx context.Context) error {
	tick := time.NewTicker(n.cfg.CollectInterval)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if n.cfg.Worker {
			if blobs, _ := n.blobs.Usage(); blobs > 0 && i%n.sparing() == 0 {
				n.tryCollect(ctx)
			}
			continue
		}
		if _, err := n.jobs.Retain(ctx, time.Now().Add(-n.cfg.Retention)); err != nil && ctx.Err() == nil {
			slog.Warn("old jobs not removed", "error", err)
		}
		n.tryCollect(ctx)
	}
}

// few is how many nodes may ask others for what they keep as often as they like.
const few = 10

// sparing is how much less often than one of a few each of these nodes asks.
func (n *Node) sparing() int { return max(1, (len(n.others())+1)/few) }

func (n *Node) tryCollect(ctx context.Context) {
	if err := n.collect(ctx); err != nil && ctx.Err() == nil {
		slog.Warn("blobs not collected", "error", err)
	}
}

// collect marks what the state of every shard refers to, read after the mark began, and removes the rest.
func (n *Node) collect(ctx context.Context) error {
	c := n.blobs.BeginCollect()
	candidates := c.Candidates()
	if len(candidates) == 0 {
		return nil // nobody has to be asked
	}
	for id := range shard.ID(n.engine.Table().Shards) {
		var err error
		if n.router.Here(id) {
			err = n.refs(ctx, id, func(d digest.Digest, _ bool) { c.Keep(d) })
		}
		if !n.router.Here(id) || fault.Reason(err) == "no_replica" {
			var refs []digest.Digest
			refs, err = n.router.Referenced(ctx, id, candidates)
			for _, d := range refs {
				c.Keep(d)
			}
		}
		if err != nil {
			return err
		}
	}
	removed, bytes, err := c.Finish(ctx)
	n.metrics.collected.Add(float64(removed))
	if removed > 0 {
		slog.Info("blobs collected", "removed", removed, "bytes", bytes)
	}
	return err
}

// refs calls fn for each blob that a shard refers to of which there is a replica here.
func (n *Node) refs(ctx context.Context, id shard.ID, fn func(d digest.Digest, copies bool)) error {
	for mid, m := range machines {
		err := n.engine.ReadShard(ctx, id, mid, func(_ machine.Slot, r machine.Reader) error {
			m.Refs(r, fn)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settleTime is how long the members have to stay as they are before what is lacking is copied: one that starts again has it all.
const settleTime = 5 * time.Second

// keepCopies sees to it that what cannot be made again is on as many nodes as it should be: now and then, and when nodes came or went.
func (n *Node) keepCopies(ctx context.Context) error {
	tick := time.NewTicker(settleTime)
	defer tick.Stop()
	var seen, done []shard.NodeID
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := n.keeping()
		settled := slices.Equal(now, seen)
		seen = now
		if !settled || slices.Equal(now, done) && time.Since(last) < n.cfg.CollectInterval {
			continue
		}
		done, last = now, time.Now()
		if len(n.others()) > 0 {
			n.repair(ctx)
		}
	}
}

// repair has copies made of what the shards refer to that this node leads.
func (n *Node) repair(ctx context.Context) {
	copied := 0
	for _, s := range n.engine.Status() {
		if !s.Leading {
			continue
		}
		needed := map[digest.Digest]bool{}
		err := n.refs(ctx, s.ID, func(d digest.Digest, copies bool) { needed[d] = needed[d] || copies })
		if err != nil {
			continue // whoever leads it now sees to it
		}
		maps.DeleteFunc(needed, func(_ digest.Digest, copies bool) bool { return !copies })
		some, err := n.remote.Repair(ctx, slices.Collect(maps.Keys(needed)))
		if copied += some; err != nil && ctx.Err() == nil {
			slog.Warn("some blobs have fewer copies than they should", "shard", s.ID, "error", err)
		}
	}
	if copied > 0 {
		slog.Info("blobs that had too few copies were copied", "blobs", copied)
	}
}

// giveBlobs has what is here of what cannot be made again copied to those that are to keep it in place of this node.
func (n *Node) giveBlobs(ctx context.Context) error {
	here := map[digest.Digest]bool{}
	for id := range shard.ID(n.engine.Table().Shards) {
		for mid, m := range machines {
			err := n.router.ReadShard(ctx, id, mid, func(_ machine.Slot, r machine.Reader) error {
				m.Refs(r, func(d digest.Digest, copies bool) {
					if _, ok := n.blobs.Stat(d); ok && copies {
						here[d] = true
					}
				})
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	_, err := n.remote.Repair(ctx, slices.Collect(maps.Keys(here)))
	return err
}
