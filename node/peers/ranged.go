package peers

import (
	"context"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store/blob"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// How much of something on another node is read at a time: more while it is read from front to back.
const leastRange, mostRange = 128 << 10, 1 << 20

// rangeTime is how long a range may take. A node that takes longer counts as one that cannot be reached.
const rangeTime = 10 * time.Second

// ranged reads something that is on another node. It may be used concurrently.
type ranged struct {
	ctx   context.Context
	size  int64
	fetch func(ctx context.Context, off, n int64) ([]byte, error)

	mu    sync.Mutex
	at    int64 // where the block begins
	block []byte
	next  int64 // how much the next range has
}

func (r *ranged) Size() int64  { return r.size }
func (r *ranged) Close() error { return nil }

// ReadAt implements io.ReaderAt.
func (r *ranged) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fault.New(fault.Invalid, "bad_offset", "negative offset %d", off)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(p) && off < r.size {
		if off < r.at || off >= r.at+int64(len(r.block)) {
			if err := r.load(off); err != nil {
				return n, err
			}
		}
		k := copy(p[n:], r.block[off-r.at:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *ranged) load(off int64) error {
	switch {
	case r.next == 0 || off != r.at+int64(len(r.block)):
		r.next = leastRange
	default:
		r.next = min(2*r.next, mostRange)
	}
	n := min(r.next, r.size-off)
	if r.size <= 2*leastRange { // all of it: what follows is wanted as well
		off, n = 0, r.size
	}
	b, err := r.fetch(r.ctx, off, n)
	if err == nil && int64(len(b)) != n {
		err = fault.New(fault.Corrupt, "short_range", "%d bytes came of %d", len(b), n)
	}
	if err != nil {
		return err
	}
	r.at, r.block = off, b
	return nil
}

// received are parts of a range.
type received interface {
	GetData() []byte
	GetChecksum() uint32
}

// gather puts the parts of a range of n bytes together.
func gather[M any, P interface {
	*M
	received
}](n int64, in *connect.ServerStreamForClient[M], err error) ([]byte, error) {
	if err != nil {
		return nil, fromWire(err)
	}
	defer in.Close()
	b := make([]byte, 0, n)
	for in.Receive() {
		m := P(in.Msg())
		if crc32.Checksum(m.GetData(), castagnoli) != m.GetChecksum() {
			return nil, fault.New(fault.Corrupt, "damaged_range", "what came is not what was sent")
		}
		if len(b)+len(m.GetData()) > cap(b) {
			return nil, fault.New(fault.Corrupt, "long_range", "more came than %d bytes", n)
		}
		b = append(b, m.GetData()...)
	}
	return b, fromWire(in.Err())
}

// ranges are buffers for what is read at a time to be sent: a chunk of a blob is verified whole.
var ranges = sync.Pool{New: func() any { return new([blob.ChunkSize]byte) }}

// serveRange sends a range of something in parts.
func serveRange(r io.ReaderAt, off, n int64, send func(data []byte, checksum uint32) error) error {
	buf := ranges.Get().(*[blob.ChunkSize]byte)
	defer ranges.Put(buf)
	for first := true; n > 0 || first; first = false {
		k, err := r.ReadAt(buf[:min(n, blob.ChunkSize)], off)
		if err != nil && !errors.Is(err, io.EOF) {
			return toWire(err)
		}
		for part := range slices.Chunk(buf[:k], blobPart) {
			if err := send(part, crc32.Checksum(part, castagnoli)); err != nil {
				return err
			}
		}
		if k == 0 && first {
			if err := send(nil, 0); err != nil {
				return err
			}
		}
		if off, n = off+int64(k), n-int64(k); err != nil {
			break
		}
	}
	return nil
}

// lossTime is how long a node is waited for that has something: it may be starting again.
const lossTime = 3 * time.Second

// OpenAt opens a blob of a size that a node has, to be read in parts. Nothing of it is kept here. If the node does not have it, or
// cannot be reached for a while, reading fails with NotFound "unknown_blob".
func (b *Blobs) OpenAt(ctx context.Context, d digest.Digest, size int64, node string) (blob.Reader, error) {
	bl, err := b.Store.Open(d)
	switch {
	case err == nil:
		return bl, nil
	case fault.Reason(err) != "unknown_blob" || node == "" || node == b.Self:
		return nil, err
	}
	return &ranged{ctx: ctx, size: size, fetch: func(ctx context.Context, off, n int64) ([]byte, error) {
		return b.fetchRange(ctx, shard.NodeID(node), d, off, n)
	}}, nil
}

func (b *Blobs) fetchRange(ctx context.Context, node shard.NodeID, d digest.Digest, off, n int64) ([]byte, error) {
	end := time.Now().Add(lossTime)
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		part, err := func() ([]byte, error) {
			c, err := b.Peers.Of(node)
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, rangeTime)
			defer cancel()
			in, err := c.FetchBlob(ctx, connect.NewRequest(&peerv1.FetchBlobRequest{Digest: d.String(), Offset: uint64(off), Length: uint64(n)}))
			return gather(n, in, err)
		}()
		if k := fault.KindOf(err); err == nil || ctx.Err() != nil || k == fault.NotFound || k == fault.Corrupt {
			return part, err
		}
		if time.Now().After(end) {
			return nil, fault.New(fault.NotFound, "unknown_blob", "node %s, which has blob %s, cannot be reached: %w", node, d, err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// Files reads the files of other nodes. It may be used concurrently.
type Files struct {
	Self  string
	Peers *Clients
	// Others returns the other nodes that are there.
	Others func() []shard.NodeID
	// Removed tells whether a node was removed for good.
	Removed func(node string) bool
}

// File is one that is open.
type File interface {
	io.ReaderAt
	io.Closer
}

// Open opens a file as it was planned: on the node that planned it, or on any other that has the same. An error of kind Unavailable
// says that it may be found later.
func (f *Files) Open(ctx context.Context, part *storev1.FilePart, node string) (File, error) {
	all := []shard.NodeID{shard.NodeID(node)}
	for _, o := range f.Others() {
		if string(o) != node {
			all = append(all, o)
		}
	}
	var planned error
	hope := !f.Removed(node)
	for _, n := range all {
		if string(n) == f.Self {
			continue
		}
		file := &ranged{ctx: ctx, size: int64(part.FileSize), fetch: func(ctx context.Context, off, k int64) ([]byte, error) { return f.read(ctx, n, part, off, k) }}
		// Whether it is there is known once something of it is.
		err := file.load(0)
		if err == nil {
			return file, nil
		}
		if string(n) == node {
			planned = err
		} else {
			hope = hope || fault.KindOf(err) == fault.Unavailable
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	if fault.As(planned) != nil && fault.KindOf(planned) != fault.Unavailable {
		return nil, planned
	}
	if !hope {
		return nil, fault.New(fault.Precondition, "input_gone", "input file %s was on node %s, which was removed from the cluster, and no other node has it", part.Path, node).
			Hint("submit the job again at a node that has the file")
	}
	return nil, fault.New(fault.Unavailable, "input_away", "input file %s is on node %s, which cannot be reached: %v", part.Path, node, planned).
		Hint("start that node, or copy the file to the same place on another one, with its time")
}

func (f *Files) read(ctx context.Context, n shard.NodeID, part *storev1.FilePart, off, k int64) ([]byte, error) {
	c, err := f.Peers.Of(n)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, rangeTime)
	defer cancel()
	in, err := c.ReadFile(ctx, connect.NewRequest(&peerv1.ReadFileRequest{File: part, Offset: uint64(off), Length: uint64(k)}))
	return gather(k, in, err)
}
