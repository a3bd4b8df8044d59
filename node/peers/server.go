// Package peers is how the nodes of a cluster ask things of each other: the service that each offers the others, and what
// uses it, commands for shards that are led elsewhere and blobs that are elsewhere. Messages between the replicas of
// a shard do not go this way: see shard/link.
//
// Nothing here knows who the members are; what is asked of which node comes from the caller.
package peers

import (
	"context"
	"net/http"
	"slices"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/gen/wattle/peer/v1/peerv1connect"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// blobPart is how much of a blob travels in one message.
const blobPart = 256 << 10

// maxMessage bounds what other nodes send: the payload of a call is the largest.
const maxMessage = 17 << 20

// Server answers other nodes.
type Server struct {
	*Hands
	Blobs *Blobs
	// File opens a file here as it was planned.
	File func(*storev1.FilePart) (File, error)
	// Refs calls fn for each blob that a shard refers to, whose replica here is asked.
	Refs func(ctx context.Context, id shard.ID, fn func(d digest.Digest, copies bool)) error
	// Node is this one.
	Node func() *wattlev1.Node
	// Admission tells what a new node has to know.
	Admission func() (*peerv1.JoinResponse, error)
	// Invoke runs a call that came to another node.
	Invoke func(context.Context, *peerv1.InvokeRequest) Outcome
	// Tasks gives tasks to clients.
	Tasks Tasks
	// Dismissed is told that this node was removed from the cluster.
	Dismissed func()
}

// Handler returns the path and the handler of the service.
func (s *Server) Handler() (string, http.Handler) {
	path, h := peerv1connect.NewPeerServiceHandler(&handler{s.local(), s}, connect.WithReadMaxBytes(maxMessage))
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
	b, err := h.s.Blobs.Store.Open(d)
	if err != nil {
		return toWire(err)
	}
	defer b.Close()
	if req.Msg.Offset > uint64(b.Size()) {
		return toWire(fault.New(fault.Invalid, "bad_offset", "byte %d of %d", req.Msg.Offset, b.Size()))
	}
	off := int64(req.Msg.Offset)
	n := b.Size() - off
	if want := req.Msg.Length; want > 0 && want < uint64(n) {
		n = int64(want)
	}
	first := true
	return serveRange(b, off, n, func(data []byte, checksum uint32) error {
		m := &peerv1.FetchBlobResponse{Data: data, Checksum: checksum}
		if first {
			m.Size, first = uint64(b.Size()), false
		}
		return out.Send(m)
	})
}

func (h *handler) ReadFile(_ context.Context, req *connect.Request[peerv1.ReadFileRequest], out *connect.ServerStream[peerv1.ReadFileResponse]) error {
	size := req.Msg.File.GetFileSize()
	if req.Msg.Offset > size || req.Msg.Length > size-req.Msg.Offset {
		return toWire(fault.New(fault.Invalid, "bad_offset", "%d bytes from byte %d of %d", req.Msg.Length, req.Msg.Offset, size))
	}
	f, err := h.s.File(req.Msg.File)
	if err != nil {
		return toWire(err)
	}
	defer f.Close()
	return serveRange(f, int64(req.Msg.Offset), int64(req.Msg.Length), func(data []byte, checksum uint32) error {
		return out.Send(&peerv1.ReadFileResponse{Data: data, Checksum: checksum})
	})
}

func (h *handler) DescribeBlob(_ context.Context, req *connect.Request[peerv1.DescribeBlobRequest]) (*connect.Response[peerv1.DescribeBlobResponse], error) {
	d, err := digest.Parse(req.Msg.Digest)
	if err != nil {
		return nil, toWire(fault.New(fault.Invalid, "bad_digest", "%w", err))
	}
	b, err := h.s.Blobs.Store.Open(d)
	if err != nil {
		return nil, toWire(err)
	}
	defer b.Close()
	r := &peerv1.DescribeBlobResponse{Size: uint64(b.Size())}
	for _, c := range b.Chunks() {
		r.Chunks = append(r.Chunks, c[:])
	}
	return connect.NewResponse(r), nil
}

func (h *handler) KeepBlob(ctx context.Context, req *connect.Request[peerv1.KeepBlobRequest]) (*connect.Response[peerv1.KeepBlobResponse], error) {
	d, err := digest.Parse(req.Msg.Digest)
	if err != nil {
		return nil, toWire(fault.New(fault.Invalid, "bad_digest", "%w", err))
	}
	fetch := h.s.Blobs.Transfer.Fetch
	if req.Msg.Background {
		fetch = h.s.Blobs.Transfer.Copy
	}
	var likely []string
	if req.Msg.From != "" {
		likely = append(likely, req.Msg.From)
	}
	if err := fetch(ctx, d, likely...); err != nil {
		return nil, toWire(err)
	}
	return connect.NewResponse(&peerv1.KeepBlobResponse{}), nil
}

func (h *handler) HasBlobs(_ context.Context, req *connect.Request[peerv1.HasBlobsRequest]) (*connect.Response[peerv1.HasBlobsResponse], error) {
	ds, err := digests(req.Msg.Digests)
	if err != nil {
		return nil, toWire(err)
	}
	r := &peerv1.HasBlobsResponse{}
	for i, d := range ds {
		if _, here := h.s.Blobs.Stat(d); !here {
			r.Lacking = append(r.Lacking, uint32(i))
		}
	}
	return connect.NewResponse(r), nil
}

func (h *handler) Referenced(ctx context.Context, req *connect.Request[peerv1.ReferencedRequest]) (*connect.Response[peerv1.ReferencedResponse], error) {
	ds, err := digests(req.Msg.Digests)
	if err != nil {
		return nil, toWire(err)
	}
	refs := map[digest.Digest]bool{}
	if err := h.s.Refs(ctx, shard.ID(req.Msg.Shard), func(d digest.Digest, _ bool) { refs[d] = true }); err != nil {
		return nil, toWire(err)
	}
	r := &peerv1.ReferencedResponse{}
	for i, d := range ds {
		if refs[d] {
			r.Referenced = append(r.Referenced, uint32(i))
		}
	}
	return connect.NewResponse(r), nil
}

func digests(bs [][]byte) (ds []digest.Digest, _ error) {
	for _, b := range bs {
		if len(b) != digest.Size {
			return nil, fault.New(fault.Invalid, "bad_digest", "a digest of %d bytes", len(b))
		}
		ds = append(ds, digest.Digest(b))
	}
	return ds, nil
}
