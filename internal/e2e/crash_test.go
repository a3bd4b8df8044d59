package e2e

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

var (
	crashKills = flag.Int("crash.kills", 3, "how often TestCrash kills the node, over all runs")
	crashRuns  = flag.Int("crash.runs", 1, "over how many data directories the kills are spread")
	crashSeed  = flag.Uint64("crash.seed", 1, "when the node is killed")
	crashInput = flag.String("crash.input", "net/http", "which part of the Go standard library is counted; . is all of it")
)

// TestCrash kills the node with SIGKILL at random moments while it counts words for several jobs, and starts it again.
// Every job that was acknowledged comes to its end with exact counts, and nothing that was finished runs twice.
func TestCrash(t *testing.T) {
	t.Parallel()
	dir := goFiles(*crashInput)
	want := countWords(t, dir)
	for run := range *crashRuns {
		kills := *crashKills/(*crashRuns) + min(1, max(0, *crashKills%*crashRuns-run))
		t.Run(fmt.Sprint(run), func(t *testing.T) {
			start := time.Now()
			c := &crashRun{t: t, dir: dir, rng: rand.New(rand.NewPCG(*crashSeed, uint64(run))), seen: map[string]map[string]string{}}
			c.run(kills)
			c.finish(want)
			t.Logf("%d kills, %d jobs, %d finished tasks seen before a kill, %d submissions without an answer, in %s",
				kills, len(c.jobs), c.checked, c.unanswered, time.Since(start).Round(time.Millisecond))
		})
	}
}

type crashRun struct {
	t    *testing.T
	n    *target
	dir  string
	rng  *rand.Rand
	jobs []string
	keys map[string]string
	// seen is what was recorded of finished tasks, by job.
	seen                map[string]map[string]string
	checked, unanswered int
}

// run kills the node again and again. Between the kills two jobs are handed over and everything is watched.
func (c *crashRun) run(kills int) {
	c.keys = map[string]string{}
	c.n = asBinary(c.t, node.Config{AllowDirs: []string{c.dir}, TrimEntries: 50, ShuffleBytes: 1 << 20, Shards: 8})
	c.n.pushPlugin("wordcount")
	for kill := range kills {
		// Some come back on the port they had, as a service manager would have it, some on another.
		if c.n.cfg.Addr = ""; c.rng.IntN(2) == 0 {
			c.n.cfg.Addr = c.n.addr
		}
		var submitting sync.WaitGroup
		answers := make([]string, 2)
		keys := make([]string, len(answers))
		errs := make([]error, len(answers))
		for i := range answers {
			keys[i] = fmt.Sprintf("job %d of kill %d", i, kill)
			submitting.Go(func() { answers[i], errs[i] = c.try(keys[i]) })
		}
		// Every third kill comes while the jobs are handed over, the others while they run.
		if kill%3 == 2 {
			<-time.NewTimer(time.Duration(c.rng.Int64N(int64(5 * time.Millisecond)))).C
		} else {
			submitting.Wait()
			if err := errors.Join(errs...); err != nil {
				c.t.Fatal(err)
			}
			c.watchUntil(time.NewTimer(time.Duration(c.rng.Int64N(int64(1500 * time.Millisecond)))))
		}
		c.n.kill()
		submitting.Wait()
		c.n = c.n.again()
		for i, id := range answers {
			c.settle(keys[i], id)
		}
		c.compare()
	}
}

// try submits a job once. The node may not live to answer.
func (c *crashRun) try(key string) (string, error) {
	spec, err := dag.ParseSpec([]byte(wordcountSpec), map[string]string{"dir": c.dir, "split": "200000"})
	if err != nil {
		return "", err
	}
	res, err := c.n.Jobs.SubmitJob(c.t.Context(), connect.NewRequest(&wattlev1.SubmitJobRequest{Spec: spec, IdempotencyKey: key}))
	if err != nil {
		return "", err
	}
	return res.Msg.Job.Id, nil
}

// settle submits a job again under its key: it is the same one, and there whether it was acknowledged or not.
func (c *crashRun) settle(key, id string) {
	again, err := c.try(key)
	if err != nil || id != "" && again != id {
		c.t.Fatalf("%s was %s and is %s, %v", key, id, again, err)
	}
	if id == "" {
		c.unanswered++
	}
	c.jobs = append(c.jobs, again)
	c.keys[key] = again
}

// watchUntil looks at the tasks of all jobs over and over until the timer fires: the last look is what counts as seen.
func (c *crashRun) watchUntil(timer *time.Timer) {
	defer timer.Stop()
	for {
		res, err := c.n.Jobs.ListJobs(c.t.Context(), connect.NewRequest(&wattlev1.ListJobsRequest{}))
		if err == nil {
			for _, j := range res.Msg.Jobs {
				if seen, err := finished(c.t.Context(), c.n.Client, j.Id); err == nil {
					c.seen[j.Id] = seen
				}
			}
		}
		select {
		case <-timer.C:
			return
		default:
		}
	}
}

// compare checks that the tasks that were seen finished still are, by the same attempt with the same output.
func (c *crashRun) compare() {
	for id, seen := range c.seen {
		c.checked += len(seen)
		if err := stays(id, seen)(c.t.Context(), c.n.Client); err != nil {
			c.t.Errorf("job %s after a kill: %v", id, err)
		}
	}
}

// finish waits for everything and compares the results.
func (c *crashRun) finish(want map[string]int) {
	for _, id := range c.jobs {
		job := c.n.complete(id)
		sameCounts(c.t, c.n.counts(id, "total"), want)
		if job.Error != nil {
			c.t.Errorf("job %s: %v", id, job.Error)
		}
	}
	c.compare()
	res, err := c.n.Jobs.ListJobs(c.t.Context(), connect.NewRequest(&wattlev1.ListJobsRequest{Limit: 1000}))
	if err != nil {
		c.t.Fatal(err)
	}
	if len(res.Msg.Jobs) != len(c.keys) || len(c.jobs) != len(c.keys) {
		c.t.Errorf("%d jobs under %d keys", len(res.Msg.Jobs), len(c.keys))
	}
}

// A client that watches a job notices nothing of a kill but that it takes longer, provided the node comes back where it was.
func TestCrashBehindClient(t *testing.T) {
	t.Parallel()
	dir := goFiles("net/http")
	want := countWords(t, dir)
	n := asBinary(t, node.Config{AllowDirs: []string{dir}})
	n.cfg.Addr = n.addr
	n.pushPlugin("wordcount")
	id := n.submit(wordcountSpec, map[string]string{"dir": dir, "split": "20000"}).Id
	progress := make(chan struct{}, 1)
	done := make(chan error, 1)
	go func() {
		job, err := n.Watch(t.Context(), id, func(j *wattlev1.Job) {
			if j.Stages[0].Completed > 0 {
				select {
				case progress <- struct{}{}:
				default:
				}
			}
		})
		if err == nil && job.State != wattlev1.JobState_JOB_STATE_COMPLETED {
			err = fmt.Errorf("%v: %v", job.State, job.Error)
		}
		done <- err
	}()
	select {
	case <-progress:
	case err := <-done:
		t.Fatal("over before the kill:", err)
	}
	n.kill()
	m := n.again()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	sameCounts(t, m.counts(id, "total"), want)
}
