package jobs

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// recording are shards that note when outcomes are put in, and how many at a time. It takes a while.
type recording struct {
	Shards
	table *shard.Table
	began time.Time
	takes time.Duration
	at    []time.Duration
	n     []int
}

func (r *recording) Table() *shard.Table { return r.table }

func (r *recording) Propose(_ context.Context, p shard.Proposal) (machine.Result, error) {
	c := &storev1.JobCommand{}
	if err := proto.Unmarshal(p.Body, c); err != nil {
		return machine.Result{}, err
	}
	r.at, r.n = append(r.at, time.Since(r.began)), append(r.n, len(c.GetFinishes().GetFinishes()))
	time.Sleep(r.takes)
	return machine.Result{}, nil
}

// Outcomes of a job are recorded together if more are to come soon, and nobody waits for the last one.
func TestOutcomesTravelTogether(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, c := range map[string]struct {
		took  time.Duration
		ends  []time.Duration // of the attempts, in order
		stays bool            // one more runs
		at    []time.Duration
		n     []int
	}{
		"one alone":                   {20 * ms, []time.Duration{0}, false, []time.Duration{0}, []int{1}},
		"short ones":                  {ms, []time.Duration{0, 2 * ms}, true, []time.Duration{0, 2 * ms}, []int{1, 1}},
		"a fourth of the time":        {8 * ms, []time.Duration{0, ms, 2*ms + 1}, true, []time.Duration{2 * ms, 4*ms + 1}, []int{2, 1}},
		"not for long":                {time.Hour, []time.Duration{0, ms, 4 * ms, 6 * ms}, true, []time.Duration{5 * ms, 11 * ms}, []int{3, 1}},
		"the last one":                {time.Hour, []time.Duration{0, ms, 2 * ms}, false, []time.Duration{2 * ms}, []int{3}},
		"behind one that is recorded": {time.Hour, []time.Duration{0, 5*ms + 1, 5*ms + 2, 5*ms + 3}, false, []time.Duration{5 * ms, 6 * ms}, []int{1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				table, err := shard.NewTable(1)
				if err != nil {
					t.Fatal(err)
				}
				r := &recording{table: table, began: time.Now(), takes: ms}
				s := NewScheduler(Config{Slots: 8})
				s.Connect(r, nil)
				attempt := func(i int) *Attempt {
					a := &Attempt{Pick: dag.Pick{Task: dag.TaskID{Job: "j", Index: uint32(i)}, Attempt: 1}}
					s.attempts[a.ID()] = a
					s.holder.Hand(a.Pick)
					s.holder.Next()
					a.ctx, a.cancel = context.WithCancelCause(t.Context())
					return a
				}
				var all []*Attempt
				for i := range c.ends {
					all = append(all, attempt(i))
				}
				if c.stays {
					defer attempt(100).cancel(nil)
				}
				for i, a := range all {
					time.Sleep(c.ends[i] - time.Since(r.began))
					s.Done(a, Outcome{Finish: &storev1.Finish{
						Task: a.Task.Index, Attempt: 1, Usage: &wattlev1.CallUsage{Duration: durationpb.New(c.took)},
						Outcome: &storev1.Finish_Released{Released: &storev1.Release{}},
					}})
				}
				s.finishing.Wait()
				if !slices.Equal(r.at, c.at) || !slices.Equal(r.n, c.n) {
					t.Errorf("%v at %v, want %v at %v", r.n, r.at, c.n, c.at)
				}
			})
		})
	}
}
