package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/testdata"
)

// napTime is what the task takes that is interrupted.
const napTime = 3 * time.Second

// Clients that keep the shards of the victim busy.
const streams = 4

// What failovers are to take at most, in the middle and at worst.
const aimedMedian, aimedMost = 1500, 3000

func failovers(ctx context.Context, rounds int) (rows []Row, err error) {
	kills := 20
	if rounds == 1 {
		kills = 3
	}
	got := map[string][]float64{}
	err = withFleet(ctx, 3, func(f *fleet) error {
		for name, wasm := range map[string][]byte{"noop": testdata.Wasm("noop"), "nap": testdata.Wasm("nap")} {
			if _, _, err := f.nodes[0].Push(ctx, name, wasm, client.PushOptions{}); err != nil {
				return err
			}
		}
		table, err := shard.NewTable(shard.DefaultShards)
		if err != nil {
			return err
		}
		k := &keys{table: table}
		for i := range kills {
			o, err := f.failover(ctx, i%len(f.nodes), k)
			if err != nil {
				return fmt.Errorf("kill %d: %w", i+1, err)
			}
			for k, v := range o {
				got[k] = append(got[k], v...)
			}
			if err := f.whole(ctx); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%d kills of a leader, ", kills)
	add := func(what, key, beside string, p50, most float64) {
		v := slices.Sorted(slices.Values(got[key]))
		for _, m := range []struct {
			metric    string
			v, beside float64
		}{{"p50", median(v), p50}, {"max", v[len(v)-1], most}} {
			rows = append(rows, Row{Bench: "replication", Case: name + what, Metric: m.metric, Unit: "ms", Wattle: m.v, Beside: beside, Other: m.beside, Ratio: m.v / m.beside})
		}
	}
	nap := float64(napTime.Milliseconds())
	add("first task on any shard it led", "first", "at most", aimedMedian, aimedMost)
	add("first task on each shard it led", "each", "at most", aimedMedian, aimedMost)
	add("interrupted task begins again", "again", "at most", aimedMedian, aimedMost)
	add("interrupted task ends", "ended", "the task's time", nap, nap)
	return rows, nil
}

// failover kills a node, sees what the others make of it, and starts it again.
func (f *fleet) failover(ctx context.Context, v int, k *keys) (map[string][]float64, error) {
	victim := f.nodes[v]
	others := []*process{f.nodes[(v+1)%3], f.nodes[(v+2)%3]}
	leads, err := f.leads(ctx)
	if err != nil {
		return nil, err
	}
	var ids []shard.ID
	for id := range leads[victim.id] {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	busy, stop := context.WithCancel(ctx)
	defer stop()
	load := &background{}
	for i := range streams {
		load.run(busy, func(ctx context.Context) error {
			return runKey(ctx, others[i%2], noops(1), k.in(ids[int(load.done.Load())%len(ids)]))
		})
	}
	key := k.in(ids[0])
	nap := &wattlev1.JobSpec{Name: "nap", Stages: []*wattlev1.StageSpec{{
		Name: "nap", Function: "nap/nap", Input: &wattlev1.StageSpec_Items{Items: &wattlev1.ItemsInput{Items: []string{strconv.FormatInt(napTime.Milliseconds(), 10)}}},
	}}}
	job, err := others[0].Submit(ctx, nap, key)
	if err != nil {
		return nil, err
	}
	for {
		j, err := victim.Jobs.GetJob(ctx, connect.NewRequest(&wattlev1.GetJobRequest{Id: job.Id}))
		if err != nil {
			return nil, err
		}
		if j.Msg.Job.Stages[0].Running > 0 {
			break
		}
		if client.Final(j.Msg.Job.State) {
			return nil, errors.New("the task that was to be interrupted ran elsewhere")
		}
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(napTime / 6)
	if leads, err = f.leads(ctx); err != nil {
		return nil, err
	}
	// Leaders may move by themselves; what then runs elsewhere is not interrupted.
	if !leads[victim.id][ids[0]] {
		return nil, fmt.Errorf("shard %d is led by another node now", ids[0])
	}
	led := slices.DeleteFunc(slices.Clone(ids), func(id shard.ID) bool { return !leads[victim.id][id] })
	begin := time.Now()
	if err := victim.kill(); err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var failed error
	out := map[string][]float64{}
	var wg sync.WaitGroup
	// after notes when it was that fn came back.
	after := func(what string, fn func() error) {
		wg.Go(func() {
			err := fn()
			t := time.Since(begin).Seconds() * 1000
			mu.Lock()
			defer mu.Unlock()
			failed, out[what] = errors.Join(failed, err), append(out[what], t)
		})
	}
	for i, id := range led {
		after("each", func() error { return runKey(ctx, others[i%2], noops(1), k.in(id)) })
	}
	after("again", func() error { return others[0].began(ctx, job.Id, 2) })
	after("ended", func() error { return ended(ctx, others[1], job.Id) })
	wg.Wait()
	stop()
	if err := errors.Join(failed, load.wait()); err != nil {
		return nil, err
	}
	out["first"] = []float64{slices.Min(out["each"])}
	fmt.Fprintf(os.Stderr, "failover of %d shards: their first tasks after %.0f to %.0f ms, the interrupted task again after %.0f ms, ended after %.0f ms\n",
		len(led), slices.Min(out["each"]), slices.Max(out["each"]), out["again"][0], out["ended"][0])
	return out, victim.up(ctx, f.bin)
}

// began waits until the only task of a job is at an attempt.
func (p *process) began(ctx context.Context, job string, attempt uint32) error {
	for {
		res, err := p.Jobs.ListTasks(ctx, connect.NewRequest(&wattlev1.ListTasksRequest{Id: job, Stage: "nap"}))
		// Unavailable is to be expected while nobody leads.
		if err != nil && connect.CodeOf(err) != connect.CodeUnavailable {
			return err
		}
		if err == nil && res.Msg.Tasks[0].Attempt >= attempt {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// runOne submits a job and waits until it has run.
func runOne(ctx context.Context, p *process, spec *wattlev1.JobSpec) error {
	return runKey(ctx, p, spec, "")
}

func runKey(ctx context.Context, p *process, spec *wattlev1.JobSpec, key string) error {
	job, err := p.Submit(ctx, spec, key)
	if err != nil {
		return err
	}
	return ended(ctx, p, job.Id)
}

func ended(ctx context.Context, p *process, id string) error {
	job, err := p.Watch(ctx, id, nil)
	if err == nil && job.State != wattlev1.JobState_JOB_STATE_COMPLETED {
		err = fmt.Errorf("job %v: %v", job.State, job.Error)
	}
	return err
}

// keys are idempotency keys of jobs that lie in certain shards.
type keys struct {
	table *shard.Table
	n     atomic.Uint64
}

func (k *keys) in(id shard.ID) string {
	for {
		key := strconv.FormatUint(k.n.Add(1), 10)
		if k.table.Of(shard.SlotOf(string(dag.NewJobID(dag.DefaultNamespace, key)))) == id {
			return key
		}
	}
}

// background are clients that do something again and again, and note what fails.
type background struct {
	wg     sync.WaitGroup
	done   atomic.Int64
	failed atomic.Int64
	mu     sync.Mutex
	first  error
}

func (b *background) run(ctx context.Context, fn func(context.Context) error) {
	b.wg.Go(func() {
		for ctx.Err() == nil {
			err := fn(ctx)
			switch {
			case err == nil:
				b.done.Add(1)
			case ctx.Err() == nil:
				b.failed.Add(1)
				b.mu.Lock()
				if b.first == nil {
					b.first = err
				}
				b.mu.Unlock()
			}
		}
	})
}

// wait returns when all have stopped, with the first failure.
func (b *background) wait() error {
	b.wg.Wait()
	if b.first != nil {
		return fmt.Errorf("%d requests failed: %w", b.failed.Load(), b.first)
	}
	return nil
}
