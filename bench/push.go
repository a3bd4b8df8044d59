package main

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strconv"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// callableWithin is how long it may take until what was pushed is callable everywhere, in ms.
const callableWithin = 1000

// pushes measures how long after a push every node answers, and runs the calls itself.
func pushes(ctx context.Context, rounds int) (rows []Row, err error) {
	goEcho, err := plugin(ctx, "echo")
	if err != nil {
		return nil, err
	}
	err = withCrew(ctx, 3, node.Config{}, func(f *fleet) error {
		for _, g := range []struct {
			name, service string
			wasm          []byte
		}{{"hand-written guest", "tiny", testdata.Wasm("echo")}, {"Go guest", "go", goEcho}} {
			got := map[string][]float64{}
			for r := range 4 * rounds {
				if err := f.push(ctx, r%3, g.service, g.wasm, got); err != nil {
					return err
				}
			}
			for _, x := range []struct {
				metric string
				of     func([]float64) float64
			}{{"p50", median}, {"max", slices.Max[[]float64]}} {
				row := func(name, beside string, ours, other float64) {
					rows = append(rows, Row{Bench: "cluster", Case: g.name + ", " + name, Metric: x.metric, Unit: "ms", Wattle: ours, Beside: beside, Other: other, Ratio: ours / other})
				}
				row("push to callable on all of three nodes", "at most", x.of(got["callable"]), callableWithin)
				row("push to run by each node itself", "the push", x.of(got["own"]), x.of(got["push"]))
			}
		}
		return nil
	})
	return rows, err
}

// push publishes a module nobody has seen at one node, and notes when every node answers with it.
func (f *fleet) push(ctx context.Context, at int, service string, wasm []byte, got map[string][]float64) error {
	begin := time.Now()
	v, _, err := f.nodes[at].Push(ctx, service, custom(wasm), client.PushOptions{})
	if err != nil {
		return err
	}
	pushed := time.Now()
	type times struct {
		callable, own time.Duration
		err           error
	}
	all := make(chan times, len(f.nodes))
	for _, p := range f.nodes {
		go func() {
			var t times
			t.callable, t.own, t.err = p.answers(ctx, v, pushed)
			all <- t
		}()
	}
	var last times
	for range f.nodes {
		t := <-all
		last = times{max(last.callable, t.callable), max(last.own, t.own), errors.Join(last.err, t.err)}
	}
	for what, d := range map[string]time.Duration{"push": pushed.Sub(begin), "callable": last.callable, "own": last.own} {
		got[what] = append(got[what], 1000*d.Seconds())
	}
	return last.err
}

// answers calls a version at a node until the node runs it itself, and tells when it answered first.
func (p *process) answers(ctx context.Context, v *wattlev1.Version, since time.Time) (callable, own time.Duration, _ error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		res, err := p.Functions.Invoke(ctx, connect.NewRequest(&wattlev1.InvokeRequest{
			Service: v.Service, Version: strconv.FormatUint(v.Number, 10), Function: "echo", Payload: []byte("x"),
		}))
		switch {
		case err == nil && string(res.Msg.Payload) != "x":
			return 0, 0, errors.New("the function answered something else")
		case err == nil:
			if callable == 0 {
				callable = time.Since(since)
			}
			if res.Msg.Node == p.id {
				return callable, time.Since(since), nil
			}
		case !client.IsNotFound(err): // the news is on its way
			return 0, 0, err
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
}

// custom adds a section that nobody reads, so that nothing that is kept of the module can be used for the new one.
func custom(wasm []byte) []byte {
	section := append([]byte{0, 1 + 4 + 26, 4}, "unique"[:4]...)
	return slices.Concat(wasm, append(section, rand.Text()...))
}
