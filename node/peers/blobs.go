package peers

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"log/slog"
	"time"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store/blob"
)

// Blobs brings blobs to where they are needed: here, when something refers to one that is elsewhere, and to the nodes that would
// take over, before something refers to one. It may be used concurrently.
type Blobs struct {
	*blob.Store
	Self  string
	Peers *Clients
	// Others returns the other nodes that are there.
	Others func() []shard.NodeID
}

// spreadTimeout is how long others may take to store a copy; one that is slower does without.
const spreadTimeout = 10 * time.Second

// Open opens a blob, which it fetches from another node first if it is not here. The error is "unknown_blob" if none has it.
func (b *Blobs) Open(ctx context.Context, d digest.Digest) (*blob.Blob, error) {
	bl, err := b.Store.Open(d)
	if err == nil || fault.Reason(err) != "unknown_blob" {
		return bl, err
	}
	for _, n := range b.Others() {
		if e := b.fetch(ctx, n, d); e == nil {
			return b.Store.Open(d)
		} else if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, fault.New(fault.NotFound, "unknown_blob", "blob %s is on none of the nodes that answer", d).
		Hint("if a node is away that has it, start it; otherwise push or submit again what it belongs to").With("digest", d)
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

// fetch gets a blob from a node.
func (b *Blobs) fetch(ctx context.Context, n shard.NodeID, d digest.Digest) error {
	c, err := b.Peers.Of(n)
	if err != nil {
		return err
	}
	in, err := c.FetchBlob(ctx, connect.NewRequest(&peerv1.FetchBlobRequest{Digest: d.String()}))
	if err != nil {
		return fromWire(err)
	}
	defer in.Close()
	w, err := b.Store.Create(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	for in.Receive() {
		if crc32.Checksum(in.Msg().Data, castagnoli) != in.Msg().Checksum {
			return fault.New(fault.Corrupt, "damaged_range", "what came is not what was sent")
		}
		if _, err := w.Write(in.Msg().Data); err != nil {
			return err
		}
	}
	if err := in.Err(); err != nil {
		return fromWire(err)
	}
	got, _, err := w.Commit()
	if err == nil && got != d {
		err = fault.New(fault.Corrupt, "damaged_blob", "node %s has other bytes for %s", n, d)
	}
	return err
}

// copies is how many other nodes get a copy.
const copies = 2

// Spread copies a blob to others, so that it survives this node. It is not a failure that there is nobody to take it: what is
// lost can be fetched from this node when it is back, or made again.
func (b *Blobs) Spread(ctx context.Context, d digest.Digest) {
	others := b.Others()
	each(ctx, others[:min(copies, len(others))], spreadTimeout, func(ctx context.Context, _ int, n shard.NodeID) {
		if err := b.give(ctx, n, d); err != nil && ctx.Err() == nil {
			slog.Warn("blob not copied", "blob", d, "node", n, "error", err)
		}
	})
}

func (b *Blobs) give(ctx context.Context, n shard.NodeID, d digest.Digest) error {
	c, err := b.Peers.Of(n)
	if err != nil {
		return err
	}
	bl, err := b.Store.Open(d)
	if err != nil {
		return err
	}
	defer bl.Close()
	out := c.StoreBlob(ctx)
	buf := make([]byte, blobPart)
	r := bl.Reader(0, bl.Size())
	for first := true; ; first = false {
		k, err := io.ReadFull(r, buf)
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return err
		}
		if k > 0 || first {
			if err := out.Send(&peerv1.StoreBlobRequest{Digest: d.String(), Data: buf[:k]}); err != nil {
				break // the answer says why
			}
		}
		if end {
			break
		}
	}
	_, err = out.CloseAndReceive()
	return fromWire(err)
}
