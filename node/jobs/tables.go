package jobs

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/store/blob"
)

// mostTables is how many tables of inputs stay open, tableTime how long one does that nobody reads: while it is open it is not
// collected.
const (
	mostTables = 8
	tableTime  = time.Minute
)

// tables keeps tables of inputs open between tasks: each task reads a few bytes of one, of which a whole chunk has to be verified.
// The zero value is ready. It may be used concurrently.
type tables struct {
	mu   sync.Mutex
	open map[digest.Digest]*table
}

// table is an open table. It remembers the chunks that were read last: an entry and where it ends are in two.
type table struct {
	b       *blob.Blob
	readers int // guarded by tables.mu, as used
	used    time.Time

	mu     sync.Mutex
	chunks [mostChunks]chunk // the one read last is first
}

type chunk struct {
	at    int64
	bytes []byte
}

// mostChunks is how many chunks of a table are remembered.
const mostChunks = 3

// ReadAt implements io.ReaderAt.
func (t *table) ReadAt(p []byte, off int64) (n int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n < len(p) && off < t.b.Size() {
		b, err := t.chunk(off / blob.ChunkSize * blob.ChunkSize)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], b[off%blob.ChunkSize:])
		n, off = n+k, off+int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (t *table) chunk(at int64) ([]byte, error) {
	i := 0
	for i < mostChunks-1 && (t.chunks[i].at != at || t.chunks[i].bytes == nil) {
		i++
	}
	c := t.chunks[i]
	if c.at != at || c.bytes == nil {
		c = chunk{at, make([]byte, min(blob.ChunkSize, t.b.Size()-at))}
		if _, err := t.b.ReadAt(c.bytes, at); err != nil {
			return nil, err
		}
	}
	copy(t.chunks[1:i+1], t.chunks[:i])
	t.chunks[0] = c
	return c.bytes, nil
}

// get returns a table, and what to call when it has been read, with how that went: one that cannot be read is opened again.
func (c *tables) get(ctx context.Context, blobs Blobs, d digest.Digest) (r io.ReaderAt, size int64, done func(error), err error) {
	c.mu.Lock()
	t := c.open[d]
	if t == nil {
		c.mu.Unlock()
		b, err := blobs.Open(ctx, d)
		if err != nil {
			return nil, 0, nil, err
		}
		c.mu.Lock()
		if t = c.open[d]; t != nil {
			defer b.Close() // somebody else was faster
		} else {
			t = &table{b: b}
			if c.open == nil {
				c.open = map[digest.Digest]*table{}
			}
			c.open[d] = t
		}
	}
	t.readers++
	t.used = time.Now()
	c.evict()
	c.mu.Unlock()
	return t, t.b.Size(), func(err error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.readers--; err != nil && c.open[d] == t {
			delete(c.open, d)
		}
		if t.readers == 0 && c.open[d] != t {
			_ = t.b.Close()
		}
	}, nil
}

// evict closes tables that nobody reads: those that were not read for a while, and the oldest while there are too many. The caller holds mu.
func (c *tables) evict() {
	var oldest *table
	var name digest.Digest
	for d, t := range c.open {
		switch {
		case t.readers > 0:
		case time.Since(t.used) > tableTime:
			_ = t.b.Close()
			delete(c.open, d)
		case oldest == nil || t.used.Before(oldest.used):
			oldest, name = t, d
		}
	}
	if len(c.open) > mostTables && oldest != nil {
		delete(c.open, name)
		_ = oldest.b.Close()
	}
}
