package e2e

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// naps is a job of so many tasks that wait.
func naps(tasks int, each time.Duration) string {
	items := make([]string, tasks)
	for i := range items {
		items[i] = fmt.Sprintf("%q", fmt.Sprint(each.Milliseconds(), " ", i))
	}
	return "{name: naps, stages: [{name: nap, function: nap/nap, items: [" + strings.Join(items, ", ") + "]}]}"
}

// where counts the tasks of a stage by the nodes that ran them.
func (n *target) where(t testing.TB, id, stage string) map[string]int {
	count := map[string]int{}
	for _, task := range n.tasks(t, id, stage) {
		if task.State != wattlev1.TaskState_TASK_STATE_COMPLETED || task.Attempt != 1 {
			t.Errorf("task %d is %v at attempt %d", task.Index, task.State, task.Attempt)
		}
		count[task.Node]++
	}
	return count
}

// A job whose shard one node leads runs on all of them, each task once.
func TestWorkSpreads(t *testing.T) {
	t.Parallel()
	clusters(t, node.Config{Slots: 8}, func(c *trio) {
		t := c.t
		const tasks, each = 1200, 10 * time.Millisecond
		c.nodes[0].pushFixture("nap")
		warm := c.nodes[0].submit(naps(48, 50*time.Millisecond), nil)
		c.nodes[0].complete(warm.Id)
		begin := time.Now()
		job := c.nodes[0].submit(naps(tasks, each), nil)
		c.nodes[1].complete(job.Id)
		took := time.Since(begin)
		where := c.nodes[2].where(t, job.Id, "nap")
		ideal := each * time.Duration(math.Ceil(tasks/24.0))
		t.Logf("%v for %v on 24 slots, ideally %v: %.2f; tasks by node: %v", took, each, ideal, took.Seconds()/ideal.Seconds(), where)
		if len(where) != 3 {
			t.Errorf("run on %v", where)
		}
	})
}

// The nodes that help read the files from the one that has them, and what others made from where it was made. A node that
// dies takes its part of it along: that is made again.
func TestDataStaysWhereItIs(t *testing.T) {
	t.Parallel()
	dir := goFiles("encoding")
	for name, start := range map[string]func(testing.TB, node.Config) *target{"process": inProcess, "binary": asBinary} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Only the first may read them.
			first := start(t, node.Config{Shards: 8, Slots: 2, AllowDirs: []string{dir}})
			cfg := node.Config{Slots: 4, Join: []string{first.addr}}
			c := &trio{t: t, start: start, nodes: [3]*target{first, start(t, cfg), start(t, cfg)}}
			for _, n := range c.nodes {
				n.settle()
			}
			c.whole()
			first.pushPlugin("wordcount")
			first.pushFixture("nap")
			want := countWords(t, dir)
			spec := func(nap string) string {
				return `{name: words, stages: [
  {name: count, function: wordcount/map, files: {dir: "${dir}", glob: "*.go", split_bytes: 20000}},
  {name: gate, function: nap/nap, value: "` + nap + `", after: count},
  {name: total, function: wordcount/reduce, reduce: {stage: count, partitions: 6}, after: gate}]}`
			}
			vars := map[string]string{"dir": dir}
			job := first.submit(spec("1"), vars)
			first.complete(job.Id)
			sameCounts(t, first.counts(job.Id, "total"), want)
			if where := first.where(t, job.Id, "count"); len(where) < 2 {
				t.Errorf("all run on %v", where)
			}
			// One that helped goes while the others wait for the gate.
			job = first.submit(spec("3000"), vars)
			eventually(t, "the maps are done", func() bool { return first.get(t, job.Id).Stages[0].State == wattlev1.StageState_STAGE_STATE_COMPLETED })
			had := uint32(first.where(t, job.Id, "count")[c.nodes[2].id()])
			c.nodes[2].kill()
			first.complete(job.Id)
			sameCounts(t, first.counts(job.Id, "total"), want)
			again := uint32(0)
			for _, task := range first.tasks(t, job.Id, "count") {
				again += min(task.Generation, 1)
			}
			if had == 0 || again != had {
				t.Errorf("%d tasks were made again of %d that the node had", again, had)
			}
		})
	}
}

// What one task of a stage put out is read by one of the next, on the node that has it as a rule: no node waits for that.
func TestTasksRunNearTheirInputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	line := strings.Repeat("near ", 200) + "\n"
	if err := os.WriteFile(filepath.Join(dir, "lines"), []byte(strings.Repeat(line, 96<<20/len(line))), 0o600); err != nil {
		t.Fatal(err)
	}
	clusters(t, node.Config{Slots: 2, AllowDirs: []string{dir}}, func(c *trio) {
		t := c.t
		c.nodes[0].pushFixture("echo")
		job := c.nodes[0].submit(`{name: near, stages: [
  {name: make, function: echo/echo, files: {dir: "${dir}", glob: lines, split_bytes: 1048576}},
  {name: use, function: echo/echo, each: make}]}`, map[string]string{"dir": dir})
		c.nodes[0].complete(job.Id)
		makes, uses := c.nodes[0].tasks(t, job.Id, "make"), c.nodes[0].tasks(t, job.Id, "use")
		near, where := 0, map[string]int{}
		for i := range uses {
			if where[uses[i].Node]++; uses[i].Node == makes[i].Node {
				near++
			}
		}
		t.Logf("%d of %d tasks ran where their inputs are; %v", near, len(uses), where)
		if len(uses) < 90 || near < len(uses)/2 {
			t.Errorf("%d of %d", near, len(uses))
		}
	})
}

// Input files on a node that is away are waited for, and not on one that was removed.
func TestInputsOfARemovedNode(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "words"), []byte("a b c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := asBinary(t, node.Config{Shards: 1, AllowDirs: []string{dir}})
	cfg := node.Config{Join: []string{first.addr}}
	c := &trio{t: t, start: asBinary, nodes: [3]*target{first, asBinary(t, cfg), asBinary(t, cfg)}}
	for _, n := range c.nodes {
		n.settle()
	}
	c.whole()
	first.pushFixture("nap")
	first.pushFixture("echo")
	job := first.submit(`{name: gone, stages: [
  {name: gate, function: nap/nap, value: "3000"},
  {name: read, function: echo/echo, files: {dir: "${dir}", glob: words}, after: gate}]}`, map[string]string{"dir": dir})
	gone := first.id()
	first.kill()
	waits := func() string {
		res, err := c.nodes[1].Jobs.ListTasks(t.Context(), connect.NewRequest(&wattlev1.ListTasksRequest{Id: job.Id, Stage: "read"}))
		if err != nil || len(res.Msg.Tasks[0].Errors) == 0 {
			return "" // while another leader is elected
		}
		return res.Msg.Tasks[0].Errors[0].Reason
	}
	eventually(t, "it is waited for", func() bool { return waits() == "input_away" })
	eventually(t, "the node is removed", func() bool {
		_, _, status := c.nodes[1].wattle("", "node", "remove", gone, "--force")
		return status == 0
	})
	if e := c.nodes[1].wait(job.Id).Error; e.Reason != "input_gone" {
		t.Error(e)
	}
}

// Whichever node is asked, it tells what runs right now, and where; a task that waits for a slot does not run. So do those that have no
// replica of the job's shard, and when another node leads it.
func TestWhatRunsShowsEverywhere(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, node.Config) *target{"process": inProcess, "binary": asBinary} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			showsEverywhere(t, newTrio(t, start, node.Config{Slots: 2, Shards: 1}))
		})
	}
}

func showsEverywhere(t *testing.T, c *trio) {
	c.nodes[0].pushFixture("nap")
	work := c.start(t, node.Config{Join: []string{c.nodes[0].addr}, Worker: true, Slots: 2})
	job := c.nodes[0].submit(naps(20, time.Hour), nil)
	check := func(nodes ...*target) {
		t.Helper()
		for i, n := range nodes {
			eventually(t, fmt.Sprintf("node %d of %d knows what runs", i, len(nodes)), func() bool { return int(n.get(t, job.Id).Stages[0].Running) == 2*len(nodes) })
			on := map[string]int{}
			for _, task := range n.tasks(t, job.Id, "nap") {
				switch task.State {
				case wattlev1.TaskState_TASK_STATE_RUNNING:
					on[task.Node]++
				case wattlev1.TaskState_TASK_STATE_AVAILABLE, wattlev1.TaskState_TASK_STATE_RETRYABLE: // what a leader ran that stopped
				default:
					t.Errorf("task %d is %v", task.Index, task.State)
				}
			}
			for k, other := range nodes {
				if id := other.self(t).Id; on[id] != 2 {
					t.Errorf("node %d says that so many run on node %d: %d, want 2", i, k, on[id])
				}
			}
		}
	}
	check(c.nodes[0], c.nodes[1], c.nodes[2], work)
	lead := c.leads(t)
	c.nodes[lead].stop()
	check(c.nodes[(lead+1)%3], c.nodes[(lead+2)%3], work)
	work.cancel(t, job.Id)
}
