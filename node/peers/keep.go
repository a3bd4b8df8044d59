package peers

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/shard"
)

// Keep sees to it that nodes have a blob that is here.
func (b *Blobs) Keep(ctx context.Context, d digest.Digest, on []shard.NodeID) error {
	bl, err := b.Store.Open(d)
	if err != nil {
		return err
	}
	size := uint64(bl.Size())
	bl.Close()
	var errs []error
	for _, n := range on {
		if b.has(ctx, n, d, size) {
			continue
		}
		if err := b.give(ctx, n, d); err != nil {
			errs = append(errs, fmt.Errorf("blob %s to node %s: %w", d, n, err))
		}
	}
	return errors.Join(errs...)
}

// has asks a node for what comes after the end of a blob, which is nothing if it has it.
func (b *Blobs) has(ctx context.Context, n shard.NodeID, d digest.Digest, size uint64) bool {
	c, err := b.Peers.Of(n)
	if err != nil {
		return false
	}
	in, err := c.FetchBlob(ctx, connect.NewRequest(&peerv1.FetchBlobRequest{Digest: d.String(), Offset: size}))
	if err != nil {
		return false
	}
	defer in.Close()
	return in.Receive() && in.Msg().Size == size
}
