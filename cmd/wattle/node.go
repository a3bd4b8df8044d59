package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard/directory"
)

func (a *app) node() *cobra.Command {
	c := &cobra.Command{Use: "node", Short: "List and ping nodes, and take them out of the cluster"}
	c.AddCommand(
		a.drainNode(), a.leaveNode(), a.removeNode(),
		&cobra.Command{
			Use: "ls", Short: "List the nodes", Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				res, err := a.client().Nodes.ListNodes(cmd.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
				if err != nil {
					return err
				}
				return a.print(res.Msg, func(w io.Writer) {
					table(w, "NODE\tADDR\tSTATUS\tVERSION\tCALLS\tTASKS\tREPLICAS\tLEADS\tBLOBS\tTRUST\tUP", func(row func(...any)) {
						for _, n := range res.Msg.Nodes {
							if n.StartedAt == nil { // it does not answer for itself
								row(n.Id, n.Addr, statusOf(n), n.Version, "-", "-", "-", "-", "-", "-", "-")
								continue
							}
							row(n.Id, n.Addr, statusOf(n), n.Version, fmt.Sprintf("%d/%d", n.Calls, n.MaxCalls), fmt.Sprintf("%d/%d", n.Running, n.Slots), fmt.Sprintf("%d/%d", n.Replicas, n.Shards),
								n.Leading, fmt.Sprintf("%d (%s)", n.Blobs, sizeOf(n.BlobBytes)), n.Trust, since(n.StartedAt.AsTime()))
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

// statusOf is what gossip says of a node, unless the node says more, and what becomes of it.
func statusOf(n *wattlev1.Node) string {
	status := n.Status
	if status == "alive" && !n.Ready && n.StartedAt != nil {
		status = "starting or stopping"
	}
	if n.Worker {
		status += ", worker"
	}
	if len(n.Pools) > 0 {
		status += ", pools " + strings.Join(n.Pools, " ")
	}
	switch {
	case n.Drained:
		status += ", drained"
	case n.Draining:
		status += ", draining"
	}
	return status
}

func (a *app) cluster() *cobra.Command {
	c := &cobra.Command{Use: "cluster", Short: "See how the cluster is"}
	var all bool
	status := &cobra.Command{
		Use: "status", Short: "Show shards, leaders and replicas", Args: cobra.NoArgs,
		Long: "Show how many shards have a leader and all their replicas, and the shards that lack something, the worst ten; with --all, every shard.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.client().Nodes.GetClusterStatus(cmd.Context(), connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
			if err != nil {
				return err
			}
			return errors.Join(a.print(res.Msg, func(w io.Writer) { printCluster(w, res.Msg, all) }), differing(res.Msg))
		},
	}
	status.Flags().BoolVar(&all, "all", false, "show the shards that lack nothing, too")
	c.AddCommand(status)
	return c
}

// differing is an error if a shard has replicas with different states. That is the worst there is: it must not pass for an answer.
func differing(c *wattlev1.GetClusterStatusResponse) error {
	var shards []string
	for _, s := range c.Shards {
		if s.Differs {
			shards = append(shards, fmt.Sprint(s.Id))
		}
	}
	if len(shards) == 0 {
		return nil
	}
	return fault.New(fault.Corrupt, "replicas_differ", "REPLICAS DIFFER in shard %s: at the same entry of the log they have different states", strings.Join(shards, ", ")).
		Hint("stop the nodes, keep a copy of every data directory, and report it: which replica is right cannot be told from outside")
}

// lacking says since when a shard has lacked something.
func lacking(s *wattlev1.Shard) string {
	switch {
	case s.LackingSince == nil:
		return "-"
	case s.SinceAtLeast:
		return "since " + since(s.LackingSince.AsTime()) + " or longer"
	}
	return "since " + since(s.LackingSince.AsTime())
}

func printCluster(w io.Writer, c *wattlev1.GetClusterStatusResponse, all bool) {
	led, whole := 0, 0
	var shown []*wattlev1.Shard
	for _, s := range c.Shards {
		fine := !directory.Lacks(s.Leader != "", s.Live, s.Voters, c.Want)
		if fine {
			whole++
		}
		if s.Leader != "" {
			led++
		}
		if all || !fine || s.Differs {
			shown = append(shown, s)
		}
	}
	fmt.Fprintf(w, "cluster %s: %d shards, %d with a leader, %d with all of %d replicas\n", c.ClusterId, len(c.Shards), led, whole, c.Want)
	if c.Workers > 0 {
		fmt.Fprintf(w, "workers: %d, which keep no replicas\n", c.Workers)
	}
	for _, n := range c.Draining {
		fmt.Fprintf(w, "node %s is being emptied or is empty: %d replicas of every shard do without it\n", n, c.Want)
	}
	if c.Trust == "none" {
		fmt.Fprintln(w, "trust: none: whoever reaches the ports of these nodes can run code on them and read their data")
	}
	for _, n := range c.Silent {
		fmt.Fprintf(w, "node %s does not answer\n", n)
	}
	if len(shown) == 0 {
		return
	}
	more := 0
	if !all && len(shown) > mostShown {
		// A node that is gone makes most shards lack the same; those that differ must be seen.
		slices.SortStableFunc(shown, func(a, b *wattlev1.Shard) int { return cmp.Compare(urgency(a), urgency(b)) })
		more = len(shown) - mostShown
		shown = shown[:mostShown]
	}
	table(w, "SHARD\tLEADER\tTERM\tVOTERS\tLACKING\tREPLICAS", func(row func(...any)) {
		for _, s := range shown {
			var rs []string
			for _, r := range s.Replicas {
				text := r.Node
				if s.Differs {
					text += fmt.Sprintf(" (DIFFERS: %016x at entry %d)", r.Hash, r.Applied)
				}
				switch {
				case !r.Active:
					text += " (silent)"
				case !r.Voter:
					text += fmt.Sprintf(" (learns, lacks %d)", r.Lag)
				case r.Lag > 0:
					text += fmt.Sprintf(" (lacks %d)", r.Lag)
				}
				rs = append(rs, text)
			}
			row(s.Id, cmp.Or(s.Leader, "none"), s.Term, fmt.Sprintf("%d of %d there", s.Live, s.Voters), lacking(s), strings.Join(rs, ", "))
		}
	})
	if more > 0 {
		fmt.Fprintf(w, "%d more lack something: wattle cluster status --all shows every shard\n", more)
	}
}

// mostShown is how many shards are shown of those that lack something, if nobody asks for all.
const mostShown = 10

// urgency puts those first that are in the greatest danger.
func urgency(s *wattlev1.Shard) int {
	switch {
	case s.Differs:
		return 0
	case s.Leader == "":
		return 1
	case 2*s.Live <= s.Voters:
		return 2
	}
	return 3
}
