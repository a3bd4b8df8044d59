package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/plugins"
	sdkguest "github.com/wattlehq/wattle/sdk-guest"
)

// closedLoop has n clients call fn one after the other for d, and returns throughput and latencies. The first tenth is
// warm-up and does not count.
func closedLoop(ctx context.Context, n int, d time.Duration, fn func(context.Context) error) (sample, error) {
	var mu sync.Mutex
	var lats []time.Duration
	var failed error
	begin := time.Now()
	warm, end := begin.Add(d/10), begin.Add(d)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var mine []time.Duration
			for {
				t := time.Now()
				if t.After(end) || ctx.Err() != nil {
					break
				}
				if err := fn(ctx); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
					return
				}
				if t.After(warm) {
					mine = append(mine, time.Since(t))
				}
			}
			mu.Lock()
			lats = append(lats, mine...)
			mu.Unlock()
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, failed
	}
	if len(lats) == 0 {
		return nil, fmt.Errorf("nothing finished within %s", d)
	}
	slices.Sort(lats)
	at := func(q float64) float64 {
		return lats[min(int(q*float64(len(lats))), len(lats)-1)].Seconds() * 1000
	}
	return sample{"throughput": float64(len(lats)) / end.Sub(warm).Seconds(), "p50": at(0.5), "p99": at(0.99)}, nil
}

var loopMetrics = [][2]string{{"throughput", "1/s"}, {"p50", "ms"}, {"p99", "ms"}}

// withNode runs fn with a client of a throw-away node.
func withNode(ctx context.Context, cfg node.Config, fn func(*client.Client, string) error) error {
	dir, err := os.MkdirTemp("", "wattle-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg.Data, cfg.Addr = filepath.Join(dir, "data"), "127.0.0.1:0"
	n, err := node.New(ctx, cfg)
	if err != nil {
		return err
	}
	nctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(nctx) }()
	select {
	case <-n.Ready():
	case err := <-ended:
		stop()
		return err
	}
	c := client.Dial(n.Addr())
	err = fn(c, n.Addr())
	c.Close()
	stop()
	if e := <-ended; err == nil {
		err = e
	}
	return err
}

// plugin builds one of the repository's plugins, by its folder.
func plugin(ctx context.Context, name string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "wattle-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	src, err := fs.Sub(plugins.FS, name)
	if err != nil {
		return nil, err
	}
	out := filepath.Join(dir, "plugin.wasm")
	if err := sdkguest.BuildPlugin(ctx, src, "guest", out); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
}

func versions() string {
	v := []string{runtime.Version()}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			switch m.Path {
			case "connectrpc.com/connect", "github.com/cockroachdb/pebble/v2", "github.com/tetratelabs/wazero", "go.etcd.io/raft/v3", "go.etcd.io/etcd/server/v3":
				v = append(v, m.Path+" "+m.Version)
			}
		}
	}
	return strings.Join(v, ", ")
}
