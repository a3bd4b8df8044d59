// Package transfer brings blobs to this node from the nodes that have them: it asks around who has one, fetches its chunks from
// several of them at once, goes on without those that fail, and takes up again what was interrupted, also by a restart. Every chunk is verified
// when it comes and the whole before it counts, so that a node with damaged bytes costs time and nothing else.
//
// It does not know who the nodes are, how they are asked, or which blobs belong where: Config says so. What was fetched is pinned as
// if it had been put here, see package store/blob.
package transfer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store/blob"
)

// Description is what a blob is made of.
type Description struct {
	Size   int64
	Chunks []digest.Digest
}

// Nodes answers for other nodes. Its methods are called concurrently.
type Nodes interface {
	// Describe tells what a node has under a digest. The error is NotFound if that is nothing.
	Describe(ctx context.Context, node string, d digest.Digest) (Description, error)
	// Read reads a part of it.
	Read(ctx context.Context, node string, d digest.Digest, off, n int64) ([]byte, error)
}

// Config is what a Fetcher needs. Fields without a default must be set.
type Config struct {
	Store *blob.Store
	Nodes Nodes
	// Around returns the other nodes that are there.
	Around func() []string
	// Rate bounds what is fetched without anybody waiting for it, in bytes a second; DefaultRate by default.
	Rate int64
}

// DefaultRate leaves room for those who wait.
const DefaultRate = 64 << 20

const (
	// atOnce bounds the chunks on their way, and with them memory.
	atOnce = 16
	// perNode is how many of them one node is asked for at a time.
	perNode = 2
	// asking is how many nodes are asked at a time whether they have a blob.
	asking = 8
	// strikes is how often a node may fail before the others go on without it.
	strikes = 3
	// readTime is how long a chunk may take, describeTime how long the answer whether a node has a blob.
	readTime, describeTime = 30 * time.Second, 5 * time.Second
	// pause is how long a node is left alone that failed.
	pause = 100 * time.Millisecond
)

// Fetcher fetches blobs. It may be used concurrently.
type Fetcher struct {
	cfg     Config
	flights singleflight.Group
	urgent  sync.Map // blobs that somebody waits for: how many
	room    *semaphore.Weighted
	limit   *rate.Limiter
}

// New returns a Fetcher. It starts nothing.
func New(cfg Config) *Fetcher {
	if cfg.Rate <= 0 {
		cfg.Rate = DefaultRate
	}
	return &Fetcher{cfg: cfg, room: semaphore.NewWeighted(atOnce), limit: rate.NewLimiter(rate.Limit(cfg.Rate), blob.ChunkSize)}
}

// Fetch brings a blob here for somebody who waits, unless it is here. The likely nodes are asked first. The error is NotFound
// "unknown_blob" if no node that answers has it, and Unavailable if none could give all of it.
func (f *Fetcher) Fetch(ctx context.Context, d digest.Digest, likely ...string) error {
	n, _ := f.urgent.LoadOrStore(d, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	defer func() {
		if n.(*atomic.Int64).Add(-1) == 0 {
			f.urgent.CompareAndDelete(d, n) // one that came in between is slow, no more
		}
	}()
	return f.fetch(ctx, d, likely, nil)
}

// Copy is Fetch for nobody in particular: it is slower when there is much to copy.
func (f *Fetcher) Copy(ctx context.Context, d digest.Digest, likely ...string) error {
	return f.fetch(ctx, d, likely, f.limit)
}

func (f *Fetcher) fetch(ctx context.Context, d digest.Digest, likely []string, limit *rate.Limiter) error {
	for {
		if _, here := f.cfg.Store.Stat(d); here {
			f.cfg.Store.Pin(d)
			return nil
		}
		flight := f.flights.DoChan(d.Hex(), func() (any, error) {
			return nil, f.download(ctx, d, likely, limit)
		})
		select {
		case r := <-flight:
			// Somebody else's patience may have ended before this one's.
			if r.Shared && ctx.Err() == nil && (errors.Is(r.Err, context.Canceled) || errors.Is(r.Err, context.DeadlineExceeded)) {
				continue
			}
			return r.Err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// download tries until there is a blob: whoever describes it wrongly is not asked again.
func (f *Fetcher) download(ctx context.Context, d digest.Digest, likely []string, limit *rate.Limiter) error {
	nodes := slices.Clone(likely)
	for _, n := range f.cfg.Around() {
		if !slices.Contains(nodes, n) {
			nodes = append(nodes, n)
		}
	}
	for {
		w := &download{f: f, d: d, limit: limit, done: make(chan struct{})}
		err := w.run(ctx, nodes)
		if fault.Reason(err) != "digest_mismatch" {
			return err
		}
		slog.Warn("a node describes a blob wrongly", "node", w.describer, "blob", d)
		nodes = slices.DeleteFunc(nodes, func(n string) bool { return n == w.describer })
	}
}

// download is one blob on its way.
type download struct {
	f     *Fetcher
	d     digest.Digest
	limit *rate.Limiter
	wg    sync.WaitGroup

	mu        sync.Mutex
	describer string // who said first what it is made of
	is        Description
	todo      chan int // chunks that nobody fetches
	left      atomic.Int64
	done      chan struct{} // closed when none is left
	failed    error
}

func (w *download) run(ctx context.Context, nodes []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer w.wg.Wait()
	defer cancel()
	turns := make(chan struct{}, asking)
	all := make(chan struct{})
	w.wg.Go(func() {
		// Others join while the first ones are at work.
		var asked sync.WaitGroup
		for _, n := range nodes {
			select {
			case turns <- struct{}{}:
			case <-ctx.Done():
				continue
			case <-w.done:
				continue
			}
			asked.Go(func() {
				ok := w.ask(ctx, n)
				<-turns
				if !ok {
					return
				}
				var workers sync.WaitGroup
				for range perNode {
					workers.Go(func() { w.work(ctx, n) })
				}
				workers.Wait()
			})
		}
		asked.Wait()
		close(all)
	})
	select {
	case <-w.done:
	case <-all:
	}
	select {
	case <-w.done:
		return w.f.cfg.Store.FinishUpload(ctx, w.d)
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case w.failed != nil && fault.KindOf(w.failed) == fault.Exhausted:
		return w.failed
	case w.describer == "":
		return fault.New(fault.NotFound, "unknown_blob", "blob %s is on none of the nodes that answer", w.d).
			Hint("if a node is away that has it, start it; otherwise push or submit again what it belongs to").With("digest", w.d)
	}
	return fault.New(fault.Unavailable, "blob_interrupted", "blob %s did not arrive whole: %v", w.d, w.failed).
		Hint("try again: what came is kept").With("digest", w.d)
}

// ask finds out whether a node has the blob, and takes what the first one says of it.
func (w *download) ask(ctx context.Context, node string) bool {
	ctx, cancel := context.WithTimeout(ctx, describeTime)
	defer cancel()
	is, err := w.f.cfg.Nodes.Describe(ctx, node, w.d)
	if err != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.describer != "" {
		return is.Size == w.is.Size && slices.Equal(is.Chunks, w.is.Chunks)
	}
	missing, err := w.f.cfg.Store.StartUpload(w.d, is.Size, is.Chunks)
	if err != nil {
		w.failed = err
		return false
	}
	w.describer, w.is = node, is
	w.todo = make(chan int, len(is.Chunks))
	for _, i := range missing {
		w.todo <- i
	}
	if w.left.Store(int64(len(missing))); len(missing) == 0 {
		close(w.done)
	}
	return true
}

// work fetches chunks from a node until there are none, or the node failed too often.
func (w *download) work(ctx context.Context, node string) {
	for failures := 0; failures < strikes; {
		select {
		case <-ctx.Done():
			return
		case <-w.done:
			return
		case i := <-w.todo:
			err := w.chunk(ctx, node, i)
			if err == nil {
				if w.left.Add(-1) == 0 {
					close(w.done)
				}
				continue
			}
			w.todo <- i
			w.mu.Lock()
			w.failed = err
			w.mu.Unlock()
			// Bytes that are wrong once are wrong again, and a disk that is full stays so.
			if k := fault.KindOf(err); k == fault.Corrupt || k == fault.NotFound || k == fault.Exhausted {
				slog.Warn("a blob is fetched without a node", "blob", w.d, "node", node, "error", err)
				return
			}
			failures++
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
}

func (w *download) chunk(ctx context.Context, node string, i int) error {
	off := int64(i) * blob.ChunkSize
	n := min(blob.ChunkSize, w.is.Size-off)
	if _, urgent := w.f.urgent.Load(w.d); w.limit != nil && !urgent {
		if err := w.limit.WaitN(ctx, int(n)); err != nil {
			return err
		}
	}
	if err := w.f.room.Acquire(ctx, 1); err != nil {
		return err
	}
	defer w.f.room.Release(1)
	ctx, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	b, err := w.f.cfg.Nodes.Read(ctx, node, w.d, off, n)
	if err != nil {
		return err
	}
	err = w.f.cfg.Store.PutChunk(w.d, i, b)
	if fault.Reason(err) == "bad_chunk" {
		err = fault.New(fault.Corrupt, "damaged_blob", "node %s has other bytes: %w", node, err)
	}
	return err
}
