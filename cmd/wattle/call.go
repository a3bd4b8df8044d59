package main

import (
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

func (a *app) call() *cobra.Command {
	var data, file, key string
	var timeout time.Duration
	c := &cobra.Command{
		Use: "call SERVICE[@VERSION|@ALIAS]/FUNCTION [-]", Short: "Call a function; the reply goes to standard output", Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			service, version, function, err := client.SplitRef(args[0])
			if err != nil {
				return usage("%q: want SERVICE/FUNCTION, SERVICE@VERSION/FUNCTION or SERVICE@ALIAS/FUNCTION", args[0])
			}
			if timeout < 0 {
				return usage("--timeout %s: want more than 0", timeout)
			}
			payload, err := a.input(cmd, data, file, args[1:])
			if err != nil {
				return err
			}
			req := &wattlev1.InvokeRequest{Service: service, Version: version, Function: function, Payload: payload, BalanceKey: key}
			if timeout > 0 {
				req.Timeout = durationpb.New(timeout)
			}
			res, err := a.client().Functions.Invoke(cmd.Context(), connect.NewRequest(req))
			if err != nil {
				return done(cmd.Context(), err)
			}
			if a.output == "json" {
				b, err := protojson.Marshal(res.Msg)
				if err != nil {
					return err
				}
				_, err = a.stdout.Write(append(b, '\n'))
				return err
			}
			_, err = a.stdout.Write(res.Msg.Payload)
			if p := res.Msg.Payload; err == nil && isTerminal(a.stdout) && len(p) > 0 && p[len(p)-1] != '\n' {
				_, err = a.stdout.Write([]byte{'\n'})
			}
			return err
		},
	}
	c.Flags().StringVar(&data, "data", "", "the input")
	c.Flags().StringVar(&file, "file", "", "a file with the input")
	c.Flags().StringVar(&key, "key", "", "calls with the same key go to the same node, where the service's balance is hash")
	c.Flags().DurationVar(&timeout, "timeout", 0, "shortens the function's own time limit")
	return c
}
