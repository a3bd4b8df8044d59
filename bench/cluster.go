package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

var clusterBench = Bench{
	Name: "cluster",
	About: "What several nodes are like to callers. All nodes are in this process, as are the callers, and share its CPUs; they speak with each other over TCP on loopback. " +
		"Push to callable: a module that no node has seen is pushed to one of three nodes; from when that is acknowledged, each node is called until it answers with the new version, beside a second; " +
		"and until each runs the calls itself, beside what the push took, in which the first node compiled the module. " +
		"Calls: 100 bytes echoed by a sandboxed function, by 64 clients, of one node, of three in turn, and of three that deal the calls out by the service's balance, beside a connect-go handler that answers its own request. " +
		"Overload: three nodes that may have a few calls under way each are called in turn, at half of what they can do and at twice that, by callers that do not wait for each other; the function waits for 20 ms. " +
		"At twice the load half of the calls must be refused: that is to take less than 10 ms, and those that are accepted are to take at most three times as long as at half load. " +
		"Blobs: 128 MiB fetched from one node and from three, each chunk verified by both sides and the whole on disk, beside a plain HTTP download that is synced as well. " +
		"Idle: each of three nodes, processes of the binary, with replicas of all 64 shards, beside one alone.",
	Run: runCluster,
}

func runCluster(ctx context.Context, rounds int) (rows []Row, err error) {
	slog.SetLogLoggerLevel(slog.LevelError) // nodes come and go
	for _, p := range []struct {
		name string
		run  part
	}{{"push", pushes}, {"calls", spreadCalls}, {"overload", overload}, {"blobs", blobs}, {"idle", idle}} {
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

// withCrew runs fn with so many nodes in this process that have a replica of every shard each.
func withCrew(ctx context.Context, n int, cfg node.Config, fn func(*fleet) error) (err error) {
	dir, err := os.MkdirTemp("", "wattle-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, n)
	f, started := &fleet{}, 0
	defer func() {
		stop()
		for range started {
			err = errors.Join(err, <-ended)
		}
	}()
	for i := range n {
		cfg.Data, cfg.Addr = filepath.Join(dir, fmt.Sprint("data", i)), "127.0.0.1:0"
		if i > 0 {
			cfg.Join = []string{f.nodes[0].addr}
		}
		nd, err := node.New(ctx, cfg)
		if err != nil {
			return err
		}
		started++
		go func() { ended <- nd.Run(running) }()
		select {
		case <-nd.Ready():
		case <-ctx.Done():
			return ctx.Err()
		}
		p := &process{id: nd.ID(), addr: nd.Addr(), Client: client.Dial(nd.Addr())}
		defer p.Close()
		f.nodes = append(f.nodes, p)
	}
	if err := f.whole(ctx); err != nil {
		return err
	}
	return fn(f)
}

// known waits until every node has a version.
func (f *fleet) known(ctx context.Context, service, function string, payload []byte) error {
	for _, p := range f.nodes {
		for {
			res, err := p.Functions.Invoke(ctx, connect.NewRequest(&wattlev1.InvokeRequest{Service: service, Function: function, Payload: payload}))
			if err == nil && res.Msg.Node == p.id {
				break
			}
			if err != nil && !client.IsNotFound(err) {
				return err
			}
			if err := pause(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
