package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// keepHouse removes what nobody needs any more: old jobs, and blobs that nothing refers to.
func (n *Node) keepHouse(ctx context.Context) error {
	tick := time.NewTicker(n.cfg.CollectInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if _, err := n.jobs.Retain(ctx, time.Now().Add(-n.cfg.Retention)); err != nil && ctx.Err() == nil {
			slog.Warn("old jobs not removed", "error", err)
		}
		if err := n.collect(ctx); err != nil && ctx.Err() == nil {
			slog.Warn("blobs not collected", "error", err)
		}
	}
}

// collect marks what the state of every shard refers to, here or elsewhere, read after the mark began, and removes the rest.
func (n *Node) collect(ctx context.Context) error {
	c := n.blobs.BeginCollect()
	for id := range shard.ID(n.engine.Table().Shards) {
		for mid, m := range machines {
			err := n.router.ReadShard(ctx, id, mid, func(_ machine.Slot, r machine.Reader) error {
				m.Refs(r, func(d digest.Digest) { c.Keep(d) })
				return nil
			})
			if err != nil {
				return err
			}
		}
	}
	removed, bytes, err := c.Finish(ctx)
	n.metrics.collected.Add(float64(removed))
	if removed > 0 {
		slog.Info("blobs collected", "removed", removed, "bytes", bytes)
	}
	return err
}
