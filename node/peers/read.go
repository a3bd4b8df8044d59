package peers

import (
	"bytes"
	"context"
	"iter"
	"slices"
	"sort"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// Read is shard.Engine.Read. Where there is no replica here, what the machine keeps in the slot is fetched from one.
func (r *Router) Read(ctx context.Context, slot machine.Slot, id machine.ID, fn func(machine.Reader) error) error {
	return r.ReadUnless(ctx, slot, id, nil, fn)
}

// ReadUnless is Read, but does not call fn, and fetches nothing, if a key still has a value.
func (r *Router) ReadUnless(ctx context.Context, slot machine.Slot, id machine.ID, unless *peerv1.Unless, fn func(machine.Reader) error) error {
	return again(ctx, func() error {
		err := r.Engine.Read(ctx, slot, id, func(in machine.Reader) error {
			if still(in, unless) {
				return nil
			}
			return fn(in)
		})
		if fault.Reason(err) != "no_replica" {
			return err
		}
		slots, err := r.fetch(ctx, &peerv1.ReadRequest{Shard: uint32(r.Table().Of(slot)), Machine: uint32(id), Slots: []uint32{uint32(slot)}, Unless: unless})
		if err != nil {
			return err
		}
		if got, ok := slots[slot]; ok {
			return fn(got)
		}
		return nil // unchanged
	})
}

// still tells whether a key has a value.
func still(r machine.Reader, u *peerv1.Unless) bool {
	if u == nil {
		return false
	}
	v, _ := r.Get(u.Key)
	return bytes.Equal(v, u.Value)
}

// ReadShard is shard.Engine.ReadShard; see Read.
func (r *Router) ReadShard(ctx context.Context, id shard.ID, m machine.ID, fn func(machine.Slot, machine.Reader) error) error {
	return again(ctx, func() error {
		err := r.Engine.ReadShard(ctx, id, m, fn)
		if fault.Reason(err) != "no_replica" {
			return err
		}
		slots, err := r.fetch(ctx, &peerv1.ReadRequest{Shard: uint32(id), Machine: uint32(m)})
		if err != nil {
			return err
		}
		for _, slot := range r.Table().Slots(id) {
			if err := fn(slot, slots[slot]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Referenced tells to which blobs a shard refers of which there is no replica here.
func (r *Router) Referenced(ctx context.Context, id shard.ID, ds []digest.Digest) (refs []digest.Digest, _ error) {
	req := &peerv1.ReferencedRequest{Shard: uint32(id)}
	for _, d := range ds {
		req.Digests = append(req.Digests, d[:])
	}
	return refs, again(ctx, func() error {
		to := r.find(ctx, id)
		c, err := r.Peers.Of(to)
		if err != nil {
			r.forget(id)
			return errElsewhere(to, err)
		}
		res, err := c.Referenced(ctx, connect.NewRequest(req))
		if err != nil {
			r.forget(id)
			return errElsewhere(to, fromWire(err))
		}
		for _, i := range res.Msg.Referenced {
			if int(i) < len(ds) {
				refs = append(refs, ds[i])
			}
		}
		return nil
	})
}

// fetch asks the node that leads a shard. Of the slots that were asked for, those that are unchanged are left out.
func (r *Router) fetch(ctx context.Context, req *peerv1.ReadRequest) (map[machine.Slot]pairs, error) {
	id := shard.ID(req.Shard)
	to := r.find(ctx, id)
	if to == "" || to == r.Self {
		r.forget(id)
		return nil, fault.New(fault.Unavailable, "no_leader", "nobody is known to lead shard %d", id).Hint("try again in a moment")
	}
	slots, err := r.fetchFrom(ctx, to, req)
	if err != nil && ctx.Err() == nil {
		r.forget(id)
		if fault.As(err) == nil || fault.Reason(err) == "stopping" {
			err = errElsewhere(to, err) // reading twice does no harm
		}
	}
	return slots, err
}

func (r *Router) fetchFrom(ctx context.Context, to shard.NodeID, req *peerv1.ReadRequest) (map[machine.Slot]pairs, error) {
	c, err := r.Peers.Of(to)
	if err != nil {
		return nil, err
	}
	in, err := c.Read(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, fromWire(err)
	}
	defer in.Close()
	slots := map[machine.Slot]pairs{}
	for _, s := range req.Slots {
		slots[machine.Slot(s)] = nil
	}
	for in.Receive() {
		m := in.Msg()
		if m.Unchanged {
			delete(slots, machine.Slot(m.Slot))
			continue
		}
		slots[machine.Slot(m.Slot)] = append(slots[machine.Slot(m.Slot)], m.Pairs...)
	}
	return slots, fromWire(in.Err())
}

// pairs are keys, in order, and values in turn: a machine.Reader of what was fetched.
type pairs [][]byte

// from returns the place of the first key that is not below another.
func (p pairs) from(key []byte) int {
	return 2 * sort.Search(len(p)/2, func(i int) bool { return bytes.Compare(p[2*i], key) >= 0 })
}

func (p pairs) Get(key []byte) ([]byte, bool) {
	if i := p.from(key); i < len(p) && bytes.Equal(p[i], key) {
		return slices.Clone(p[i+1]), true
	}
	return nil, false
}

func (p pairs) Scan(lower, upper []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		for i := p.from(lower); i+1 < len(p); i += 2 {
			if upper != nil && bytes.Compare(p[i], upper) >= 0 || !yield(p[i], p[i+1]) {
				return
			}
		}
	}
}
