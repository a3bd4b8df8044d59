package node

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/node/controller"
	"github.com/wattlehq/wattle/shard"
)

// How often a node looks whether it lacks a module, and how long it waits after one could not be had.
const modulesInterval, modulesRetry = time.Second, 10 * time.Second

// keepModules brings the modules of all versions here that belong here: those that an alias points at, so that calls find them,
// and a share of the others, so that they are on as many nodes as shards are. What was pushed before a node joined, or lay on one
// that lost its disk, is there again so.
func (n *Node) keepModules(ctx context.Context) error {
	tick := time.NewTicker(modulesInterval)
	defer tick.Stop()
	var done uint64 // the revision up to which nothing is lacking
	var among []shard.NodeID
	var retry time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		nodes := n.keeping()
		revision := n.view.Revision()
		if len(n.others()) == 0 || revision == done && slices.Equal(nodes, among) || time.Now().Before(retry) {
			continue
		}
		if n.fetchModules(ctx, nodes) {
			done, among = revision, nodes
		} else {
			retry = time.Now().Add(modulesRetry)
		}
	}
}

// fetchModules fetches what is lacking, and tells whether nothing is lacking then.
func (n *Node) fetchModules(ctx context.Context, nodes []shard.NodeID) bool {
	all := true
	for _, s := range n.view.Services() {
		pointed := map[uint64]bool{}
		for _, number := range s.Aliases {
			pointed[number] = true
		}
		for _, v := range s.Versions {
			d, err := digest.Parse(v.Digest)
			if err != nil || !pointed[v.Number] && !slices.Contains(keepers(d, nodes), shard.NodeID(n.ID())) {
				continue
			}
			if _, here := n.blobs.Stat(d); here {
				continue
			}
			b, err := n.remote.Open(ctx, d)
			if err != nil {
				if all = false; ctx.Err() != nil {
					return false
				}
				slog.Warn("a module is not here yet", "service", s.Name, "version", v.Number, "error", err)
				continue
			}
			b.Close()
			slog.Info("a module was copied here", "service", s.Name, "version", v.Number)
		}
	}
	return all
}

// keepers are the nodes that keep a blob, as many as there are replicas: everybody comes to the same ones, and few change when a
// node joins or goes (rendezvous hashing: Thaler and Ravishankar, 1998).
func keepers(d digest.Digest, nodes []shard.NodeID) []shard.NodeID {
	weight := func(n shard.NodeID) uint64 { return xxhash.Sum64String(string(n) + d.Hex()) }
	all := slices.SortedFunc(slices.Values(nodes), func(a, b shard.NodeID) int { return cmp.Compare(weight(b), weight(a)) })
	return all[:min(controller.DefaultReplicas, len(all))]
}
