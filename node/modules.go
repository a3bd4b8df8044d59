package node

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/node/controller"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/shard"
)

// How often a node looks whether it lacks a module, if it hears of nothing new, and how long it waits after one could not be had.
const modulesInterval, modulesRetry = time.Second, 10 * time.Second

// keepModules brings the modules here that calls find without naming a version, or by an alias, and makes them ready for calls once
// they are new here. All others are where they are kept, and come when somebody calls them.
func (n *Node) keepModules(ctx context.Context) error {
	tick := time.NewTicker(modulesInterval)
	defer tick.Stop()
	seen, lacking := n.revisions(), true // whether there is something of what was seen that is not here
	var retry time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-n.published:
		}
		before, now := seen, n.revisions()
		isNew := func(s *wattlev1.Service) bool { return s.Revision > before[s.Name] }
		all := lacking && !time.Now().Before(retry)
		if seen = now; len(n.others()) == 0 || !all && maps.Equal(before, now) {
			continue
		}
		fetched, complete := n.fetchModules(ctx, func(s *wattlev1.Service) bool { return all || isNew(s) })
		if !complete {
			lacking, retry = true, time.Now().Add(modulesRetry)
		} else if all {
			lacking = false
		}
		n.readyModules(ctx, func(s *wattlev1.Service, v *wattlev1.Version) bool { return isNew(s) || fetched[v.Digest] })
	}
}

// revisions are those of all services: news may come in any order.
func (n *Node) revisions() map[string]uint64 {
	all := map[string]uint64{}
	for _, s := range n.view.Services() {
		all[s.Name] = s.Revision
	}
	return all
}

// found are the versions of a service that calls find by an alias, or without naming one.
func found(s *wattlev1.Service) map[uint64]bool {
	all := map[uint64]bool{}
	for _, number := range s.Aliases {
		all[number] = true
	}
	if n := len(s.Versions); n > 0 && s.Aliases[registry.DefaultAlias] == 0 {
		all[s.Versions[n-1].Number] = true
	}
	return all
}

// fetchModules fetches what is lacking of some services. It answers the digests of what came, and whether nothing is lacking now.
func (n *Node) fetchModules(ctx context.Context, some func(*wattlev1.Service) bool) (fetched map[string]bool, all bool) {
	fetched, all = map[string]bool{}, true
	for _, s := range n.view.Services() {
		if !some(s) {
			continue
		}
		wanted := found(s)
		for _, v := range s.Versions {
			d, err := digest.Parse(v.Digest)
			if err != nil || !wanted[v.Number] {
				continue
			}
			if _, here := n.blobs.Stat(d); here {
				continue
			}
			b, err := n.remote.Open(ctx, d)
			if err != nil {
				if all = false; ctx.Err() != nil {
					return fetched, false
				}
				slog.Warn("a module is not here yet", "service", s.Name, "version", v.Number, "error", err)
				continue
			}
			b.Close()
			fetched[v.Digest] = true
			slog.Info("a module was copied here", "service", s.Name, "version", v.Number)
		}
	}
	return fetched, all
}

// mostReady is how many modules are made ready at a time: the host keeps twice as many.
const mostReady = 64

// readyModules makes modules ready for calls, so that the first does not wait: those that calls find, and that are new. Of many, as on
// a node that has just joined, it is those of the services changed last.
func (n *Node) readyModules(ctx context.Context, isNew func(*wattlev1.Service, *wattlev1.Version) bool) {
	var wanted []*wattlev1.Version
	services := slices.SortedFunc(slices.Values(n.view.Services()), func(a, b *wattlev1.Service) int { return cmp.Compare(b.Revision, a.Revision) })
	for _, s := range services {
		found := found(s)
		for _, v := range s.Versions {
			if found[v.Number] && isNew(s, v) {
				wanted = append(wanted, v)
			}
		}
	}
	for _, v := range wanted[:min(mostReady, len(wanted))] {
		if err := n.services.Load(ctx, v.Digest); err != nil && ctx.Err() == nil {
			slog.Warn("a module cannot be made ready", "service", v.Service, "version", v.Number, "error", err)
		}
	}
}

// keepersOf are the nodes that keep a blob, of those that are there.
func (n *Node) keepersOf(d digest.Digest) []shard.NodeID { return keepers(d, n.keeping()) }

// keepers are the nodes that keep a blob, as many as there are replicas: everybody comes to the same ones, and few change when a
// node joins or goes (rendezvous hashing: Thaler and Ravishankar, 1998).
func keepers(d digest.Digest, nodes []shard.NodeID) []shard.NodeID {
	weight := func(n shard.NodeID) uint64 { return xxhash.Sum64String(string(n) + d.Hex()) }
	all := slices.SortedFunc(slices.Values(nodes), func(a, b shard.NodeID) int { return cmp.Compare(weight(b), weight(a)) })
	return all[:min(controller.DefaultReplicas, len(all))]
}
