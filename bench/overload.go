package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

const (
	// fullCalls may be under way at each node, each of which takes waitTime: that is what the nodes can do, and far less than the CPUs can.
	fullCalls = 8
	waitTime  = 20 * time.Millisecond
	// refusedWithin is how long a refusal may take, in ms, and slowerBy how much slower accepted calls may become.
	refusedWithin, slowerBy = 10, 3
)

// overload calls three nodes at half and at twice of what they can do.
func overload(ctx context.Context, rounds int) (rows []Row, err error) {
	got := map[string][]float64{}
	err = withCrew(ctx, 3, node.Config{MaxCalls: fullCalls}, func(f *fleet) error {
		if _, _, err := f.nodes[0].Push(ctx, "nap", testdata.Wasm("nap"), client.PushOptions{}); err != nil {
			return err
		}
		if err := f.known(ctx, "nap", "nap", []byte("0")); err != nil {
			return err
		}
		capacity := float64(len(f.nodes)*fullCalls) / waitTime.Seconds()
		for range rounds {
			for name, load := range map[string]float64{"half": 0.5, "twice": 2} {
				accepted, refused, err := f.openLoop(ctx, load*capacity, 3*time.Second)
				if err != nil {
					return err
				}
				note := func(what string, v float64) { got[name+" "+what] = append(got[name+" "+what], v) }
				note("p99", quantile(accepted, 0.99))
				note("share", float64(len(accepted))/float64(len(accepted)+len(refused)))
				if len(refused) > 0 {
					note("refused p50", quantile(refused, 0.5))
					note("refused p99", quantile(refused, 0.99))
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	row := func(name, metric, unit string, ours float64, beside string, other float64) {
		rows = append(rows, Row{Bench: "cluster", Case: name, Metric: metric, Unit: unit, Wattle: ours, Beside: beside, Other: other, Ratio: ours / other})
	}
	half, twice := func(what string) float64 { return median(got["half "+what]) }, func(what string) float64 { return median(got["twice "+what]) }
	if len(got["twice refused p99"]) == 0 {
		return nil, errors.New("nothing was refused at twice the load")
	}
	row("half load, accepted", "share", "%", 100*half("share"), "all", 100)
	row("half load, accepted", "p99", "ms", half("p99"), "the function's wait", 1000*waitTime.Seconds())
	row("twice the load, accepted", "share", "%", 100*twice("share"), "what fits", 50)
	row("twice the load, accepted", "p99", "ms", twice("p99"), "at most", slowerBy*half("p99"))
	row("twice the load, refused", "p50", "ms", twice("refused p50"), "at most", refusedWithin)
	row("twice the load, refused", "p99", "ms", twice("refused p99"), "at most", refusedWithin)
	return rows, nil
}

// openLoop begins calls at a rate, of one node after the other, whether or not those before are done. It answers how long they took,
// in ms and in order.
func (f *fleet) openLoop(ctx context.Context, rate float64, d time.Duration) (accepted, refused []float64, err error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	begin := time.Now()
	for i := 0; ; i++ {
		at := begin.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		if at.Sub(begin) > d {
			break
		}
		if err := pause(ctx, time.Until(at)); err != nil {
			return nil, nil, err
		}
		wg.Go(func() {
			t := time.Now()
			_, e := f.nodes[i%len(f.nodes)].Invoke(ctx, "nap/nap", fmt.Append(nil, waitTime.Milliseconds()))
			took := 1000 * time.Since(t).Seconds()
			mu.Lock()
			defer mu.Unlock()
			switch {
			case t.Before(begin.Add(d / 10)): // it warms up
			case e == nil:
				accepted = append(accepted, took)
			case client.Reason(e) == "overloaded":
				refused = append(refused, took)
			default:
				err = e
			}
		})
	}
	wg.Wait()
	if err == nil && len(accepted) == 0 {
		err = errors.New("nothing was accepted")
	}
	slices.Sort(accepted)
	slices.Sort(refused)
	return accepted, refused, err
}

// quantile of what is in order.
func quantile(v []float64, q float64) float64 { return v[min(int(q*float64(len(v))), len(v)-1)] }
