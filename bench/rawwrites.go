package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"connectrpc.com/connect"
	"github.com/cockroachdb/pebble/v2"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/testdata"
)

// turns counts whose turn it is.
type turns struct{ n atomic.Uint64 }

func (t *turns) of(n int) int { return int(t.n.Add(1) % uint64(n)) }

// pebbleWrites answers a way to write 100 bytes to a Pebble of its own, synced.
func pebbleWrites() (write func(context.Context) error, stop func(), err error) {
	dir, err := os.MkdirTemp("", "wattle-bench-pebble-")
	if err != nil {
		return nil, nil, err
	}
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		os.RemoveAll(dir)
		return nil, nil, err
	}
	var key atomic.Uint64
	write = func(context.Context) error {
		return db.Set([]byte(strconv.FormatUint(key.Add(1), 10)), []byte(hundred), pebble.Sync)
	}
	return write, func() { db.Close(); os.RemoveAll(dir) }, nil
}

func pebbleBeside(n int) string {
	if n == 1 {
		return "Pebble, 1 synced writer"
	}
	return fmt.Sprintf("Pebble, %d synced writers", n)
}

// raws collects the rows of raw writes.
type raws struct {
	rounds int
	rows   []Row
}

// both compares with one client and with many.
func (r *raws) both(ctx context.Context, name string, beside func(n int) string, ours, theirs func(context.Context) error) error {
	for _, n := range []int{1, many} {
		rows, err := compare(ctx, "replication", name+", "+clients(n), beside(n), r.rounds, loopMetrics, loop(r.rounds, n, ours), loop(r.rounds, n, theirs))
		if err != nil {
			return err
		}
		r.rows = append(r.rows, rows...)
	}
	return nil
}

func always(beside string) func(int) string { return func(int) string { return beside } }

func rawWrites(ctx context.Context, rounds int) ([]Row, error) {
	r := &raws{rounds: rounds}
	for _, f := range []func(context.Context) error{r.besideLibraries, r.besideEtcd} {
		if err := f(ctx); err != nil {
			return nil, err
		}
	}
	return r.rows, nil
}

// besideLibraries compares one shard with what it consists of.
func (r *raws) besideLibraries(ctx context.Context) error {
	raw, stop, err := pebbleWrites()
	if err != nil {
		return err
	}
	defer stop()
	one, err := newEngines(ctx, 1)
	if err != nil {
		return err
	}
	defer one.close()
	if err := r.both(ctx, "replicated write, 1 shard", pebbleBeside, one.write, raw); err != nil {
		return err
	}
	alone, err := newRaftAlone(ctx)
	if err != nil {
		return err
	}
	defer alone.close()
	return r.both(ctx, "replicated write, 1 shard", always("etcd's raft library, 1 group"), one.write, alone.write)
}

func (r *raws) besideEtcd(ctx context.Context) error {
	etcd, err := newEtcdTrio(ctx)
	if err != nil {
		return err
	}
	defer etcd.close()
	for _, shards := range []uint32{1, shard.DefaultShards} {
		if err := r.shards(ctx, shards, etcd); err != nil {
			return err
		}
	}
	return withFleet(ctx, 3, func(f *fleet) error {
		set, err := f.aliases(ctx)
		if err != nil {
			return err
		}
		return r.both(ctx, "alias set over the API, three nodes", always("etcd, by its client"), set, etcd.put)
	})
}

func (r *raws) shards(ctx context.Context, n uint32, etcd *etcdTrio) error {
	e, err := newEngines(ctx, n)
	if err != nil {
		return err
	}
	defer e.close()
	name := "replicated write, 1 shard"
	if n > 1 {
		name = fmt.Sprintf("replicated write, %d shards", n)
	}
	return r.both(ctx, name, always("etcd, by a function call"), e.write, etcd.call)
}

// aliases answers a way to write into the registry by the API, at the node that leads its shard: to one service after the other, so
// that each stays as small as what is written beside it.
func (f *fleet) aliases(ctx context.Context) (func(context.Context) error, error) {
	lead, err := f.leads(ctx)
	if err != nil {
		return nil, err
	}
	leader := f.nodes[0]
	for _, p := range f.nodes {
		if lead[p.id][0] { // the registry's
			leader = p
		}
	}
	for i := range many {
		for _, wasm := range []string{"noop", "echo"} {
			if _, _, err := leader.Push(ctx, fmt.Sprint("s", i), testdata.Wasm(wasm), client.PushOptions{}); err != nil {
				return nil, err
			}
		}
	}
	var n atomic.Uint64
	return func(ctx context.Context) error {
		i := n.Add(1)
		_, err := leader.Registry.SetAlias(ctx, connect.NewRequest(&wattlev1.SetAliasRequest{
			Service: fmt.Sprint("s", i%many), Alias: strings.Repeat("a", 60), Number: 1 + i/many%2,
		}))
		return err
	}, nil
}

// leads answers the shards that each node leads.
func (f *fleet) leads(ctx context.Context) (map[string]map[shard.ID]bool, error) {
	res, err := f.nodes[0].Nodes.GetClusterStatus(ctx, connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
	if err != nil {
		return nil, err
	}
	all := map[string]map[shard.ID]bool{}
	for _, s := range res.Msg.Shards {
		if all[s.Leader] == nil {
			all[s.Leader] = map[shard.ID]bool{}
		}
		all[s.Leader][shard.ID(s.Id)] = true
	}
	return all, nil
}
