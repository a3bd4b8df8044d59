package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
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

// A node is emptied, used again, and leaves under load: no request fails, and it ends by itself.
func TestDrainAndLeave(t *testing.T) {
	t.Parallel()
	clusters(t, node.Config{}, func(c *trio) {
		t := c.t
		c.nodes[0].pushFixture("echo")
		for _, n := range c.nodes {
			c.call(n, "hello")
		}
		a, b, leaver := c.nodes[0], c.nodes[1], c.nodes[2]
		f := beginTraffic(t, c.nodes[:]...)
		f.flows(200)
		id := leaver.id()
		out, stderr, status := a.wattle("", "node", "drain", id[:8], "--wait")
		if status != 0 || !strings.Contains(out, "is empty; every shard has 2 replicas") {
			t.Fatalf("drain: %d %s%s", status, out, stderr)
		}
		a.on(a, b)
		f.flows(200)
		for _, n := range c.nodes { // the decision is known everywhere, also where nothing is kept
			eventually(t, "drained", func() bool {
				out, _, _ := n.wattle("", "node", "ls")
				return strings.Count(out, "alive, drained") == 1 && strings.Count(out, "alive") == 3
			})
		}
		if out, _, _ := leaver.wattle("", "cluster", "status"); !strings.Contains(out, "8 with all of 2 replicas") || !strings.Contains(out, id+" is being emptied") {
			t.Errorf("cluster status: %s", out)
		}
		// It is known after a restart as well.
		leaver.stop()
		c.nodes[2] = leaver.again()
		leaver = c.nodes[2]
		f.flows(200)
		a.on(a, b)
		if out, stderr, status := b.wattle("", "node", "drain", id, "--undo"); status != 0 || !strings.Contains(out, "is used again") {
			t.Fatalf("undo: %d %s%s", status, out, stderr)
		}
		c.whole()
		f.flows(200)
		if out, stderr, status := leaver.wattle("", "node", "leave"); status != 0 || !strings.Contains(out, id+" has left") {
			t.Fatalf("leave: %d %s%s", status, out, stderr)
		}
		leaver.stop() // it has ended, without an error
		f.flows(200)
		a.on(a, b)
		// It comes back as it was before.
		c.nodes[2] = leaver.again()
		c.whole()
		f.flows(200)
		f.end(c.nodes[2])
		if got := c.nodes[2].id(); got != id {
			t.Errorf("it is %s now, and was %s", got, id)
		}
	})
}

// A node that is gone is removed under load: the others have what it had at once, and it never comes back.
func TestRemove(t *testing.T) {
	t.Parallel()
	clusters(t, node.Config{}, func(c *trio) {
		t := c.t
		c.nodes[0].pushFixture("echo")
		for _, n := range c.nodes {
			c.call(n, "hello")
		}
		a, b, gone := c.nodes[0], c.nodes[1], c.nodes[2]
		id := gone.id()
		for _, args := range []string{"drain nobody", "remove nobody", "drain n-"} {
			_, stderr, status := a.wattle("", append([]string{"node"}, strings.Fields(args)...)...)
			if status != 1 || !strings.Contains(stderr, "wattle node ls") && !strings.Contains(stderr, "more of the name") {
				t.Errorf("%s: %d %s", args, status, stderr)
			}
		}
		if _, stderr, status := a.wattle("", "node", "remove", id); status != 1 || !strings.Contains(stderr, "is alive") || !strings.Contains(stderr, "--force") || !strings.Contains(stderr, "node leave") {
			t.Errorf("remove alive: %d %s", status, stderr)
		}
		f := beginTraffic(t, a, b)
		f.flows(200)
		gone.stop()
		eventually(t, "it is removed", func() bool {
			_, _, status := b.wattle("", "node", "remove", id)
			return status == 0
		})
		a.on(a, b)
		f.flows(200)
		for _, n := range []*target{a, b} {
			if out, _, _ := n.wattle("", "node", "ls"); strings.Contains(out, id) {
				t.Errorf("node ls: %s", out)
			}
		}
		// It hears of it when it comes back.
		_, stderr, status := runWattle(t, "", "", upArgs(gone.cfg)...)
		if status != 1 || !strings.Contains(stderr, "was removed from its cluster") || !strings.Contains(stderr, gone.data) {
			t.Errorf("it came back: %d %s", status, stderr)
		}
		if err := os.RemoveAll(gone.data); err != nil {
			t.Fatal(err)
		}
		c.nodes[2] = gone.again()
		c.whole()
		f.flows(200)
		f.end(a)
		// One that is alive is removed by force.
		id = c.nodes[2].id()
		c.nodes[2].ends = "was removed from its cluster"
		if _, stderr, status := a.wattle("", "node", "remove", id, "--force"); status != 0 {
			t.Fatalf("remove --force: %d %s", status, stderr)
		}
		c.nodes[2].stop()
		a.on(a, b)
	})
}

// Nothing is removed whose loss would leave a shard without a quorum, and the last node cannot be emptied.
func TestRefusesToLose(t *testing.T) {
	t.Parallel()
	first := inProcess(t, node.Config{Shards: 2})
	if _, stderr, status := first.wattle("", "node", "drain", first.id()); status != 1 || !strings.Contains(stderr, "the last to keep replicas") {
		t.Errorf("drain: %d %s", status, stderr)
	}
	if _, stderr, status := first.wattle("", "node", "leave"); status != 1 || !strings.Contains(stderr, "the last to keep replicas") {
		t.Errorf("leave: %d %s", status, stderr)
	}
	second := inProcess(t, node.Config{Join: []string{first.addr}})
	first.on(first, second)
	// Of two that are decided about at once, one stays.
	var drained sync.Map
	var both sync.WaitGroup
	for _, n := range []*target{first, second} {
		both.Go(func() {
			_, stderr, status := n.wattle("", "node", "drain", n.id())
			if drained.Store(n, status == 0); status != 0 && !strings.Contains(stderr, "the last to keep replicas") {
				t.Errorf("drain: %d %s", status, stderr)
			}
		})
	}
	both.Wait()
	one, _ := drained.Load(first)
	other, _ := drained.Load(second)
	if one == other {
		t.Errorf("drained: %v and %v", one, other)
	}
	for _, n := range []*target{first, second} {
		if _, stderr, status := first.wattle("", "node", "drain", n.id(), "--undo"); status != 0 {
			t.Error(stderr)
		}
	}
	first.on(first, second)
	id := second.id()
	second.stop()
	eventually(t, "it is refused", func() bool {
		_, stderr, status := first.wattle("", "node", "remove", id)
		return status == 1 && strings.Contains(stderr, "no quorum of shard 0, 1")
	})
}

// A node that others can reach says that nothing protects it, whatever the log level, and so do its lists.
func TestExposed(t *testing.T) {
	t.Parallel()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(freeAddr(), ":")
	cmd := exec.Command(bin, "up", "--data", t.TempDir(), "--addr", "0.0.0.0:"+port, "--insecure", "--shards", "1", "--log-level", "error")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err, stderr.String())
	}
	for _, args := range []string{"node ls", "cluster status"} {
		out, _, status := runWattle(t, "", "", append([]string{"--addr", "127.0.0.1:" + port}, strings.Fields(args)...)...)
		if status != 0 || !strings.Contains(out, "none") {
			t.Errorf("%s: %d %s", args, status, out)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if s := stderr.String(); !strings.Contains(s, "NOTHING PROTECTS THIS NODE") || !strings.Contains(s, ":"+port) {
		t.Errorf("stderr: %s", s)
	}
	safe := asBinary(t, node.Config{Shards: 1})
	if out, _, _ := safe.wattle("", "node", "ls"); !strings.Contains(out, "loopback") {
		t.Errorf("node ls: %s", out)
	}
}

// Nodes that keep everything are restarted in turn, and clients that reach them through a worker do not notice.
func TestRollingRestartBehindWorker(t *testing.T) {
	t.Parallel()
	c := newTrio(t, inProcess, node.Config{Shards: 8})
	work := inProcess(t, node.Config{Join: []string{c.nodes[0].addr}, Worker: true})
	work.pushFixture("echo")
	c.call(work, "hello")
	f := beginTraffic(t, work)
	for i := range c.nodes {
		f.flows(200)
		c.nodes[i].stop()
		f.flows(200)
		c.nodes[i] = c.nodes[i].again()
		c.whole()
	}
	f.flows(200)
	f.end(work)
}
