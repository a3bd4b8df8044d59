package node

import (
	"context"
	"slices"

	"github.com/wattlehq/wattle/cluster"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
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
func (w work) Running(ctx context.Context, id shard.ID, job string) (tasks []*peerv1.RunningTask, err error) {
	err = w.n.router.AtLeader(ctx, id, func(to shard.NodeID) error {
		if string(to) == w.n.ID() {
			tasks, err = w.n.sched.Running(job)
		} else {
			tasks, err = w.n.clients.RunningTasks(ctx, to, job)
		}
		return err
	})
	return tasks, err
}

func (w work) Send(to string, ms ...*peerv1.WorkMessage) { w.n.link.SendWork(shard.NodeID(to), ms...) }
