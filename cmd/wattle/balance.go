package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// balanceModes are the modes as people write them.
var balanceModes = map[string]wattlev1.BalanceMode{
	"local":        wattlev1.BalanceMode_BALANCE_MODE_LOCAL,
	"random":       wattlev1.BalanceMode_BALANCE_MODE_RANDOM,
	"least-active": wattlev1.BalanceMode_BALANCE_MODE_LEAST_ACTIVE,
	"round-robin":  wattlev1.BalanceMode_BALANCE_MODE_ROUND_ROBIN,
	"hash":         wattlev1.BalanceMode_BALANCE_MODE_HASH,
}

func (a *app) balance() *cobra.Command {
	var mode string
	var weights []string
	c := &cobra.Command{
		Use: "balance NAME --mode MODE", Short: "Say which nodes run a service's calls", Args: cobra.ExactArgs(1),
		Long: `Say which nodes run a service's calls:
  local         the node that a call comes to (the default)
  random        any, more often the more weight it has
  least-active  the one with the fewest calls under way for its weight
  round-robin   one after the other
  hash          the same one for the same key (wattle call --key)
A node's weight is its number of slots, unless it is given. One of weight 0 runs none that another can run; with round-robin
and hash it is the only weight. A node that cannot be reached or is full does not keep a call from being answered: another runs it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			b := &wattlev1.Balance{Mode: balanceModes[mode]}
			if b.Mode == 0 {
				return usage("--mode %q: want local, random, least-active, round-robin or hash", mode)
			}
			for _, x := range weights {
				node, text, ok := strings.Cut(x, "=")
				w, err := strconv.ParseUint(text, 10, 32)
				if !ok || node == "" || err != nil {
					return usage("--weight %q: want NODE=N, for example n-abc=3; wattle node ls shows the nodes", x)
				}
				if b.Weights == nil {
					b.Weights = map[string]uint32{}
				}
				b.Weights[node] = uint32(w)
			}
			res, err := a.client().Registry.SetBalance(cmd.Context(), connect.NewRequest(&wattlev1.SetBalanceRequest{Service: args[0], Balance: b}))
			if err != nil {
				return err
			}
			return a.print(res.Msg.Service, func(w io.Writer) { fmt.Fprintf(w, "%s: balance %s\n", args[0], balanceOf(res.Msg.Service.Balance)) })
		},
	}
	c.Flags().StringVar(&mode, "mode", "", "local, random, least-active, round-robin or hash")
	c.Flags().StringArrayVar(&weights, "weight", nil, "a node's weight, NODE=N; may be repeated")
	return c
}

// balanceOf is a balance in words.
func balanceOf(b *wattlev1.Balance) string {
	if b == nil {
		return "local"
	}
	out := []string{fmt.Sprint("mode ", b.Mode)} // of a later release
	for name, mode := range balanceModes {
		if mode == b.Mode {
			out[0] = name
		}
	}
	for _, node := range slices.Sorted(maps.Keys(b.Weights)) {
		out = append(out, fmt.Sprintf("%s=%d", node, b.Weights[node]))
	}
	return strings.Join(out, ", ")
}
