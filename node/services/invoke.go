package services

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
	"github.com/wattlehq/wattle/node/jobs"
	"github.com/wattlehq/wattle/node/rpc"
	"github.com/wattlehq/wattle/registry"
)

// call is a call of a function that was found.
type call struct {
	version  *wattlev1.Version
	function *wattlev1.Function
	digest   digest.Digest
	payload  []byte
	timeout  time.Duration // shortens the function's own; zero leaves it
	nested   bool          // a function waits for it
}

// Invoke calls a function and waits for its answer.
func (s *Services) Invoke(ctx context.Context, in rpc.Invocation) (*wattlev1.InvokeResponse, error) {
	return s.arrive(ctx, in, false)
}

// InvokeFor calls a function for another one.
func (s *Services) InvokeFor(ctx context.Context, r *host.Invocation) ([]byte, error) {
	in := rpc.Invocation{Service: r.Service, Version: r.Version, Function: r.Function, Payload: r.Payload}
	res, err := s.arrive(trace.With(ctx, trace.From(ctx).Child()), in, true)
	return res.GetPayload(), err
}

// find answers the call that is meant.
func (s *Services) find(ref registry.Ref) (*call, error) {
	v, f, err := s.resolve(ref)
	if err != nil {
		return nil, err
	}
	if f.Kind != wattlev1.FunctionKind_FUNCTION_KIND_CALL {
		return nil, fault.New(fault.Invalid, "wrong_kind", "%s/%s has kind %s: it cannot be called", v.Service, f.Name, dag.KindName(f.Kind)).
			Hint("use it in a job")
	}
	d, err := digest.Parse(v.Digest)
	if err != nil {
		return nil, err
	}
	return &call{version: v, function: f, digest: d}, nil
}

// arrive takes a call to the node that is to run it: the one that the service's balance wants, or else this one. A call goes to
// another node once at most; one that refused it before it began does not count.
func (s *Services) arrive(ctx context.Context, in rpc.Invocation, nested bool) (*wattlev1.InvokeResponse, error) {
	c, err := s.find(registry.Ref{Service: in.Service, Version: in.Version, Function: in.Function})
	if err != nil {
		return nil, err
	}
	c.payload, c.timeout, c.nested = in.Payload, in.Timeout, nested
	service, err := s.View.Service(in.Service)
	if err != nil {
		return nil, err
	}
	if to := s.Others.chosen(service, in.Key); to != "" {
		if res, begun, err := s.pass(ctx, c, to, true); begun {
			return res, err
		}
	}
	if s.Calls.near() && !nested {
		if to := s.Others.roomier(); to != "" {
			if res, begun, err := s.pass(ctx, c, to, false); begun {
				return res, err
			}
		}
	}
	if !s.Calls.enter(nested) {
		err := s.Calls.overloaded()
		s.Observe(c.version.Service, c.function.Name, 0, err)
		return nil, err
	}
	defer s.Calls.leave()
	if !s.Host.Has(c.digest) {
		if res, begun, err := s.meanwhile(ctx, c); begun || err != nil {
			return res, err
		}
	}
	return s.run(ctx, c)
}

// meanwhile has another node run a call while its module is made ready here. begun is false once that is done.
func (s *Services) meanwhile(ctx context.Context, c *call) (_ *wattlev1.InvokeResponse, begun bool, _ error) {
	l := s.load(c.version.Digest)
	nodes := s.Others.there()
	rand.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for {
		select {
		case <-l.done:
			return nil, false, l.err
		case <-ctx.Done():
			return nil, false, host.Interrupted(ctx)
		default:
		}
		to, wait := l.next(nodes)
		if to == "" {
			l.pause(ctx, wait)
			continue
		}
		if res, begun, err := s.pass(ctx, c, to, false); begun {
			l.ran(to)
			return res, true, err
		}
		l.refused(to)
	}
}

// run runs a call on this node.
func (s *Services) run(ctx context.Context, c *call) (_ *wattlev1.InvokeResponse, err error) {
	v, f := c.version, c.function
	start := time.Now()
	defer func() { s.Observe(v.Service, f.Name, time.Since(start), err) }()
	m, err := jobs.LoadModule(ctx, s.Host, s.Blobs, v.Digest)
	if err != nil {
		return nil, err
	}
	defer m.Release()
	limits := jobs.Limits(registry.LimitsFor(v, f.Name)).Or(s.Host.Limits())
	if c.timeout > 0 && c.timeout < limits.Timeout {
		limits.Timeout = c.timeout
	}
	mounts, closeMounts, err := s.Grants.Mounts(v.Capabilities)
	if err != nil {
		return nil, err
	}
	defer closeMounts()
	out := newAnswer(s.Host.Reserve, s.Host.Release)
	defer out.free()
	stats, err := m.Call(ctx, &host.Call{
		Function: f.Name, Input: host.BytesInput(c.payload), Output: out, Limits: limits,
		Context: host.Context{Service: v.Service, Version: v.Number, Function: f.Name, Input: "bytes"}, Log: logger(ctx, v, f.Name),
		Fresh: v.Fresh, Nested: c.nested, Capabilities: s.Grants.For(v.Service, f.Name, v.Capabilities), Mounts: mounts,
	})
	took := &wattlev1.CallStats{Duration: durationpb.New(stats.Duration), PeakMemoryBytes: stats.PeakMemory, Fuel: stats.Fuel, LogDropped: stats.LogDropped}
	if err != nil {
		if stats.Duration > 0 {
			err = &rpc.FailedCall{Err: err, Stats: took}
		}
		return nil, err
	}
	return &wattlev1.InvokeResponse{Payload: out.bytes(), Service: v.Service, Version: v.Number, Stats: took, Node: string(s.Others.Self)}, nil
}

// logger passes what a function logs on to the node's own log, where that takes it.
func logger(ctx context.Context, v *wattlev1.Version, function string) func(host.Level, string) {
	if !slog.Default().Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return func(level host.Level, line string) {
		slog.Debug(line, "service", v.Service, "version", v.Number, "function", function, "level", level, "trace", trace.From(ctx))
	}
}
