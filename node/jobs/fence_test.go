package jobs

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/wattlehq/wattle/dag"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// answering are shards of which only one question is answered: whether an attempt counts.
type answering struct {
	Shards
	table *shard.Table
	asked int
	err   error
}

func (a *answering) Table() *shard.Table { return a.table }

func (a *answering) Read(context.Context, machine.Slot, machine.ID, func(machine.Reader) error) error {
	a.asked++
	return a.err
}

type requests struct {
	host.Capabilities
	made int
}

func (r *requests) HTTP(context.Context, *host.HTTPRequest) (*host.HTTPResponse, error) {
	r.made++
	return &host.HTTPResponse{}, nil
}

// As a rule an attempt makes requests without asking anybody. After its process was stopped for a while it asks, and one that another
// has replaced makes none until it is stopped.
func TestFence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table, err := shard.NewTable(1)
		if err != nil {
			t.Fatal(err)
		}
		shards := &answering{table: table}
		s := NewScheduler(Config{Slots: 1})
		s.Connect(shards, nil)
		a := &Attempt{Pick: dag.Pick{Task: dag.TaskID{Job: "j"}, Attempt: 1}}
		s.woke, s.rounded = time.Now(), time.Now()
		time.Sleep(time.Millisecond)
		s.holder.Hand(a.Pick)
		a.confirmed = time.Now()
		out := &requests{}
		f := fenced{out, func(ctx context.Context) error { return s.Counts(ctx, a) }}
		if _, err := f.HTTP(t.Context(), nil); err != nil || out.made != 1 || shards.asked != 0 {
			t.Fatalf("%v, %d requests, asked %d times", err, out.made, shards.asked)
		}
		// The process was stopped; its next round finds out.
		time.Sleep(time.Minute)
		s.woke, s.rounded = time.Now(), time.Now()
		time.Sleep(time.Millisecond)
		if _, err := f.HTTP(t.Context(), nil); err != nil || out.made != 2 || shards.asked != 1 {
			t.Fatalf("%v, %d requests, asked %d times", err, out.made, shards.asked)
		}
		time.Sleep(time.Minute)
		shards.err = errors.New("another attempt took over")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errJobOver) })
		if _, err := f.HTTP(ctx, nil); !errors.Is(err, errJobOver) || out.made != 2 {
			t.Errorf("%v, %d requests", err, out.made)
		}
	})
}
