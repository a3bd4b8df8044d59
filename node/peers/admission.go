package peers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// Admission asks members by the addresses of their APIs, one after another and again, for what a new node has to know.
func (c *Clients) Admission(ctx context.Context, join func(context.Context) []string) (*peerv1.JoinResponse, error) {
	for wait := 200 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		var errs []error
		for _, addr := range join(ctx) {
			r, err := c.AskAdmission(ctx, addr)
			if err == nil {
				return r, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", addr, err))
		}
		slog.Warn("waiting for a member of the cluster to join", "error", cmp.Or(errors.Join(errs...), errNobody))
		select {
		case <-ctx.Done():
			return nil, errors.Join(append(errs, ctx.Err())...)
		case <-time.After(wait):
		}
	}
}

var errNobody = errors.New("none was found")

// AskAdmission finds a member by the address of its API, or of one that knows members, and asks there once.
func (c *Clients) AskAdmission(ctx context.Context, addr string) (*peerv1.JoinResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	api := client.Dial(addr)
	defer api.Close()
	nodes, err := api.Nodes.ListNodes(ctx, connect.NewRequest(&wattlev1.ListNodesRequest{}))
	if err != nil {
		return nil, err
	}
	err = errors.New("it knows of no members")
	for _, n := range nodes.Msg.Nodes {
		if n.PeerAddr == "" {
			continue
		}
		var r *connect.Response[peerv1.JoinResponse]
		if r, err = c.at(n.PeerAddr, "").Join(ctx, connect.NewRequest(&peerv1.JoinRequest{})); err == nil {
			return r.Msg, nil
		}
	}
	return nil, err
}
