package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// since asks a node since when each shard lacks something; nil if any does not say.
func (n *target) since() (all []time.Time) {
	res, err := n.Nodes.GetClusterStatus(n.t.Context(), connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
	if err != nil {
		return nil
	}
	for _, s := range res.Msg.Shards {
		if s.LackingSince == nil || s.Leader == "" {
			return nil
		}
		all = append(all, s.LackingSince.AsTime())
	}
	return all
}

// Since when shards lack a replica is the same whichever node is asked, and is told even after the node is gone that watched.
func TestLackingSince(t *testing.T) {
	t.Parallel()
	clusters(t, node.Config{}, func(c *trio) {
		t := c.t
		victim := -1
		eventually(t, "one leads the first shard", func() bool {
			res, err := c.nodes[0].Nodes.GetClusterStatus(t.Context(), connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
			if err != nil {
				return false
			}
			nodes, err := c.nodes[0].Nodes.ListNodes(t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
			if err != nil {
				return false
			}
			for i, n := range c.nodes {
				for _, o := range nodes.Msg.Nodes {
					if o.Addr == n.addr && o.Id == res.Msg.Shards[0].Leader {
						victim = i
					}
				}
			}
			return victim >= 0
		})
		before := time.Now()
		c.nodes[victim].kill()
		a, b := c.nodes[(victim+1)%3], c.nodes[(victim+2)%3]
		var since []time.Time
		eventually(t, "both say the same", func() bool {
			since = a.since()
			return len(since) == 8 && slices.EqualFunc(since, b.since(), time.Time.Equal)
		})
		for _, s := range since {
			if s.Before(before) || s.After(time.Now()) {
				t.Errorf("since %v, but the node was killed at %v", s, before)
			}
		}
		out, _, _ := b.wattle("", "cluster", "status")
		if strings.Count(out, "since ") != 8 {
			t.Errorf("cluster status: %s", out)
		}
		// The one that watched was killed: the other began when the shards lacked something already. One that stops in
		// good order hands over before.
		if a.bin && strings.Count(out, " ago or longer") != 8 {
			t.Errorf("cluster status: %s", out)
		}
		out, _, _ = b.wattle("", "cluster", "status", "--output", "json")
		var r struct {
			Shards []struct {
				LackingSince time.Time
			}
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Shards) != 8 || !r.Shards[3].LackingSince.Equal(since[3]) {
			t.Errorf("as JSON: %v, %s", err, out)
		}
		c.nodes[victim] = c.nodes[victim].again()
		c.whole()
		if since := c.nodes[victim].since(); since != nil {
			t.Errorf("all is well, but %v", since)
		}
		if !a.bin {
			return
		}
		// A worker that is gone is named as well, before gossip has found out and after.
		work := asBinary(t, node.Config{Join: []string{a.addr}, Worker: true})
		id := work.self(t).Id
		work.kill()
		for _, status := range []string{"silent", "failed"} {
			eventually(t, "a worker is "+status, func() bool {
				nodes, _, _ := a.wattle("", "node", "ls")
				shards, _, _ := a.wattle("", "cluster", "status")
				at := strings.Index(nodes, id)
				return at >= 0 && strings.Contains(strings.SplitN(nodes[at:], "\n", 2)[0], status) && strings.Contains(shards, "node "+id+" does not answer")
			})
		}
	})
}
