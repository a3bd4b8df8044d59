package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

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
