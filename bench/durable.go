package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

var durableBench = Bench{
	Name: "durable",
	About: "No-op tasks and jobs, each acknowledged only when it is synced, beside bare synced writes of 100 bytes to Pebble on the same disk: a record is the least " +
		"that durable work can cost; Wattle writes two for each task, over its API, with a fresh sandbox for each. Same durability on both sides.",
	Run: runDurable,
}

const taskCount = 5000

func runDurable(ctx context.Context, rounds int) (rows []Row, err error) {
	dir, err := os.MkdirTemp("", "wattle-bench-pebble-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var key atomic.Uint64
	write := func(context.Context) error {
		return db.Set([]byte(strconv.FormatUint(key.Add(1), 10)), make([]byte, 100), pebble.Sync)
	}
	raw := func(n int) func(context.Context) (sample, error) {
		return func(ctx context.Context) (sample, error) { return closedLoop(ctx, n, 2*time.Second, write) }
	}
	err = withNode(ctx, node.Config{}, func(c *client.Client, _ string) error {
		if _, _, err := c.Push(ctx, "noop", testdata.Wasm("noop"), client.PushOptions{}); err != nil {
			return err
		}
		items := make([]string, taskCount)
		tasks := func(ctx context.Context) (sample, error) {
			t := time.Now()
			if err := runJob(ctx, c, items); err != nil {
				return nil, err
			}
			return sample{"throughput": taskCount / time.Since(t).Seconds()}, nil
		}
		job := func(n int) func(context.Context) (sample, error) {
			return func(ctx context.Context) (sample, error) {
				return closedLoop(ctx, n, 3*time.Second, func(ctx context.Context) error { return runJob(ctx, c, []string{""}) })
			}
		}
		for _, b := range []struct {
			name    string
			metrics [][2]string
			ours    func(context.Context) (sample, error)
			beside  string
			theirs  func(context.Context) (sample, error)
		}{
			{fmt.Sprintf("one job of %d tasks", taskCount), loopMetrics[:1], tasks, "Pebble, 64 synced writers", raw(64)},
			{"jobs of one task, submit to finish, 64 clients", loopMetrics, job(64), "Pebble, 64 synced writers", raw(64)},
			{"jobs of one task, submit to finish, 1 client", loopMetrics, job(1), "Pebble, 1 synced writer", raw(1)},
		} {
			r, err := compare(ctx, "durable", b.name, b.beside, rounds, b.metrics, b.ours, b.theirs)
			if err != nil {
				return err
			}
			rows = append(rows, r...)
		}
		return nil
	})
	return rows, err
}

func runJob(ctx context.Context, c *client.Client, items []string) error {
	job, err := c.Submit(ctx, &wattlev1.JobSpec{Name: "noop", Stages: []*wattlev1.StageSpec{{
		Name: "noop", Function: "noop/noop", Input: &wattlev1.StageSpec_Items{Items: &wattlev1.ItemsInput{Items: items}},
	}}}, "")
	if err != nil {
		return err
	}
	if job, err = c.Watch(ctx, job.Id, nil); err != nil {
		return err
	}
	if job.State != wattlev1.JobState_JOB_STATE_COMPLETED {
		return fmt.Errorf("job %v: %v", job.State, job.Error)
	}
	return nil
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
