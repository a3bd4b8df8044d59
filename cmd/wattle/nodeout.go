package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

func (a *app) drainNode() *cobra.Command {
	var undo, wait bool
	c := &cobra.Command{
		Use: "drain NODE", Short: "Empty a node: what it keeps goes to others", Args: cobra.ExactArgs(1),
		Long: "Empty a node. It gives what it keeps to others, leads nothing and gets nothing new, also after it is started again, and goes on answering. " +
			"NODE is its name, or the beginning of it. Of three nodes two are left for replicas, which is then how many there are.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if undo && wait {
				return usage("--undo has nothing to wait for")
			}
			c := a.client()
			res, err := c.Nodes.DrainNode(cmd.Context(), connect.NewRequest(&wattlev1.DrainNodeRequest{NodeId: args[0], Undo: undo}))
			if err != nil {
				return err
			}
			if wait {
				if err := a.awaitNode(cmd.Context(), c, res.Msg.NodeId, func(n *wattlev1.Node, err error) (bool, error) { return n.GetDrained(), err }); err != nil {
					return err
				}
			}
			return a.print(res.Msg, func(w io.Writer) {
				switch {
				case undo:
					fmt.Fprintf(w, "node %s is used again\n", res.Msg.NodeId)
				case wait:
					fmt.Fprintf(w, "node %s is empty; every shard has %d replicas on other nodes\n", res.Msg.NodeId, res.Msg.Want)
				default:
					fmt.Fprintf(w, "node %s is being emptied; every shard gets %d replicas on other nodes. wattle node ls shows how far it is\n", res.Msg.NodeId, res.Msg.Want)
				}
			})
		},
	}
	c.Flags().BoolVar(&undo, "undo", false, "use the node again")
	c.Flags().BoolVar(&wait, "wait", false, "return when the node is empty")
	return c
}

// leaveLooks is how often a node may be seen that is to leave and is not drained.
const leaveLooks = 150

func (a *app) leaveNode() *cobra.Command {
	return &cobra.Command{
		Use: "leave", Short: "Have the node that is asked (--addr) leave the cluster and end", Args: cobra.NoArgs,
		Long: "Have the node that is asked (--addr) empty itself, say goodbye and end, with status 0. Others have what it had. It may come back: started again, it is a member like before.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c := a.client()
			res, err := c.Nodes.LeaveNode(cmd.Context(), connect.NewRequest(&wattlev1.LeaveNodeRequest{}))
			if err != nil {
				return err
			}
			stays := 0
			err = a.awaitNode(cmd.Context(), c, res.Msg.NodeId, func(n *wattlev1.Node, err error) (bool, error) {
				var op *net.OpError
				if errors.As(err, &op) && op.Op == "dial" {
					return true, nil
				}
				// Just before it ends it is not drained any more, either.
				if stays++; n == nil || n.Draining {
					stays = 0
				}
				if stays > leaveLooks {
					return false, fmt.Errorf("node %s stays: somebody has undone that it is drained", n.Id)
				}
				return false, nil
			})
			if err != nil {
				return err
			}
			return a.print(res.Msg, func(w io.Writer) { fmt.Fprintf(w, "node %s has left\n", res.Msg.NodeId) })
		},
	}
}

func (a *app) removeNode() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "remove NODE", Short: "Give up a node that is gone for good", Args: cobra.ExactArgs(1),
		Long: "Give up a node that is gone for good: others take over what it kept at once, instead of after --grace, and it is forgotten. It can never come back under its name. " +
			"NODE is its name, or the beginning of it. One that is alive is refused: have it leave.",
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.client().Nodes.RemoveNode(cmd.Context(), connect.NewRequest(&wattlev1.RemoveNodeRequest{NodeId: args[0], Force: force}))
			if err != nil {
				return err
			}
			return a.print(res.Msg, func(w io.Writer) { fmt.Fprintf(w, "node %s is removed\n", res.Msg.NodeId) })
		},
	}
	c.Flags().BoolVar(&force, "force", false, "remove it although it is alive: it ends as soon as it hears of that, and what runs there is lost or done again")
	return c
}

// awaitNode looks at a node until over says so, and tells how far it is.
func (a *app) awaitNode(ctx context.Context, c *client.Client, id string, over func(*wattlev1.Node, error) (bool, error)) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	last := ""
	for {
		var node *wattlev1.Node
		res, err := c.Nodes.ListNodes(ctx, connect.NewRequest(&wattlev1.ListNodesRequest{}))
		if err == nil {
			for _, n := range res.Msg.Nodes {
				if n.Id == id {
					node = n
				}
			}
		}
		if done, err := over(node, err); done || err != nil {
			return err
		}
		if node != nil && node.StartedAt != nil {
			now := fmt.Sprintf("node %s has %d replicas, leads %d shards and runs %d tasks", id, node.Replicas, node.Leading, node.Running)
			if now != last && a.output != "json" {
				last = now
				fmt.Fprintln(a.stderr, "wattle:", now)
			}
		}
		select {
		case <-ctx.Done():
			return done(ctx, ctx.Err())
		case <-tick.C:
		}
	}
}
