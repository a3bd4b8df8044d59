package node

import (
	"context"
	"slices"

	"github.com/wattlehq/wattle/cluster"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
)

// work is how the scheduler reaches other nodes. It implements jobs.Peers.
type work struct{ n *Node }

func (w work) Leaders() []string { return w.alive(func(m cluster.Member) bool { return !m.Worker }) }
func (w work) Workers() []string { return w.alive(func(cluster.Member) bool { return true }) }

func (w work) alive(match func(cluster.Member) bool) (all []string) {
	for _, m := range w.n.present() {
		if match(m) {
			all = append(all, m.ID)
		}
	}
	return all
}

func (w work) Pools() []string {
	all := slices.Clone(w.n.cfg.Pools)
	for _, m := range w.n.present() {
		all = append(all, m.Pools...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (w work) Acquire(ctx context.Context, from string, q *peerv1.AcquireRequest) (*peerv1.Grants, error) {
	return w.n.clients.Acquire(ctx, shard.NodeID(from), q)
}

func (w work) AwaitTasks(ctx context.Context, at string, q *peerv1.AwaitTasksRequest) (bool, error) {
	return w.n.clients.AwaitTasks(ctx, shard.NodeID(at), q)
}

// Running asks whoever leads a job's shard.
func (w work) Running(ctx context.Context, id shard.ID, job string) ([]*peerv1.RunningTask, error) {
	switch to := w.n.router.Leader(ctx, id); to {
	case "":
		return nil, fault.New(fault.Unavailable, "no_leader", "nobody is known to lead shard %d", id).Hint("try again in a moment")
	case shard.NodeID(w.n.ID()):
		return w.n.sched.Running(job), nil
	default:
		return w.n.clients.RunningTasks(ctx, to, job)
	}
}

func (w work) Send(to string, ms ...*peerv1.WorkMessage) { w.n.link.SendWork(shard.NodeID(to), ms...) }
