package peers

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
)

// patience is how long a request waits for a shard to have a leader again: two elections and more.
const patience = 15 * time.Second

// Router takes commands for any shard: what is led elsewhere goes there. While a shard has no leader it waits, for as long as
// that takes usually. It may be used concurrently.
type Router struct {
	*Hands
	// Alive returns the other nodes that can be asked, in groups: those who are the likeliest to lead first.
	Alive func() [][]shard.NodeID

	mu      sync.Mutex
	leaders directory.Leaders // as they were when somebody was asked
}

// Table returns the routing table.
func (r *Router) Table() *shard.Table { return r.Engine.Table() }

// Here tells whether this node has a replica of a shard.
func (r *Router) Here(id shard.ID) bool { return r.Engine.Has(id) }

// Peek is shard.Engine.Peek: what the replica on this node has.
func (r *Router) Peek(slot machine.Slot, id machine.ID, fn func(machine.Reader) error) error {
	return r.Engine.Peek(slot, id, fn)
}

// undecided tells whether an error means that nothing was done because nobody leads here.
func undecided(err error) bool {
	reason := fault.Reason(err)
	return reason == "no_leader" || reason == "no_replica"
}

// again calls try until it fails for another reason than that nobody leads, or the patience is at an end.
func again(ctx context.Context, try func() error) error {
	end := time.Now().Add(patience)
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 250*time.Millisecond) {
		err := try()
		if err == nil || !undecided(err) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Propose is shard.Engine.Propose on whichever node leads.
func (r *Router) Propose(ctx context.Context, p shard.Proposal) (res machine.Result, err error) {
	id := r.Table().Of(p.Slot)
	err = again(ctx, func() error {
		if res, err = r.Engine.Propose(ctx, p); err == nil || !undecided(err) {
			return err
		}
		to := shard.NodeID(fault.As(err).Fields["leader"])
		if to == "" {
			to = r.find(ctx, id)
		}
		if to == "" || to == r.Self {
			return err
		}
		if res, err = r.send(ctx, to, p); err != nil {
			r.forget(id)
		}
		return err
	})
	return res, err
}

// ProposeHere is shard.Engine.Propose: for what only the leader itself may say.
func (r *Router) ProposeHere(ctx context.Context, p shard.Proposal) (machine.Result, error) {
	return r.Engine.Propose(ctx, p)
}

func (r *Router) send(ctx context.Context, to shard.NodeID, p shard.Proposal) (machine.Result, error) {
	c, err := r.Peers.Of(to)
	if err != nil {
		return machine.Result{}, errElsewhere(to, err)
	}
	res, err := c.Propose(ctx, connect.NewRequest(&peerv1.ProposeRequest{
		Slot: uint32(p.Slot), Machine: uint32(p.Machine), Body: p.Body, Admit: p.Admit,
	}))
	if err == nil {
		return machine.Result{Value: res.Msg.Value, Err: meant(res.Msg.Refusal)}, nil
	}
	err = fromWire(err)
	switch {
	case fault.As(err) != nil:
		return machine.Result{}, err
	case ctx.Err() != nil:
		return machine.Result{}, ctx.Err()
	case notSent(err):
		return machine.Result{}, errElsewhere(to, err)
	}
	return machine.Result{}, fault.New(fault.Unavailable, "leader_lost", "node %s went silent before it was known whether the command counts: %w", to, err).
		Hint("look, or send it again: sent twice it counts once")
}

// errElsewhere says that the leader cannot be reached, so that nothing was done.
func errElsewhere(to shard.NodeID, err error) error {
	return fault.New(fault.Unavailable, "no_leader", "node %s, which should lead, cannot be reached: %w", to, err).Hint("try again in a moment")
}

// notSent tells that the node did not get what it was to be sent.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" || errors.Is(err, errOtherNode)
}

// AtLeader calls ask with the node that leads a shard, which may be this one, and again with another if that says that it does not.
func (r *Router) AtLeader(ctx context.Context, id shard.ID, ask func(shard.NodeID) error) error {
	return again(ctx, func() error {
		to := r.Engine.Leader(id)
		if to == "" {
			to = r.find(ctx, id)
		}
		if to == "" {
			return fault.New(fault.Unavailable, "no_leader", "nobody is known to lead shard %d", id).Hint("try again in a moment")
		}
		err := ask(to)
		if err == nil {
			return nil
		}
		r.forget(id)
		if fault.As(err) == nil {
			err = errElsewhere(to, err)
		}
		return err
	})
}

// find asks around who leads a shard that this node has no replica of.
func (r *Router) find(ctx context.Context, id shard.ID) shard.NodeID {
	r.mu.Lock()
	l, ok := r.leaders[id]
	r.mu.Unlock()
	if ok {
		return l.Node
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	for _, nodes := range r.Alive() {
		if to := r.hear(id, r.Ask(ctx, nodes)); to != "" {
			return to
		}
	}
	return ""
}

// hear takes what nodes said, and answers who leads a shard.
func (r *Router) hear(id shard.ID, reports []directory.Report) shard.NodeID {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaders == nil {
		r.leaders = directory.Leaders{}
	}
	r.leaders.Hear(reports)
	return r.leaders[id].Node
}

func (r *Router) forget(id shard.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.leaders, id)
}
