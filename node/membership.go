package node

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/cluster"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/member"
	"github.com/wattlehq/wattle/node/controller"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/shard"
)

// decided takes what was decided about nodes. One that was removed ends.
func (n *Node) decided(records []*storev1.MemberRecord, revision uint64) {
	if n.members.Load(records, revision); n.members.Removed(n.ID()) {
		n.dismissed()
	}
}

// dismissed ends a node that was removed.
func (n *Node) dismissed() {
	n.end(fault.New(fault.Precondition, "removed", "node %s was removed from its cluster, and cannot come back", n.ID()).
		Hint("the other nodes have what it had; to have a new node here, empty %s and start it with --join", n.cfg.Data))
}

// nodes are the members as they count: one that was removed has left, one that is being emptied is leaving.
func (n *Node) nodes() []cluster.Member {
	all := n.cluster.Members()
	for i := range all {
		switch m := &all[i]; {
		case n.members.Removed(m.ID):
			m.Status = cluster.Left
		case m.Status == cluster.Alive && n.members.Draining(m.ID):
			m.Status = cluster.Leaving
		}
	}
	return all
}

// rank orders nodes by how much is kept on them.
func rank(m cluster.Member) int {
	switch {
	case m.Worker:
		return 1
	case m.Status == cluster.Leaving:
		return 2
	}
	return 0
}

// present are the other nodes that seem to be there, those that keep something first.
func (n *Node) present() []cluster.Member {
	all := slices.DeleteFunc(n.nodes(), func(m cluster.Member) bool {
		return m.ID == n.ID() || m.Status != cluster.Alive && m.Status != cluster.Leaving
	})
	slices.SortStableFunc(all, func(a, b cluster.Member) int { return cmp.Compare(rank(a), rank(b)) })
	return all
}

// others returns the other nodes that seem to be there, those that keep something first.
func (n *Node) others() (all []shard.NodeID) {
	for _, m := range n.present() {
		all = append(all, shard.NodeID(m.ID))
	}
	return all
}

// likely are the others in two groups: those that can be expected to lead shards, and all the rest.
func (n *Node) likely() [][]shard.NodeID {
	groups := make([][]shard.NodeID, 2)
	for _, m := range n.present() {
		i := 0
		if m.Worker {
			i = 1
		}
		groups[i] = append(groups[i], shard.NodeID(m.ID))
	}
	return groups
}

// keeping are the nodes that keep something for others, perhaps this one as well, in order.
func (n *Node) keeping() (all []shard.NodeID) {
	for _, m := range n.nodes() {
		if m.Status == cluster.Alive && !m.Worker {
			all = append(all, shard.NodeID(m.ID))
		}
	}
	return all
}

// expected are the nodes that keep replicas now or should: also one that is away, but not one that another has replaced.
func expected(members []cluster.Member) []cluster.Member {
	return slices.DeleteFunc(counted(members), func(m cluster.Member) bool { return m.Worker })
}

// counted are the nodes that are there, or should be: those, and those that only work.
func counted(members []cluster.Member) (nodes []cluster.Member) {
	replaced := controller.Replaced(members, func(cluster.Member) bool { return true })
	for _, m := range members {
		if !replaced[m.ID] && (m.Status == cluster.Alive || m.Status == cluster.Failed) {
			nodes = append(nodes, m)
		}
	}
	return nodes
}

// want is how many replicas a shard should have on so many nodes. Where there is no place, what there is stays.
func want(nodes int) uint32 { return uint32(max(1, min(controller.DefaultReplicas, nodes))) }

// decide writes a decision about a node down, and returns when this node knows of it.
func (n *Node) decide(ctx context.Context, c *storev1.MemberCommand) error {
	body, err := proto.Marshal(c)
	if err != nil {
		return err
	}
	res, err := n.router.Propose(ctx, shard.Proposal{Slot: machine.Slot(0), Machine: machine.Members, Body: body})
	if err != nil {
		return err
	}
	if res.Err != nil {
		return res.Err
	}
	return n.router.Read(ctx, machine.Slot(0), machine.Members, n.loadMembers)
}

// electionTime is how long shards may be without a leader because one is being elected.
const electionTime = 10 * time.Second

// elected is the cluster's status once elections that are under way have ended: a node that is to be removed has often just died.
func (i info) elected(ctx context.Context) *wattlev1.GetClusterStatusResponse {
	end := time.Now().Add(electionTime)
	for {
		status := i.Cluster(ctx)
		leaderless := slices.ContainsFunc(status.Shards, func(s *wattlev1.Shard) bool { return s.Leader == "" })
		if !leaderless || time.Now().After(end) {
			return status
		}
		select {
		case <-ctx.Done():
			return status
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// named finds the node that is meant by a name or its beginning, among those that gossip knows and those given.
func (n *Node) named(name string, more ...string) (string, error) {
	var found []string
	for _, m := range n.cluster.Members() {
		more = append(more, m.ID)
	}
	slices.Sort(more)
	for _, id := range slices.Compact(more) {
		if id == name && id != "" {
			return id, nil
		}
		if name != "" && strings.HasPrefix(id, name) && !n.members.Removed(id) {
			found = append(found, id)
		}
	}
	switch {
	case n.members.Removed(name):
		return name, nil
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fault.New(fault.Invalid, "ambiguous_node", "%.80q may be any of %s", name, strings.Join(found, ", ")).Hint("give more of the name")
	}
	return "", fault.New(fault.NotFound, "unknown_node", "there is no node %.80q", name).Hint("wattle node ls shows which there are")
}

// spare refuses to go on without a node that is the last to keep replicas, and answers how many a shard will have.
func (n *Node) spare(node string) (uint32, error) {
	left := 0
	m, _ := n.cluster.Member(node)
	for _, o := range expected(n.nodes()) {
		if o.ID != node {
			left++
		}
	}
	if left == 0 && !m.Worker {
		return 0, fault.New(fault.Precondition, "last_node", "node %s is the last to keep replicas: there is nowhere to put them", node).
			Hint("start another node with --join first; to end a cluster of one, stop it")
	}
	return want(left), nil
}

// Drain has a node emptied, or used again.
func (i info) Drain(ctx context.Context, name string, undo bool) (*wattlev1.DrainNodeResponse, error) {
	n := i.n
	id, err := n.named(name)
	if err != nil {
		return nil, err
	}
	r := &wattlev1.DrainNodeResponse{NodeId: id, Want: want(len(expected(n.nodes())))}
	for {
		c := &storev1.MemberCommand{Node: id, Change: &storev1.MemberCommand_Drain{Drain: !undo}}
		if !undo {
			// Whether it may be spared depends on which others are drained.
			c.Revision = proto.Uint64(n.members.Revision())
			if r.Want, err = n.spare(id); err != nil {
				return nil, err
			}
		}
		err := n.decide(ctx, c)
		if fault.Reason(err) != member.Overtaken {
			return r, err
		}
		if err := n.router.Read(ctx, machine.Slot(0), machine.Members, n.loadMembers); err != nil {
			return nil, err
		}
	}
}

// Leave has this node empty itself, say goodbye and end.
func (i info) Leave(ctx context.Context) (*wattlev1.LeaveNodeResponse, error) {
	r, err := i.Drain(ctx, i.n.ID(), false)
	if err != nil {
		return nil, err
	}
	poke(i.n.leave)
	return &wattlev1.LeaveNodeResponse{NodeId: r.NodeId}, nil
}

// Remove gives a node up.
func (i info) Remove(ctx context.Context, name string, force bool) (*wattlev1.RemoveNodeResponse, error) {
	n := i.n
	status := i.elected(ctx)
	var holders []string
	for _, s := range status.Shards {
		for _, r := range s.Replicas {
			holders = append(holders, r.Node)
		}
	}
	id, err := n.named(name, holders...)
	if err != nil {
		return nil, err
	}
	if id == n.ID() {
		return nil, fault.New(fault.Precondition, "node_alive", "node %s is the one you ask", id).Hint("wattle node leave has it go in good order; or ask another node to remove it")
	}
	if m, _ := n.cluster.Member(id); !force && !n.members.Removed(id) {
		_, answers := peers.Nodes(ctx, n.clients, []shard.NodeID{shard.NodeID(id)})[shard.NodeID(id)]
		if !answers && m.Status == cluster.Alive {
			return nil, fault.New(fault.Precondition, "node_alive", "node %s does not answer, and was there a moment ago", id).
				Hint("wait until wattle node ls says that it failed. --force removes it as it is, and it never comes back")
		}
		if answers || m.Status == cluster.Leaving {
			return nil, fault.New(fault.Precondition, "node_alive", "node %s is alive", id).
				Hint("wattle --addr %s node leave has it go in good order. Wait a moment if it stopped just now. --force removes it as it is: it ends as soon as it hears of that, what runs there is lost or done again, and it never comes back", cmp.Or(m.API, "ITS-ADDRESS"))
		}
	}
	var lost []string
	why := ""
	for _, s := range status.Shards {
		holds := slices.ContainsFunc(s.Replicas, func(r *wattlev1.Replica) bool { return r.Node == id })
		if lacks := missed(s, id); lacks != "" && (holds || s.Leader == "") {
			lost, why = append(lost, fmt.Sprint(s.Id)), cmp.Or(why, fmt.Sprintf("shard %d %s", s.Id, lacks))
		}
	}
	if len(lost) > 0 {
		which := strings.Join(lost, ", ")
		if some := 4; len(lost) > some+1 {
			which = fmt.Sprintf("%s and %d more", strings.Join(lost[:some], ", "), len(lost)-some)
		}
		return nil, fault.New(fault.Precondition, "no_quorum", "without node %s there is no quorum of shard %s: %s", id, which, why).
			With("shards", strings.Join(lost, ",")).Hint("wait for those that are catching up, or bring back other nodes that have them; wattle cluster status shows which")
	}
	return &wattlev1.RemoveNodeResponse{NodeId: id}, n.decide(ctx, &storev1.MemberCommand{Node: id, Change: &storev1.MemberCommand_Remove{Remove: true}})
}

// membershipInterval is the time between two looks at what there is to do about nodes that go.
const membershipInterval = 200 * time.Millisecond

// keepMembership sees to nodes that go: it empties this one of what the shards do not move, ends it when it is to leave, and tells those
// that were removed.
func (n *Node) keepMembership(ctx context.Context) error {
	tick := time.NewTicker(membershipInterval)
	defer tick.Stop()
	leaving, given := false, false
	for {
		select {
		case <-ctx.Done():
			if fault.As(context.Cause(n.ending)) != nil {
				_ = n.cluster.Leave() // removed: nobody waits for it
			}
			return nil
		case <-n.leave:
			leaving = true
		case <-tick.C:
		}
		n.dismiss(ctx)
		if !n.members.Draining(n.ID()) {
			leaving, given = false, false
			n.drained.Store(false)
			continue
		}
		if len(n.engine.Status()) > 0 {
			continue
		}
		if !given {
			if err := n.giveBlobs(ctx); err != nil {
				if ctx.Err() == nil {
					slog.Warn("not all of what this node keeps is elsewhere yet", "error", err)
				}
				continue
			}
			given = true
		}
		n.drained.Store(true)
		if running, _ := n.sched.Load(); leaving && running == 0 {
			n.sayGoodbye(ctx)
			<-ctx.Done()
			return nil
		}
	}
}

// goodbyeTime is how long a node that leaves tries to have it written down that it is not drained any more.
const goodbyeTime = 5 * time.Second

// sayGoodbye ends a node that has left. It may come back, and is not drained then.
func (n *Node) sayGoodbye(ctx context.Context) {
	if err := n.cluster.Leave(); err != nil {
		slog.Warn("not everybody may have heard this node's goodbye", "error", err)
	}
	ctx, cancel := context.WithTimeout(ctx, goodbyeTime)
	defer cancel()
	if err := n.decide(ctx, &storev1.MemberCommand{Node: n.ID(), Change: &storev1.MemberCommand_Drain{}}); err != nil {
		slog.Warn("this node will be drained when it comes back; then run wattle node drain --undo", "error", err)
	}
	slog.Info("this node has left the cluster")
	n.end(nil)
}

// dismiss tells nodes that were removed, and has gossip forget those that are gone. The node does so that leads the first shard.
func (n *Node) dismiss(ctx context.Context) {
	for _, m := range n.cluster.Members() {
		if m.ID == n.ID() || !n.members.Removed(m.ID) || m.Status == cluster.Left || !n.leadsFirst() {
			continue
		}
		if m.Status == cluster.Failed {
			if err := n.cluster.Remove(m.ID); err != nil {
				slog.Debug("a removed node is not forgotten", "node", m.ID, "error", err)
			}
			continue
		}
		if err := n.clients.Dismiss(ctx, shard.NodeID(m.ID)); err == nil {
			slog.Info("a removed node was told so", "node", m.ID)
		}
	}
}
