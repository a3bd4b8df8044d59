package peers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store/blob"
	"github.com/wattlehq/wattle/transfer"
)

// Blobs brings blobs to where they are needed: here, when something refers to one that is elsewhere, and to the nodes that
// keep it, before something refers to one. It may be used concurrently.
type Blobs struct {
	*blob.Store
	Self     string
	Peers    *Clients
	Transfer *transfer.Fetcher
	// Keepers returns the nodes that keep a blob that must not be lost, this one perhaps among them.
	Keepers func(d digest.Digest) []shard.NodeID
}

// spreadTimeout is how long others may take to fetch a copy; one that is slower does without.
const spreadTimeout = 10 * time.Second

// Open opens a blob, which it fetches from other nodes first if it is not here. The error is "unknown_blob" if none has it.
func (b *Blobs) Open(ctx context.Context, d digest.Digest) (*blob.Blob, error) {
	bl, err := b.Store.Open(d)
	if err == nil || fault.Reason(err) != "unknown_blob" {
		return bl, err
	}
	if err := b.Transfer.Fetch(ctx, d); err != nil {
		return nil, err
	}
	return b.Store.Open(d)
}

// Put is blob.Store.Put, and Spread.
func (b *Blobs) Put(ctx context.Context, r io.Reader) (digest.Digest, int64, error) {
	d, size, err := b.Store.Put(ctx, r)
	if err == nil {
		b.Spread(ctx, d)
	}
	return d, size, err
}

// FinishUpload is blob.Store.FinishUpload, and Spread.
func (b *Blobs) FinishUpload(ctx context.Context, d digest.Digest) error {
	if err := b.Store.FinishUpload(ctx, d); err != nil {
		return err
	}
	b.Spread(ctx, d)
	return nil
}

// Spread has the nodes fetch a blob that keep it, so that it survives this one. It is not a failure that there is nobody to take it:
// those who keep it look for what they lack.
func (b *Blobs) Spread(ctx context.Context, d digest.Digest) {
	var others []shard.NodeID
	for _, n := range b.Keepers(d) {
		if string(n) != b.Self {
			others = append(others, n)
		}
	}
	each(ctx, others, spreadTimeout, func(ctx context.Context, _ int, n shard.NodeID) {
		c, err := b.Peers.Of(n)
		if err == nil {
			_, err = c.KeepBlob(ctx, connect.NewRequest(&peerv1.KeepBlobRequest{Digest: d.String(), From: b.Self}))
		}
		if err != nil && ctx.Err() == nil {
			slog.Warn("blob not copied", "blob", d, "node", n, "error", fromWire(err))
		}
	})
}

// asked is how many blobs are asked after in one message.
const asked = 4096

// Repair has the nodes fetch blobs that keep them and lack them, while nobody waits for it. It returns how many were copied. What
// goes wrong with some does not keep it from the others.
func (b *Blobs) Repair(ctx context.Context, all []digest.Digest) (copied int, _ error) {
	of := map[shard.NodeID][]digest.Digest{}
	for _, d := range all {
		for _, n := range b.Keepers(d) {
			of[n] = append(of[n], d)
		}
	}
	var errs []error
	for n, ds := range of {
		for part := range slices.Chunk(ds, asked) {
			lacks, err := b.lacking(ctx, n, part)
			for _, d := range lacks {
				if err = b.keep(ctx, n, d); err != nil {
					break // it may be the node
				}
				copied++
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("node %s: %w", n, err))
			}
		}
	}
	return copied, errors.Join(errs...)
}

// lacking returns those that a node lacks.
func (b *Blobs) lacking(ctx context.Context, n shard.NodeID, ds []digest.Digest) (lacks []digest.Digest, _ error) {
	if string(n) == b.Self {
		return slices.DeleteFunc(slices.Clone(ds), func(d digest.Digest) bool {
			_, here := b.Stat(d)
			return here
		}), nil
	}
	c, err := b.Peers.Of(n)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, spreadTimeout)
	defer cancel()
	req := &peerv1.HasBlobsRequest{}
	for _, d := range ds {
		req.Digests = append(req.Digests, d[:])
	}
	r, err := c.HasBlobs(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, fromWire(err)
	}
	for _, i := range r.Msg.Lacking {
		if int(i) < len(ds) {
			lacks = append(lacks, ds[i])
		}
	}
	return lacks, nil
}

func (b *Blobs) keep(ctx context.Context, n shard.NodeID, d digest.Digest) error {
	if string(n) == b.Self {
		return b.Transfer.Copy(ctx, d)
	}
	c, err := b.Peers.Of(n)
	if err != nil {
		return err
	}
	req := &peerv1.KeepBlobRequest{Digest: d.String(), Background: true}
	if _, here := b.Stat(d); here {
		req.From = b.Self
	}
	_, err = c.KeepBlob(ctx, connect.NewRequest(req))
	return fromWire(err)
}

// Holders ask other nodes for blobs. It implements transfer.Nodes.
type Holders struct{ Peers *Clients }

// Describe implements transfer.Nodes.
func (h Holders) Describe(ctx context.Context, node string, d digest.Digest) (is transfer.Description, _ error) {
	c, err := h.Peers.Of(shard.NodeID(node))
	if err != nil {
		return is, err
	}
	r, err := c.DescribeBlob(ctx, connect.NewRequest(&peerv1.DescribeBlobRequest{Digest: d.String()}))
	if err != nil {
		return is, fromWire(err)
	}
	is.Size = int64(r.Msg.Size)
	is.Chunks, err = digests(r.Msg.Chunks)
	return is, err
}

// Read implements transfer.Nodes.
func (h Holders) Read(ctx context.Context, node string, d digest.Digest, off, n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	c, err := h.Peers.Of(shard.NodeID(node))
	if err != nil {
		return nil, err
	}
	in, err := c.FetchBlob(ctx, connect.NewRequest(&peerv1.FetchBlobRequest{Digest: d.String(), Offset: uint64(off), Length: uint64(n)}))
	return gather(n, in, err)
}
