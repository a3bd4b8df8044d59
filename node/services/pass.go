package services

import (
	"context"
	"errors"
	"strconv"

	"google.golang.org/protobuf/types/known/durationpb"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
	"github.com/wattlehq/wattle/node/grants"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/node/rpc"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/shard"
)

// pass has another node run a call. begun is false if it certainly did not: functions may have effects, so that otherwise what came
// of it counts, whatever it is. more says that more such calls will go there.
func (s *Services) pass(ctx context.Context, c *call, to shard.NodeID, more bool) (_ *wattlev1.InvokeResponse, begun bool, _ error) {
	if s.Calls.away.Add(1) > s.Calls.most {
		s.Calls.away.Add(-1)
		return nil, false, nil
	}
	defer s.Calls.away.Add(-1)
	if !s.Others.answers(ctx, to) {
		if ctx.Err() != nil {
			return nil, true, host.Interrupted(ctx)
		}
		return nil, false, nil
	}
	req := &peerv1.InvokeRequest{
		Service: c.version.Service, Version: c.version.Number, Function: c.function.Name, Payload: c.payload,
		Traceparent: trace.From(ctx).String(), Chain: grants.Chain(ctx), Load: more,
	}
	if c.timeout > 0 {
		req.Timeout = durationpb.New(c.timeout)
	}
	s.Others.sent(to)
	o := s.Others.Peers.Invoke(ctx, to, req)
	if o.Answered {
		s.Others.said(to, o.Calls, o.Most)
	}
	if ctx.Err() != nil && !o.Answered {
		return nil, true, host.Interrupted(ctx)
	}
	if !o.Answered {
		s.Others.silent(to)
	}
	if !o.Begun {
		return nil, false, nil
	}
	s.Calls.forwarded.Add(1)
	if o.Stats != nil {
		return nil, true, &rpc.FailedCall{Err: o.Err, Stats: o.Stats}
	}
	return o.Answer, true, o.Err
}

// Take runs a call that came to another node, if it can begin at once.
func (s *Services) Take(ctx context.Context, req *peerv1.InvokeRequest) peers.Outcome {
	answer, begun, err := s.take(ctx, req)
	o := peers.Outcome{Begun: begun, Answer: answer, Err: err, Calls: uint32(max(s.Calls.under.Load(), 0)), Most: uint32(s.Calls.most)}
	if failed := (*rpc.FailedCall)(nil); errors.As(err, &failed) {
		o.Stats = failed.Stats
	}
	return o
}

func (s *Services) take(ctx context.Context, req *peerv1.InvokeRequest) (_ *wattlev1.InvokeResponse, begun bool, _ error) {
	if !s.Ready() {
		return nil, false, fault.New(fault.Unavailable, "not_ready", "the node is starting or stopping")
	}
	// This node may not know the version yet, or not any more.
	c, err := s.find(registry.Ref{Service: req.Service, Version: strconv.FormatUint(req.Version, 10), Function: req.Function})
	if err != nil {
		return nil, false, err
	}
	c.payload, c.timeout, c.nested = req.Payload, req.Timeout.AsDuration(), len(req.Chain) > 0
	if !s.Host.Has(c.digest) {
		if req.Load {
			s.load(c.version.Digest)
		}
		return nil, false, fault.New(fault.Unavailable, "not_loaded", "%s@%d is not ready here", c.version.Service, c.version.Number)
	}
	if !s.Calls.enter(false) {
		return nil, false, s.Calls.overloaded()
	}
	defer s.Calls.leave()
	if size := uint64(len(c.payload)); size > rpc.Small {
		if err := s.Host.Reserve(size); err != nil {
			return nil, false, err
		}
		defer s.Host.Release(size)
	}
	s.Calls.received.Add(1)
	if t, ok := trace.Parse(req.Traceparent); ok {
		ctx = trace.With(ctx, t)
	}
	if c.nested {
		ctx = grants.WithChain(ctx, req.Chain)
	}
	res, err := s.run(ctx, c)
	if fault.Reason(err) == "concurrency_limit" { // of this node: another may do it
		return nil, false, err
	}
	return res, true, err
}
