package peers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
)

// Nodes asks nodes about themselves. Those that do not answer are left out.
func Nodes(ctx context.Context, c *Clients, ids []shard.NodeID) map[shard.NodeID]*wattlev1.Node {
	var mu sync.Mutex
	all := map[shard.NodeID]*wattlev1.Node{}
	each(ctx, ids, askTimeout, func(ctx context.Context, _ int, id shard.NodeID) {
		p, err := c.Of(id)
		if err != nil {
			return
		}
		if r, err := p.GetNode(ctx, connect.NewRequest(&peerv1.GetNodeRequest{})); err == nil {
			mu.Lock()
			defer mu.Unlock()
			all[id] = r.Msg.Node
		}
	})
	return all
}

// Shards asks nodes for their replicas, and puts what the leaders say together. want is how many voters a shard should have, silent
// are those that did not answer.
func Shards(ctx context.Context, h *Hands, ids []shard.NodeID, shards, want uint32) (all []*wattlev1.Shard, silent []string) {
	reports := h.Ask(ctx, ids)
	leaders := directory.Find(reports)
	differ := directory.Differ(reports)
	lacks := map[uint32]*peerv1.Lack{}
	for _, r := range reports {
		if r.Answer == nil {
			silent = append(silent, string(r.Node))
		}
		if r.Node == leaders[0].Node {
			for _, l := range r.Answer.GetLacks() {
				lacks[l.Shard] = l
			}
		}
	}
	for id := range shards {
		s := shardOf(id, leaders[shard.ID(id)], reports)
		s.Differs = differ[shard.ID(id)]
		if l := lacks[id]; l != nil && directory.Lacks(s.Leader != "", s.Live, s.Voters, want) {
			s.LackingSince, s.SinceAtLeast = l.Since, l.AtLeast
		}
		all = append(all, s)
	}
	slices.Sort(silent)
	return all, silent
}

// Survey asks members, by the addresses of their APIs, how the cluster is, until one answers.
func (c *Clients) Survey(ctx context.Context, apis []string) (*wattlev1.GetClusterStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askTimeout)
	defer cancel()
	var errs []error
	for _, addr := range apis {
		api := client.Dial(addr)
		r, err := api.Nodes.GetClusterStatus(ctx, connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
		api.Close()
		if err == nil {
			return r.Msg, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", addr, err))
	}
	return nil, errors.Join(errs...)
}

func shardOf(id uint32, l directory.Leader, reports []directory.Report) *wattlev1.Shard {
	out := &wattlev1.Shard{Id: id, Leader: string(l.Node)}
	if l.ReplicaStatus == nil {
		return out
	}
	out.Term, out.Last, out.Changing = l.Term, l.Last, l.Changing
	for _, m := range l.Members {
		// A new leader takes everybody for alive, also nodes that are no member any more.
		known := slices.ContainsFunc(reports, func(r directory.Report) bool { return string(r.Node) == m.Node })
		r := &wattlev1.Replica{Id: m.Replica, Node: m.Node, Voter: m.Voter, Active: m.Active && known, Lag: l.Last - min(m.Match, l.Last)}
		r.Applied, r.Hash = standOf(id, r, reports)
		if out.Replicas = append(out.Replicas, r); r.Voter {
			if out.Voters++; r.Active {
				out.Live++
			}
		}
	}
	return out
}

// standOf is where a replica's state is, as its own node says.
func standOf(id uint32, r *wattlev1.Replica, reports []directory.Report) (applied, hash uint64) {
	for _, report := range reports {
		if string(report.Node) != r.Node {
			continue
		}
		for _, s := range report.Answer.GetReplicas() {
			if s.Shard == id && s.Replica == r.Id {
				return s.Applied, s.Hash
			}
		}
	}
	return 0, 0
}
