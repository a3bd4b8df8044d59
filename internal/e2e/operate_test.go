package e2e

import (
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// listed returns a node as another one lists it, or nil.
func (n *target) listed(addr string) *wattlev1.Node {
	res, err := n.Nodes.ListNodes(n.t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
	if err != nil {
		return nil
	}
	for _, o := range res.Msg.Nodes {
		if o.Addr == addr {
			return o
		}
	}
	return nil
}

// on waits until every shard has its replicas on these nodes and nowhere else.
func (n *target) on(nodes ...*target) {
	n.t.Helper()
	eventually(n.t, "replicas on these nodes alone", func() bool {
		var ids []string
		for _, o := range nodes {
			m := n.listed(o.addr)
			if m == nil {
				return false
			}
			ids = append(ids, m.Id)
		}
		slices.Sort(ids)
		res, err := n.Nodes.GetClusterStatus(n.t.Context(), connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
		if err != nil || res.Msg.Want != uint32(min(3, len(ids))) || len(res.Msg.Silent) > 0 {
			return false
		}
		for _, s := range res.Msg.Shards {
			var on []string
			for _, r := range s.Replicas {
				on = append(on, r.Node)
			}
			if slices.Sort(on); s.Leader == "" || s.Changing || !slices.Equal(on, ids) || int(s.Live) != len(ids) {
				return false
			}
		}
		return true
	})
}

// A worker keeps nothing, and is emptied if it kept something; the others keep what they would without it.
func TestWorkerNode(t *testing.T) {
	t.Parallel()
	first := inProcess(t, node.Config{Shards: 8})
	second := inProcess(t, node.Config{Join: []string{first.addr}})
	work := inProcess(t, node.Config{Join: []string{first.addr}, Worker: true})
	for _, n := range []*target{first, second, work} {
		n.settle()
	}
	first.on(first, second)
	c := &trio{t: t, nodes: [3]*target{first, second, work}}
	work.pushFixture("echo")
	for _, n := range c.nodes {
		c.call(n, "hello")
	}
	job := work.complete(work.submit("{name: j, stages: [{name: a, function: echo/echo, items: [one, two]}]}", nil).Id)
	if got := second.output(t, job.Id, "a", -1); got != "onetwo" {
		t.Errorf("the result is %q", got)
	}
	if out, _, _ := second.wattle("", "node", "ls"); strings.Count(out, "alive, worker") != 1 || strings.Count(out, "alive") != 3 {
		t.Errorf("node ls: %s", out)
	}
	if out, _, _ := work.wattle("", "cluster", "status"); !strings.Contains(out, "8 with all of 2 replicas") || !strings.Contains(out, "workers: 1,") {
		t.Errorf("cluster status: %s", out)
	}
	// One that keeps replicas becomes a worker, and a full node again.
	for _, worker := range []bool{false, true, false} {
		work.stop()
		work.cfg.Worker, work.cfg.Join = worker, nil
		work = work.again()
		if worker {
			first.on(first, second)
		} else {
			first.on(first, second, work)
		}
		c.nodes[2] = work
		for _, n := range c.nodes {
			c.call(n, "still")
		}
	}
}

// A worker needs a cluster.
func TestWorkerAlone(t *testing.T) {
	t.Parallel()
	alone := inProcess(t, node.Config{Shards: 1})
	alone.stop()
	for _, data := range []string{t.TempDir(), alone.data} {
		_, stderr, status := runWattle(t, "", "", "up", "--data", data, "--addr", "127.0.0.1:0", "--worker")
		if status != 1 || !strings.Contains(stderr, "knows of no cluster") || !strings.Contains(stderr, "--join") {
			t.Errorf("status %d: %s", status, stderr)
		}
	}
}

// Three nodes are restarted in turn while clients of every protocol use them: no request fails, nothing is done twice.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	dir := goFiles("encoding")
	clusters(t, node.Config{AllowDirs: []string{dir}}, func(c *trio) {
		t := c.t
		c.nodes[0].pushFixture("echo")
		c.nodes[0].pushPlugin("wordcount")
		want := countWords(t, dir)
		for _, n := range c.nodes {
			c.call(n, "hello")
		}
		f := beginTraffic(t, c.nodes[:]...)
		for i := range c.nodes {
			f.flows(300)
			other := c.nodes[(i+1)%3]
			job := other.submit(wordcountSpec, map[string]string{"dir": dir, "split": "100000"}).Id
			c.nodes[i].stop()
			f.flows(300)
			c.nodes[i] = c.nodes[i].again()
			c.whole()
			other.complete(job)
			sameCounts(t, other.counts(job, "total"), want)
		}
		f.flows(300)
		f.end(c.nodes[0])
	})
}
