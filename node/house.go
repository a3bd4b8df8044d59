package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
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
	if err := n.eachRef(ctx, c.Keep); err != nil {
		return err
	}
	removed, bytes, err := c.Finish(ctx)
	n.metrics.collected.Add(float64(removed))
	if removed > 0 {
		slog.Info("blobs collected", "removed", removed, "bytes", bytes)
	}
	return err
}

// giveBlobs copies what is here of what the state refers to, to those that are to keep it in place of this node.
func (n *Node) giveBlobs(ctx context.Context) error {
	here := map[digest.Digest]bool{}
	err := n.eachRef(ctx, func(d digest.Digest) {
		if _, ok := n.blobs.Stat(d); ok {
			here[d] = true
		}
	})
	if err != nil {
		return err
	}
	nodes := n.keeping()
	for d := range here {
		if err := n.remote.Keep(ctx, d, keepers(d, nodes)); err != nil {
			return err
		}
	}
	return nil
}

// eachRef yields the blobs that the state of any shard refers to, here or elsewhere.
func (n *Node) eachRef(ctx context.Context, yield func(digest.Digest)) error {
	for id := range shard.ID(n.engine.Table().Shards) {
		for mid, m := range machines {
			err := n.router.ReadShard(ctx, id, mid, func(_ machine.Slot, r machine.Reader) error {
				m.Refs(r, yield)
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}
