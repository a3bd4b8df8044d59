package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/testdata"
)

var replicationBench = Bench{
	Name: "replication",
	About: "What it costs that every shard has three replicas, and what it is worth. All nodes are on this machine and share its CPUs and its disk; every write is synced by whoever keeps it before it is acknowledged. " +
		"Raw replicated writes: commands of 100 bytes proposed to the shards of three engines in this process, which speak over TCP on loopback and write each command into their state as well; " +
		"beside bare synced writes of 100 bytes to Pebble; beside go.etcd.io/raft by itself, one group of three that writes to synced Pebble logs, speaks over channels and keeps no state; " +
		"and beside three members of etcd in this process, asked by a function call as the engines are. Over each API: aliases set on three nodes of Wattle, puts of 100 bytes to three members of etcd with its own client, each asking the leader. " +
		"Submissions of jobs of one task, acknowledged when durable, while those before run, and no-op tasks from submission to end, several jobs at once: three nodes that are processes of their own, asked in turn, beside one such node, and one beside Pebble. " +
		"Failover: the node that leads the shards under load is killed with SIGKILL, again and again; counted is the time from there to when another node acknowledges that a job has run that was submitted after, on the first and on the last of the shards it led; " +
		"and to when a task that it was running has begun again, and has ended, beside what the task takes. " +
		"Idle cost of 64 shards, of each of three nodes beside one that is alone. Growth: one node under load by jobs and calls, all at the first node, with the retries of the Go client and no others, becomes three and then five.",
	Run: runReplication,
}

// part is one piece of the comparison.
type part func(ctx context.Context, rounds int) ([]Row, error)

func runReplication(ctx context.Context, rounds int) (rows []Row, err error) {
	for _, p := range []struct {
		name string
		run  part
	}{{"raw writes", rawWrites}, {"nodes", submissions}, {"failover", failovers}, {"growth", growth}} {
		t := time.Now()
		more, err := p.run(ctx, rounds)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		rows = append(rows, more...)
		fmt.Fprintf(os.Stderr, "%s took %s\n", p.name, time.Since(t).Round(time.Second))
	}
	return rows, nil
}

// many is how many clients are many.
const many = 64

func clients(n int) string {
	if n == 1 {
		return "1 client"
	}
	return fmt.Sprint(n, " clients")
}

// loop is a side of a comparison: n clients that do something for a while, a short one if that is not to be repeated.
func loop(rounds, n int, fn func(context.Context) error) func(context.Context) (sample, error) {
	d := 2 * time.Second
	if rounds == 1 {
		d /= 2
	}
	return func(ctx context.Context) (sample, error) { return closedLoop(ctx, n, d, fn) }
}

// submissions compares one node and three, and goes on with what these cost when nothing is asked of them.
func submissions(ctx context.Context, rounds int) (rows []Row, err error) {
	raw, stop, err := pebbleWrites()
	if err != nil {
		return nil, err
	}
	defer stop()
	err = withFleet(ctx, 1, func(one *fleet) error {
		return withFleet(ctx, 3, func(three *fleet) error {
			for _, f := range []*fleet{one, three} {
				if _, _, err := f.nodes[0].Push(ctx, "noop", testdata.Wasm("noop"), client.PushOptions{}); err != nil {
					return err
				}
			}
			add := func(name, beside string, metrics [][2]string, ours, theirs func(context.Context) (sample, error)) error {
				r, err := compare(ctx, "replication", name, beside, rounds, metrics, ours, theirs)
				rows = append(rows, r...)
				return err
			}
			for _, n := range []int{1, many} {
				what := "submit acknowledged, " + clients(n)
				of := func(f *fleet) func(context.Context) (sample, error) {
					measure := loop(rounds, n, f.submit())
					return func(ctx context.Context) (sample, error) {
						// The other side's jobs would go on beside these.
						if err := rest(ctx, restTime, one, three); err != nil {
							return nil, err
						}
						return measure(ctx)
					}
				}
				if err := add(what+", one node", pebbleBeside(n), loopMetrics, of(one), loop(rounds, n, raw)); err != nil {
					return err
				}
				if err := add(what+", three nodes", "one node", loopMetrics, of(three), of(one)); err != nil {
					return err
				}
			}
			if err := rest(ctx, restTime, one, three); err != nil {
				return err
			}
			of := func(f *fleet) func(context.Context) (sample, error) { return f.tasks }
			if err := add("durable no-op tasks, one node", pebbleBeside(many), loopMetrics[:1], of(one), loop(rounds, many, raw)); err != nil {
				return err
			}
			if err := add("durable no-op tasks, three nodes", "one node", loopMetrics[:1], of(three), of(one)); err != nil {
				return err
			}
			// What their records set off in the stores goes on for a while.
			if err := rest(ctx, 10*restTime, one, three); err != nil {
				return err
			}
			r, err := idleCost(ctx, rounds, one, three)
			rows = append(rows, r...)
			return err
		})
	})
	return rows, err
}

func noops(items int) *wattlev1.JobSpec {
	return &wattlev1.JobSpec{Name: "noop", Stages: []*wattlev1.StageSpec{{
		Name: "noop", Function: "noop/noop", Input: &wattlev1.StageSpec_Items{Items: &wattlev1.ItemsInput{Items: make([]string, items)}},
	}}}
}

// submit answers a way to hand over a job of one task, to one node after the other.
func (f *fleet) submit() func(context.Context) error {
	var next turns
	return func(ctx context.Context) error {
		_, err := f.nodes[next.of(len(f.nodes))].Submit(ctx, noops(1), "")
		return err
	}
}

// Jobs of so many tasks run at once: enough that every node leads some.
const taskJobs, taskEach = 12, 400

func (f *fleet) tasks(ctx context.Context) (sample, error) {
	begin := time.Now()
	errs := make(chan error, taskJobs)
	for i := range taskJobs {
		go func() { errs <- runOne(ctx, f.nodes[i%len(f.nodes)], noops(taskEach)) }()
	}
	for range taskJobs {
		if err := <-errs; err != nil {
			return nil, err
		}
	}
	return sample{"throughput": taskJobs * taskEach / time.Since(begin).Seconds()}, nil
}

// restTime is how long nothing has run when nothing is left to run.
const restTime = 400 * time.Millisecond

// rest waits until nothing has run on nodes for a while.
func rest(ctx context.Context, d time.Duration, all ...*fleet) error {
	for since := time.Now(); time.Since(since) < d; {
		for _, f := range all {
			res, err := f.nodes[0].Nodes.ListNodes(ctx, connect.NewRequest(&wattlev1.ListNodesRequest{}))
			if err != nil {
				return err
			}
			for _, n := range res.Msg.Nodes {
				if n.Running > 0 {
					since = time.Now()
				}
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(restTime / 8):
		}
	}
	return nil
}
