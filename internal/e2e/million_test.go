package e2e

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

var million = flag.Int("million", 20_000, "how many tasks that do nothing TestMillion runs")

// resident is the memory of the node's process in bytes, at its peak.
func (n *target) resident(t testing.TB) int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// A great many tasks run on three nodes, of which two are killed and replaced on the way: each counts once.
func TestMillion(t *testing.T) {
	t.Parallel()
	c := newTrio(t, asBinary, node.Config{Shards: 8, Grace: time.Second})
	c.nodes[0].pushFixture("noop")
	items := strings.Repeat("x, ", *million-1) + "x"
	begin := time.Now()
	job := c.nodes[0].submit("{name: million, stages: [{name: all, function: noop/noop, items: ["+items+"]}]}", nil)
	t.Logf("submitted after %v", time.Since(begin))
	done := func() int { return int(c.nodes[0].get(t, job.Id).Stages[0].Completed) }
	for i, at := range []int{*million / 4, *million / 2} {
		victim := c.nodes[2-i]
		eventuallyWithin(t, 30*time.Minute, fmt.Sprintf("%d tasks are done", at), func() bool { return done() >= at })
		t.Logf("%d tasks after %v; %d MiB", done(), time.Since(begin), c.nodes[0].resident(t)>>20)
		gone := victim.id()
		victim.kill()
		refused := ""
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(refused)
			}
		})
		eventually(t, "the node is removed", func() (done bool) { // once the others have caught up
			var status int
			_, refused, status = c.nodes[0].wattle("", "node", "remove", gone, "--force")
			return status == 0
		})
		c.nodes[2-i] = asBinary(t, node.Config{Grace: time.Second, Join: []string{c.nodes[0].addr}})
		c.whole()
	}
	eventuallyWithin(t, time.Hour, "all are done", func() bool { return c.nodes[0].get(t, job.Id).State != wattlev1.JobState_JOB_STATE_RUNNING })
	took := time.Since(begin)
	got := c.nodes[0].get(t, job.Id)
	if s := got.Stages[0]; got.State != wattlev1.JobState_JOB_STATE_COMPLETED || int(s.Completed) != *million {
		t.Fatalf("%v: %d of %d", got, s.Completed, *million)
	}
	t.Logf("%d tasks in %v: %.0f a second", *million, took, float64(*million)/took.Seconds())
	for _, n := range c.nodes {
		t.Logf("%s: at most %d MiB", n.addr, n.resident(t)>>20)
	}
}
