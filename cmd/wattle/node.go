package main

import (
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

func (a *app) node() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "List and ping nodes"}
	c.AddCommand(
		&cobra.Command{
			Use: "ls", Short: "List the nodes", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				res, err := a.client().Nodes.ListNodes(cmd.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
				if err != nil {
					return err
				}
				return a.print(res.Msg, func(w io.Writer) {
					table(w, "NODE\tADDR\tVERSION\tREADY\tTASKS\tSHARDS\tBLOBS\tUP", func(row func(...any)) {
						for _, n := range res.Msg.Nodes {
							row(n.Id, n.Addr, n.Version, n.Ready, fmt.Sprintf("%d/%d", n.Running, n.Slots), fmt.Sprintf("%d/%d", n.Leading, n.Shards),
								fmt.Sprintf("%d (%s)", n.Blobs, sizeOf(n.BlobBytes)), since(n.StartedAt.AsTime()))
						}
					})
				})
			},
		},
		&cobra.Command{
			Use: "ping", Short: "Ask a node for its name", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				start := time.Now()
				res, err := a.client().Nodes.Ping(cmd.Context(), connect.NewRequest(&wattlev1.PingRequest{}))
				if err != nil {
					return err
				}
				return a.print(res.Msg, func(w io.Writer) {
					fmt.Fprintf(w, "%s answered in %s\n", res.Msg.NodeId, time.Since(start).Round(10*time.Microsecond))
				})
			},
		},
	)
	return c
}
