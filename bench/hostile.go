package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/testdata"
)

var hostileBench = Bench{
	Name: "hostile",
	About: "A well-behaved echo on a node of its own process, by one client, while 16 callers keep guests running that mean harm: endless loops and recursion, memory that grows without end, " +
		"floods of output, log lines and host calls. Beside it the same echo on the same node when nothing else runs there. Then how long after their deadline of 200 ms the harmful ones end.",
	Run: runHostile,
}

var harmful = []string{"spin", "fib", "recurse", "membomb", "fillflood", "outflood", "logflood", "callflood"}

func runHostile(ctx context.Context, rounds int) ([]Row, error) {
	var rows []Row
	err := withBinary(ctx, func(addr string) error {
		c := client.Dial(addr)
		defer c.Close()
		for service, wasm := range map[string][]byte{"good": testdata.Wasm("echo"), "hostile": testdata.Wasm("hostile")} {
			o := client.PushOptions{Limits: &wattlev1.Limits{MemoryBytes: 64 << 20, Timeout: durationpb.New(2 * time.Second)}}
			if _, _, err := c.Push(ctx, service, wasm, o); err != nil {
				return err
			}
		}
		quiet := caller(addr, 1, "good/echo")
		besieged := func(ctx context.Context) (sample, error) {
			stop := besiege(ctx, addr)
			defer stop()
			return quiet(ctx)
		}
		var err error
		if rows, err = compare(ctx, "hostile", "echo among harmful guests", "echo alone", rounds, loopMetrics, besieged, quiet); err != nil {
			return err
		}
		late, err := lateness(ctx, addr)
		if err != nil {
			return err
		}
		for _, name := range harmful {
			if d, ok := late[name]; ok {
				rows = append(rows, Row{Bench: "hostile", Case: "end after the deadline, " + name, Metric: "median", Unit: "ms", Wattle: d, Beside: "the deadline", Other: 200, Ratio: (200 + d) / 200})
			}
		}
		return nil
	})
	return rows, err
}

// besiege keeps harmful guests running until it is told to stop.
func besiege(ctx context.Context, addr string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	c := client.Dial(addr)
	for i := range 16 {
		wg.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				_, _ = c.Invoke(ctx, "hostile/"+harmful[n%len(harmful)], nil) // all of them fail
			}
		})
	}
	time.Sleep(200 * time.Millisecond)
	return func() {
		cancel()
		wg.Wait()
		c.Close()
	}
}

// lateness answers the median of how many milliseconds after their deadline guests end that do not end by themselves.
func lateness(ctx context.Context, addr string) (map[string]float64, error) {
	c := client.Dial(addr)
	defer c.Close()
	out := map[string]float64{}
	for _, name := range []string{"spin", "fib", "fillflood", "callflood"} {
		var all []float64
		for range 5 {
			start := time.Now()
			_, err := c.Functions.Invoke(ctx, connect.NewRequest(&wattlev1.InvokeRequest{
				Service: "hostile", Function: name, Timeout: durationpb.New(200 * time.Millisecond),
			}))
			if client.Reason(err) != "time_limit" {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, time.Since(start).Seconds()*1000-200)
		}
		out[name] = median(all)
	}
	return out, nil
}

// withBinary runs fn with the address of a node that is a process of its own.
func withBinary(ctx context.Context, fn func(addr string) error) error {
	return withFleet(ctx, 1, func(f *fleet) error { return fn(f.nodes[0].addr) })
}
