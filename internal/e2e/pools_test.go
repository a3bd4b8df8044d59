package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// self is what a node says of itself.
func (n *target) self(t testing.TB) *wattlev1.Node {
	t.Helper()
	res, err := n.Nodes.ListNodes(t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.Nodes[0]
}

// tasksOn counts the tasks of a stage by the nodes that ran them, in whatever attempt: shards may change their leaders.
func (n *target) tasksOn(t testing.TB, id, stage string) map[string]int {
	t.Helper()
	count := map[string]int{}
	for _, x := range n.tasks(t, id, stage) {
		count[x.Node]++
	}
	return count
}

// Tasks of a pool run on its nodes and nowhere else, whoever leads their jobs; the others go on with what is for all.
func TestPools(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, node.Config) *target{"process": inProcess, "binary": asBinary} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &trio{t: t, start: start}
			for i, pools := range [][]string{nil, {"gpu"}, {"gpu", "eu"}} {
				cfg := node.Config{Shards: 8, Slots: 2, Pools: pools}
				if i > 0 {
					cfg.Join = []string{c.nodes[0].addr}
				}
				c.nodes[i] = start(t, cfg)
			}
			c.whole()
			c.nodes[0].pushFixture("nap")
			var ids []string
			for i, n := range c.nodes {
				self := n.self(t)
				if want := [][]string{nil, {"gpu"}, {"gpu", "eu"}}[i]; !slices.Equal(self.Pools, want) {
					t.Errorf("node %d says that its pools are %q", i, self.Pools)
				}
				ids = append(ids, self.Id)
			}
			items := strings.Repeat(`"1 x", `, 30)
			spec := fmt.Sprintf(`stages:
  - {name: gpu, function: nap/nap, pool: gpu, items: [%s]}
  - {name: eu, function: nap/nap, pool: eu, items: [%[1]s]}
  - {name: all, function: nap/nap, items: [%[1]s]}`, items)
			for range 8 { // led by all of them
				job := c.nodes[0].submit(spec, nil)
				c.nodes[0].complete(job.Id)
				where := c.nodes[1].tasksOn(t, job.Id, "gpu")
				if delete(where, ids[1]); len(where) > 1 || len(where) == 1 && where[ids[2]] == 0 {
					t.Errorf("tasks for gpu ran on %v", where)
				}
				if where := c.nodes[2].tasksOn(t, job.Id, "eu"); where[ids[2]] != 30 {
					t.Errorf("tasks for eu ran on %v", where)
				}
			}
			late := c.nodes[0].submit(`stages: [{name: s, function: nap/nap, pool: tpu, value: "1 x"}]`, nil)
			for i, n := range c.nodes {
				eventually(t, fmt.Sprintf("node %d says what a job waits for", i), func() bool {
					return n.get(t, late.Id).Stages[0].Waiting == `no node of pool "tpu" is known; known pools: eu, gpu`
				})
			}
			out, _, _ := c.nodes[0].wattle("", "job", "get", late.Id)
			if !strings.Contains(out, "nap@1/nap on tpu") || !strings.Contains(out, `stage s waits: no node of pool "tpu"`) {
				t.Errorf("wattle job get: %s", out)
			}
			if out, _, _ := c.nodes[0].wattle("", "node", "ls"); strings.Count(out, "pools gpu") != 2 || !strings.Contains(out, "pools gpu eu") {
				t.Errorf("wattle node ls: %s", out)
			}
			tpu := start(t, node.Config{Join: []string{c.nodes[0].addr}, Pools: []string{"tpu"}, Worker: true})
			c.nodes[0].complete(late.Id)
			if where := c.nodes[0].tasksOn(t, late.Id, "s"); where[tpu.self(t).Id] != 1 {
				t.Errorf("the task for tpu ran on %v", where)
			}
		})
	}
}

// What a client has outlives the node that gave it, led the job or was asked: its extensions and its output count, and nobody else gets
// the task meanwhile.
func TestExternalOutlivesLeader(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, node.Config) *target{"process": inProcess, "binary": asBinary} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newTrio(t, start, node.Config{Shards: 1})
			lead := c.leads(t)
			leader, other, third := c.nodes[lead], c.nodes[(lead+1)%3], c.nodes[(lead+2)%3]
			job := leader.submit(`stages: [{name: s, external: true, items: [a, b]}]`, nil)
			task := other.acquire(t, &wattlev1.AcquireTasksRequest{Client: "survivor", Lease: durationpb.New(time.Minute)})
			for i, n := range c.nodes {
				if s := n.get(t, job.Id).Stages[0]; s.Running != 1 {
					t.Errorf("node %d says that %d run", i, s.Running)
				}
			}
			if leader.bin {
				leader.kill()
			} else {
				leader.stop()
			}
			// The leader may have gone with the first one in hand: then nobody knows whether it counts, and it is sent again.
			eventually(t, "the lease is extended after the leader is gone", func() bool {
				err := other.extend(t.Context(), task.Token, time.Minute)
				if err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
					t.Fatal("extended after the leader is gone:", err)
				}
				return err == nil
			})
			next := third.acquire(t, &wattlev1.AcquireTasksRequest{MaxTasks: 10, Client: "next"})
			if next.Task == task.Task {
				t.Errorf("task %d was given away although a client has it", task.Task)
			}
			if res, err := other.Jobs.AcquireTasks(t.Context(), connect.NewRequest(&wattlev1.AcquireTasksRequest{})); err != nil || len(res.Msg.Tasks) > 0 {
				t.Errorf("a third task: %v, %v", res, err)
			}
			for _, x := range []*wattlev1.AcquiredTask{task, next} {
				if err := third.finish(t.Context(), x.Token, "done "+string(x.Input)); err != nil {
					t.Fatal(err)
				}
			}
			other.complete(job.Id)
			for i, want := range []string{"done a", "done b"} {
				if out := other.output(t, job.Id, "s", i); out != want {
					t.Errorf("output %q, want %q", out, want)
				}
			}
			for _, x := range other.tasks(t, job.Id, "s") {
				if x.Attempt != 1 || !strings.HasPrefix(x.Node, "client/") {
					t.Errorf("task %v", x)
				}
			}
		})
	}
}

// A client that waits at a node that leads nothing is woken by a job that comes elsewhere, and clients of several nodes share the work.
func TestExternalOnCluster(t *testing.T) {
	t.Parallel()
	clusters(t, node.Config{}, func(c *trio) {
		t := c.t
		bare := c.start(t, node.Config{Join: []string{c.nodes[0].addr}, Worker: true, Pools: []string{"other"}})
		var mu sync.Mutex
		ran := map[string]int{}
		type answer struct {
			res *connect.Response[wattlev1.AcquireTasksResponse]
			err error
		}
		waits := make(chan answer, 1)
		go func() {
			res, err := bare.Jobs.AcquireTasks(t.Context(), connect.NewRequest(&wattlev1.AcquireTasksRequest{Wait: durationpb.New(time.Minute), MaxTasks: 2}))
			waits <- answer{res, err}
		}()
		job := c.nodes[1].submit(`stages: [{name: s, external: true, items: [a, b, c, d, e, f, g, h, i, j, k, l]}]`, nil)
		first := <-waits
		if first.err != nil || len(first.res.Msg.Tasks) != 2 {
			t.Fatalf("the one that waited got %v, %v", first.res, first.err)
		}
		for _, x := range first.res.Msg.Tasks {
			if _, err := c.nodes[2].Jobs.FinishTask(t.Context(), connect.NewRequest(&wattlev1.FinishTaskRequest{
				Token: x.Token, Outcome: &wattlev1.FinishTaskRequest_Release{Release: &wattlev1.TaskRelease{}},
			})); err != nil {
				t.Fatal(err)
			}
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for i, n := range append(c.nodes[:], bare) {
			running.Go(func() {
				err := n.Work(ctx, client.WorkOptions{Name: fmt.Sprint("c", i)}, func(_ context.Context, x *client.ExternalTask) ([]byte, error) {
					mu.Lock()
					defer mu.Unlock()
					ran[fmt.Sprint(x.Task)]++
					return nil, nil
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		c.nodes[0].complete(job.Id)
		stop()
		running.Wait()
		for task, n := range ran {
			if n != 1 {
				t.Errorf("task %s ran %d times", task, n)
			}
		}
		if len(ran) != 12 {
			t.Errorf("ran: %v", slices.Sorted(maps.Keys(ran)))
		}
	})
}
