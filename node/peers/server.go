// Package peers is how the nodes of a cluster ask things of each other: the service that each offers the others, and what
// uses it, commands for shards that are led elsewhere and blobs that are elsewhere. Messages between the replicas of
// a shard do not go this way: see shard/link.
//
// Nothing here knows who the members are; what is asked of which node comes from the caller.
package peers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/gen/wattle/peer/v1/peerv1connect"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store/blob"
)

// blobPart is how much of a blob travels in one message.
const blobPart = 256 << 10

// Server answers other nodes.
type Server struct {
	*Hands
	Blobs *blob.Store
	// Node is this one.
	Node func() *wattlev1.Node
	// Admission tells what a new node has to know.
	Admission func() (*peerv1.JoinResponse, error)
	// Dismissed is told that this node was removed from the cluster.
	Dismissed func()
}

// Handler returns the path and the handler of the service.
func (s *Server) Handler() (string, http.Handler) {
	path, h := peerv1connect.NewPeerServiceHandler(&handler{s.local(), s}, connect.WithReadMaxBytes(shard.MaxCommand+blobPart+64<<10))
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if to := r.Header.Get(forNode); to != "" && to != string(s.Self) {
			http.Error(w, "another node is here now", http.StatusMisdirectedRequest)
			return
		}
		h.ServeHTTP(w, r)
	})
}

type handler struct {
	local
	s *Server
}

var _ peerv1connect.PeerServiceHandler = (*handler)(nil)

func (h *handler) Join(context.Context, *connect.Request[peerv1.JoinRequest]) (*connect.Response[peerv1.JoinResponse], error) {
	r, err := h.s.Admission()
	if err != nil {
		return nil, toWire(err)
	}
	return connect.NewResponse(r), nil
}

func (h *handler) Dismiss(context.Context, *connect.Request[peerv1.DismissRequest]) (*connect.Response[peerv1.DismissResponse], error) {
	h.s.Dismissed()
	return connect.NewResponse(&peerv1.DismissResponse{}), nil
}

func (h *handler) GetNode(context.Context, *connect.Request[peerv1.GetNodeRequest]) (*connect.Response[peerv1.GetNodeResponse], error) {
	return connect.NewResponse(&peerv1.GetNodeResponse{Node: h.s.Node()}), nil
}

func (h *handler) Propose(ctx context.Context, req *connect.Request[peerv1.ProposeRequest]) (*connect.Response[peerv1.ProposeResponse], error) {
	m := req.Msg
	if m.Slot >= machine.Slots {
		return nil, toWire(fault.New(fault.Invalid, "bad_slot", "there is no slot %d", m.Slot))
	}
	res, err := h.s.Engine.Propose(ctx, shard.Proposal{Slot: machine.Slot(m.Slot), Machine: machine.ID(m.Machine), Body: m.Body, Admit: m.Admit})
	if err != nil {
		return nil, toWire(err)
	}
	return connect.NewResponse(&peerv1.ProposeResponse{Value: res.Value, Refusal: refusal(res.Err)}), nil
}

func (h *handler) Read(ctx context.Context, req *connect.Request[peerv1.ReadRequest], out *connect.ServerStream[peerv1.ReadResponse]) error {
	m := req.Msg
	if m.Shard >= h.s.Engine.Table().Shards {
		return toWire(fault.New(fault.Invalid, "bad_shard", "there is no shard %d", m.Shard))
	}
	send := func(slot machine.Slot, r machine.Reader) error {
		if still(r, m.Unless) {
			return out.Send(&peerv1.ReadResponse{Slot: uint32(slot), Unchanged: true})
		}
		part, size := &peerv1.ReadResponse{Slot: uint32(slot)}, 0
		for k, v := range r.Scan(nil, nil) {
			part.Pairs = append(part.Pairs, slices.Clone(k), slices.Clone(v))
			if size += len(k) + len(v); size < blobPart {
				continue
			}
			if err := out.Send(part); err != nil {
				return err
			}
			part, size = &peerv1.ReadResponse{Slot: uint32(slot)}, 0
		}
		if len(part.Pairs) == 0 {
			return nil
		}
		return out.Send(part)
	}
	if len(m.Slots) == 0 {
		return toWire(h.s.Engine.ReadShard(ctx, shard.ID(m.Shard), machine.ID(m.Machine), send))
	}
	for _, slot := range m.Slots {
		if slot >= machine.Slots {
			return toWire(fault.New(fault.Invalid, "bad_slot", "there is no slot %d", slot))
		}
		err := h.s.Engine.Read(ctx, machine.Slot(slot), machine.ID(m.Machine), func(r machine.Reader) error { return send(machine.Slot(slot), r) })
		if err != nil {
			return toWire(err)
		}
	}
	return nil
}

func (h *handler) FetchBlob(_ context.Context, req *connect.Request[peerv1.FetchBlobRequest], out *connect.ServerStream[peerv1.FetchBlobResponse]) error {
	d, err := digest.Parse(req.Msg.Digest)
	if err != nil {
		return toWire(fault.New(fault.Invalid, "bad_digest", "%w", err))
	}
	b, err := h.s.Blobs.Open(d)
	if err != nil {
		return toWire(err)
	}
	defer b.Close()
	if req.Msg.Offset > uint64(b.Size()) {
		return toWire(fault.New(fault.Invalid, "bad_offset", "byte %d of %d", req.Msg.Offset, b.Size()))
	}
	off := int64(req.Msg.Offset)
	r := b.Reader(off, b.Size()-off)
	buf := make([]byte, blobPart)
	for first := true; ; first = false {
		n, err := io.ReadFull(r, buf)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return toWire(err)
		}
		if n > 0 || first {
			m := &peerv1.FetchBlobResponse{Data: buf[:n]}
			if first {
				m.Size = uint64(b.Size())
			}
			if err := out.Send(m); err != nil {
				return err
			}
		}
		if end {
			return nil
		}
	}
}

func (h *handler) StoreBlob(ctx context.Context, in *connect.ClientStream[peerv1.StoreBlobRequest]) (*connect.Response[peerv1.StoreBlobResponse], error) {
	w, err := h.s.Blobs.Create(ctx)
	if err != nil {
		return nil, toWire(err)
	}
	defer w.Abort()
	name := ""
	for in.Receive() {
		if name == "" {
			name = in.Msg().Digest
		}
		if _, err := w.Write(in.Msg().Data); err != nil {
			return nil, toWire(err)
		}
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	d, _, err := w.Commit()
	if err != nil {
		return nil, toWire(err)
	}
	if d.String() != name {
		return nil, toWire(fault.New(fault.Invalid, "bad_blob", "what was sent as %s is %s", name, d))
	}
	return connect.NewResponse(&peerv1.StoreBlobResponse{}), nil
}
