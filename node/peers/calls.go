package peers

import (
	"context"
	"log/slog"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
)

// Calls has other nodes run calls. It may be used concurrently.
type Calls struct {
	Peers *Clients
	// Alive returns the other nodes that can be asked.
	Alive func() []shard.NodeID
}

// Outcome is what became of a call that another node was to run.
type Outcome struct {
	// Begun is false if the call certainly did not begin. Err says why then.
	Begun bool
	// Answer of a call without an error.
	Answer *wattlev1.InvokeResponse
	Err    error
	// Stats are what a call took that failed, if that is known.
	Stats *wattlev1.CallStats
	// Answered tells that the node spoke: Calls are under way there, and Most may be.
	Answered    bool
	Calls, Most uint32
}

// Others returns the other nodes that seem to be there.
func (c *Calls) Others() []shard.NodeID { return c.Alive() }

// Nodes asks nodes about themselves. Those that do not answer are left out.
func (c *Calls) Nodes(ctx context.Context, ids []shard.NodeID) map[shard.NodeID]*wattlev1.Node {
	return Nodes(ctx, c.Peers, ids)
}

// Invoke has a node run a call.
func (c *Calls) Invoke(ctx context.Context, to shard.NodeID, req *peerv1.InvokeRequest) Outcome {
	p, err := c.Peers.Of(to)
	if err != nil {
		return Outcome{Err: err}
	}
	res, err := p.Invoke(ctx, connect.NewRequest(req))
	if err != nil {
		if notSent(err) || connect.CodeOf(err) == connect.CodeUnimplemented { // the latter by an older release
			return Outcome{Err: err}
		}
		return Outcome{Begun: true, Err: fault.New(fault.Unavailable, "call_lost", "node %s went silent before it answered: the function may have run there: %w", to, err).
			Hint("call it again if it does no harm when it runs twice")}
	}
	m := res.Msg
	o := Outcome{Begun: true, Answered: true, Calls: m.Calls, Most: m.MaxCalls, Answer: m.GetAnswer()}
	switch x := m.Outcome.(type) {
	case *peerv1.InvokeResponse_Answer:
	case *peerv1.InvokeResponse_Failure:
		o.Err, o.Stats = meant(x.Failure.GetWhy()), x.Failure.GetStats()
	default:
		o.Begun, o.Err = false, meant(m.GetRefusal())
	}
	return o
}

func (h *handler) Invoke(ctx context.Context, req *connect.Request[peerv1.InvokeRequest]) (*connect.Response[peerv1.InvokeResponse], error) {
	o := h.s.Invoke(ctx, req.Msg)
	res := &peerv1.InvokeResponse{Calls: o.Calls, MaxCalls: o.Most}
	switch {
	case !o.Begun:
		res.Outcome = &peerv1.InvokeResponse_Refusal{Refusal: refusal(told(o.Err))}
	case o.Err != nil:
		res.Outcome = &peerv1.InvokeResponse_Failure{Failure: &peerv1.CallFailure{Why: refusal(told(o.Err)), Stats: o.Stats}}
	default:
		res.Outcome = &peerv1.InvokeResponse_Answer{Answer: o.Answer}
	}
	return connect.NewResponse(res), nil
}

// told is an error as it is told whoever called: what has no meaning to them stays here.
func told(err error) *fault.Error {
	if e := fault.As(err); e != nil {
		return e
	}
	slog.Error("call failed", "error", err)
	return fault.New(fault.Internal, "internal", "the node failed; its log says why")
}
