package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// trio are three nodes, each on data of its own.
type trio struct {
	t     *testing.T
	start func(testing.TB, node.Config) *target
	nodes [3]*target
}

// clusters runs a case on three nodes in this process, and on three of the binary.
func clusters(t *testing.T, cfg node.Config, fn func(c *trio)) {
	cfg.Shards = 8
	for name, start := range map[string]func(testing.TB, node.Config) *target{"process": inProcess, "binary": asBinary} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fn(newTrio(t, start, cfg))
		})
	}
}

// newTrio returns three nodes that have all shards.
func newTrio(t *testing.T, start func(testing.TB, node.Config) *target, cfg node.Config) *trio {
	c := &trio{t: t, start: start}
	c.nodes[0] = start(t, cfg)
	joining := cfg
	joining.Join = []string{c.nodes[0].addr}
	c.nodes[1], c.nodes[2] = start(t, joining), start(t, joining)
	for _, n := range c.nodes {
		n.settle()
	}
	c.whole()
	return c
}

// settle has the node come back at the addresses it has.
func (n *target) settle() {
	n.t.Helper()
	res, err := n.Nodes.ListNodes(n.t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
	if err != nil {
		n.t.Fatal(err)
	}
	self := res.Msg.Nodes[0]
	n.cfg.Addr, n.cfg.GossipAddr, n.cfg.PeerAddr = self.Addr, self.GossipAddr, self.PeerAddr
}

// whole waits until every shard has three voters that are there, as any of the nodes sees it.
func (c *trio) whole() {
	c.t.Helper()
	for _, n := range c.nodes {
		var last string
		c.t.Cleanup(func() {
			if c.t.Failed() && !strings.Contains(last, "live:3") {
				c.t.Logf("%s last said: %s", n.addr, last)
			}
		})
		eventually(c.t, "three replicas of every shard", func() bool {
			res, err := n.Nodes.GetClusterStatus(c.t.Context(), connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
			if err != nil {
				last = err.Error()
				return false
			}
			if last = fmt.Sprint(res.Msg); res.Msg.Want != 3 || len(res.Msg.Silent) > 0 {
				return false
			}
			for _, s := range res.Msg.Shards {
				if s.Leader == "" || s.Changing || s.Live != 3 || s.Voters != 3 || len(s.Replicas) != 3 {
					return false
				}
			}
			return true
		})
	}
}

// leads returns which node leads the only shard.
func (c *trio) leads(t testing.TB) int {
	t.Helper()
	status, err := c.nodes[0].Nodes.GetClusterStatus(t.Context(), connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
	if err != nil || len(status.Msg.Shards) != 1 {
		t.Fatal(err, status)
	}
	return slices.IndexFunc(c.nodes[:], func(n *target) bool { return n.id() == status.Msg.Shards[0].Leader })
}

func (c *trio) call(n *target, want string) {
	c.t.Helper()
	// The news of a version reach each node by itself.
	eventually(c.t, "echo answers", func() bool {
		got, err := n.Invoke(c.t.Context(), "echo/echo", []byte(want))
		return err == nil && string(got) == want
	})
}

// Whatever is asked of one node is known to all; nothing is lost with any one of them, killed, damaged or wiped.
func TestCluster(t *testing.T) {
	t.Parallel()
	dir := goFiles("encoding")
	clusters(t, node.Config{AllowDirs: []string{dir}}, func(c *trio) {
		t := c.t
		c.nodes[1].pushFixture("echo")
		c.nodes[2].pushPlugin("wordcount")
		for i, n := range c.nodes {
			c.call(n, fmt.Sprint("hello ", i))
		}
		want := countWords(t, dir)
		vars := map[string]string{"dir": dir, "split": "100000"}
		var jobs []string
		for i := range c.nodes {
			victim, other := c.nodes[i], c.nodes[(i+1)%3]
			// Jobs of all shards, so that some are led by the one that goes.
			var running []string
			for range 6 {
				running = append(running, other.submit(wordcountSpec, vars).Id)
			}
			eventually(t, "jobs run", func() bool {
				for _, id := range running {
					if s := other.get(t, id).Stages[0]; s.Completed > 0 {
						return true
					}
				}
				return false
			})
			if victim.bin {
				victim.kill()
			} else {
				victim.stop()
			}
			for _, id := range running {
				other.complete(id)
				sameCounts(t, other.counts(id, "total"), want)
			}
			c.call(other, "still here")
			jobs = append(jobs, running...)
			switch i {
			case 1: // Its disk has rotted.
				victim.cfg.Join = nil
				if err := os.WriteFile(filepath.Join(victim.data, "WAL"), []byte("rot"), 0o600); err != nil {
					t.Fatal(err)
				}
			case 2: // It comes back without its disk.
				if err := os.RemoveAll(victim.data); err != nil {
					t.Fatal(err)
				}
				victim.cfg.Join = []string{other.addr}
			}
			c.nodes[i] = victim.again()
			c.whole()
			if aside, err := filepath.Glob(filepath.Join(victim.data, "damaged-*", "log")); err != nil || i == 1 && len(aside) != 1 {
				t.Errorf("put aside: %v, %v", aside, err)
			}
		}
		for _, n := range c.nodes {
			for _, id := range jobs {
				sameCounts(t, n.counts(id, "total"), want)
			}
			c.call(n, "at the end")
		}
		eventually(t, "cluster status says that all is well", func() bool {
			out, _, status := c.nodes[0].wattle("", "cluster", "status")
			return status == 0 && strings.Contains(out, "8 shards, 8 with a leader, 8 with all of 3 replicas")
		})
	})
}

// A node without any replica serves what the others have, and takes what they keep.
func TestNodeWithoutReplicas(t *testing.T) {
	t.Parallel()
	nodes := []*target{inProcess(t, node.Config{Shards: 1})}
	for range 3 {
		nodes = append(nodes, inProcess(t, node.Config{Join: []string{nodes[0].addr}}))
	}
	c := &trio{t: t, nodes: [3]*target(nodes[:3])}
	var bare *target
	eventually(t, "three of four have a replica", func() bool {
		res, err := nodes[0].Nodes.ListNodes(t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
		if err != nil || len(res.Msg.Nodes) != 4 {
			return false
		}
		with := 0
		for _, n := range res.Msg.Nodes {
			if n.Replicas > 0 {
				with++
				continue
			}
			for _, o := range nodes {
				if o.addr == n.Addr {
					bare = o
				}
			}
		}
		return with == 3
	})
	bare.pushFixture("echo")
	for _, n := range nodes {
		c.call(n, "hello")
	}
	nodes[0].pushFixture("mapreduce")
	eventually(t, "the bare node knows of a push elsewhere", func() bool {
		_, err := bare.Registry.GetService(t.Context(), connect.NewRequest(&wattlev1.GetServiceRequest{Name: "mapreduce"}))
		return err == nil
	})
	job := bare.complete(bare.submit("{name: j, stages: [{name: a, function: echo/echo, items: [one, two, three]}]}", nil).Id)
	if got := bare.output(t, job.Id, "a", -1); got != "onetwothree" {
		t.Errorf("the result is %q", got)
	}
	if out, _, status := bare.wattle("", "job", "ls"); status != 0 || !strings.Contains(out, job.Id) {
		t.Errorf("job ls: %d %s", status, out)
	}
}

// What was pushed to one node alone is on those that join it later, and outlives it.
func TestModulesFollow(t *testing.T) {
	t.Parallel()
	first := inProcess(t, node.Config{Shards: 1})
	first.pushFixture("echo")
	second, third := inProcess(t, node.Config{Join: []string{first.addr}}), inProcess(t, node.Config{Join: []string{first.addr}})
	c := &trio{t: t, nodes: [3]*target{first, second, third}}
	c.whole()
	eventually(t, "the module is everywhere", func() bool {
		res, err := first.Nodes.ListNodes(t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
		return err == nil && len(res.Msg.Nodes) == 3 && !slices.ContainsFunc(res.Msg.Nodes, func(n *wattlev1.Node) bool { return n.Blobs == 0 })
	})
	first.stop()
	c.call(second, "it is here")
	c.call(third, "and here")
}

// A node that starts while all others are away answers calls by what it knew.
func TestStartAlone(t *testing.T) {
	t.Parallel()
	c := newTrio(t, inProcess, node.Config{Shards: 8})
	c.nodes[1].pushFixture("echo")
	for _, n := range c.nodes {
		c.call(n, "together")
	}
	for _, n := range c.nodes {
		n.stop()
	}
	c.call(c.nodes[0].again(), "alone")
}

// A node keeps to its own cluster.
func TestOtherCluster(t *testing.T) {
	t.Parallel()
	a, b := inProcess(t, node.Config{Shards: 1}), inProcess(t, node.Config{Shards: 1})
	b.stop()
	_, stderr, status := runWattle(t, "", "", "up", "--data", b.data, "--addr", "127.0.0.1:0", "--join", a.addr)
	if status != 1 || !strings.Contains(stderr, "belongs to cluster") || !strings.Contains(stderr, "--data") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
