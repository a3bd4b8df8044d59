package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/gen/wattle/v1/wattlev1connect"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

var invokeBench = Bench{
	Name: "invoke",
	About: "100 bytes echoed by a sandboxed function with a clean instance for every call, beside a connect-go handler that answers its own request. " +
		"Same protocol, client, server settings and process for both; nothing is durable on this path.",
	Run: runInvoke,
}

func runInvoke(ctx context.Context, rounds int) (rows []Row, err error) {
	goEcho, err := plugin(ctx, "echo")
	if err != nil {
		return nil, err
	}
	err = withNode(ctx, node.Config{}, func(_ *client.Client, addr string) error {
		for name, wasm := range map[string][]byte{"tiny": testdata.Wasm("echo"), "go": goEcho} {
			c := client.Dial(addr)
			if _, _, err := c.Push(ctx, name, wasm, client.PushOptions{}); err != nil {
				return err
			}
			c.Close()
		}
		bare, stop, err := bareEcho()
		if err != nil {
			return err
		}
		defer stop()
		for _, g := range []struct{ name, ref string }{{"hand-written guest", "tiny/echo"}, {"Go guest", "go/echo"}} {
			for _, n := range []int{1, 64} {
				r, err := compare(ctx, "invoke", fmt.Sprintf("%s, %d clients", g.name, n), "bare connect-go echo", rounds, loopMetrics,
					caller(addr, n, g.ref), caller(bare, n, "echo/echo"))
				if err != nil {
					return err
				}
				rows = append(rows, r...)
			}
		}
		return nil
	})
	return rows, err
}

func caller(addr string, n int, ref string) func(context.Context) (sample, error) {
	return func(ctx context.Context) (sample, error) {
		c := client.Dial(addr)
		defer c.Close()
		payload := make([]byte, 100)
		return closedLoop(ctx, n, 2*time.Second, func(ctx context.Context) error {
			got, err := c.Invoke(ctx, ref, payload)
			if err == nil && len(got) != len(payload) {
				err = fmt.Errorf("%d bytes came back", len(got))
			}
			return err
		})
	}
}

type echoHandler struct {
	wattlev1connect.UnimplementedInvokeServiceHandler
}

func (echoHandler) Invoke(_ context.Context, r *connect.Request[wattlev1.InvokeRequest]) (*connect.Response[wattlev1.InvokeResponse], error) {
	return connect.NewResponse(&wattlev1.InvokeResponse{Payload: r.Msg.Payload}), nil
}

func bareEcho() (addr string, stop func(), err error) {
	mux := http.NewServeMux()
	mux.Handle(wattlev1connect.NewInvokeServiceHandler(echoHandler{}, connect.WithCompressMinBytes(4<<10)))
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: mux, Protocols: p}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	return l.Addr().String(), func() { s.Close(); <-done }, nil
}
