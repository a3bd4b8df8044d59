package main

import (
	"context"
	"fmt"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// spreadCalls measures calls of one node and of three beside a bare handler.
func spreadCalls(ctx context.Context, rounds int) (rows []Row, err error) {
	bare, stop, err := bareEcho()
	if err != nil {
		return nil, err
	}
	defer stop()
	c := client.Dial(bare)
	defer c.Close()
	echo := loop(rounds, many, func(ctx context.Context) error { return echoed(c.Invoke(ctx, "echo/echo", make([]byte, 100))) })
	measure := func(f *fleet, name string) error {
		var next turns
		r, err := compare(ctx, "cluster", fmt.Sprintf("calls, %s, %s", name, clients(many)), "bare connect-go echo", rounds, loopMetrics,
			loop(rounds, many, func(ctx context.Context) error {
				return echoed(f.nodes[next.of(len(f.nodes))].Invoke(ctx, "echo/echo", make([]byte, 100)))
			}), echo)
		rows = append(rows, r...)
		return err
	}
	for _, n := range []int{1, 3} {
		name := map[int]string{1: "one node", 3: "three nodes"}[n]
		err := withCrew(ctx, n, node.Config{}, func(f *fleet) error {
			if _, _, err := f.nodes[0].Push(ctx, "echo", testdata.Wasm("echo"), client.PushOptions{}); err != nil {
				return err
			}
			if err := f.known(ctx, "echo", "echo", nil); err != nil {
				return err
			}
			if err := measure(f, name); err != nil || n == 1 {
				return err
			}
			_, err := f.nodes[0].Registry.SetBalance(ctx, connect.NewRequest(&wattlev1.SetBalanceRequest{
				Service: "echo", Balance: &wattlev1.Balance{Mode: wattlev1.BalanceMode_BALANCE_MODE_LEAST_ACTIVE},
			}))
			if err != nil {
				return err
			}
			return measure(f, name+", least active")
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

func echoed(got []byte, err error) error {
	if err == nil && len(got) != 100 {
		err = fmt.Errorf("%d bytes came back", len(got))
	}
	return err
}
