package peers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/shard"
)

// surveyTimeout is how long a node that seems to be there may take to answer about itself.
const surveyTimeout = 2 * time.Second

// Nodes asks nodes about themselves. Those that do not answer are left out.
func Nodes(ctx context.Context, c *Clients, ids []shard.NodeID) map[shard.NodeID]*wattlev1.Node {
	var mu sync.Mutex
	all := map[shard.NodeID]*wattlev1.Node{}
	each(ctx, ids, surveyTimeout, func(ctx context.Context, id shard.NodeID) {
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

// Shards asks nodes for their replicas, and puts what the leaders say together. silent are those that did not answer.
func Shards(ctx context.Context, h *Hands, ids []shard.NodeID, shards uint32) (all []*wattlev1.Shard, silent []string) {
	var mu sync.Mutex
	leaders := map[uint32]*wattlev1.Shard{}
	each(ctx, ids, surveyTimeout, func(ctx context.Context, id shard.NodeID) {
		r, err := h.Replicas(ctx, id)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			silent = append(silent, string(id))
			return
		}
		for _, s := range r.Replicas {
			// Two may think that they lead; the newer term is right.
			if l := leaders[s.Shard]; s.Leading && (l == nil || l.Term < s.Term) {
				leaders[s.Shard] = shardOf(string(id), s)
			}
		}
	})
	for id := range shards {
		all = append(all, cmp.Or(leaders[id], &wattlev1.Shard{Id: id}))
	}
	slices.Sort(silent)
	return all, silent
}

// Survey asks members, by the addresses of their APIs, how the cluster is, until one answers.
func (c *Clients) Survey(ctx context.Context, apis []string) (*wattlev1.GetClusterStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*surveyTimeout)
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

func shardOf(leader string, s *peerv1.ReplicaStatus) *wattlev1.Shard {
	out := &wattlev1.Shard{Id: s.Shard, Leader: leader, Term: s.Term, Last: s.Last, Changing: s.Changing}
	for _, m := range s.Members {
		out.Replicas = append(out.Replicas, &wattlev1.Replica{Id: m.Replica, Node: m.Node, Voter: m.Voter, Active: m.Active, Lag: s.Last - min(m.Match, s.Last)})
		if m.Voter {
			if out.Voters++; m.Active {
				out.Live++
			}
		}
	}
	return out
}
