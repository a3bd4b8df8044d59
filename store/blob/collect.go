package blob

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/wattlehq/wattle/internal/digest"
)

// Collection is a mark and a sweep. What is put or pinned after it began stays, so references that are read
// afterwards miss nothing: a blob newer than the mark has its pin, an older one its reference.
type Collection struct {
	s     *Store
	epoch uint64

	mu   sync.Mutex
	only map[digest.Digest]struct{} // what may be removed; nil is everything
	kept map[digest.Digest]struct{}
}

// BeginCollect begins a mark. The caller then reads every reference there is and keeps it; when it cannot
// read all of them, it drops the Collection.
func (s *Store) BeginCollect() *Collection {
	return &Collection{s: s, epoch: s.epoch.Add(1), kept: map[digest.Digest]struct{}{}}
}

// Candidates returns what would be removed if nothing were kept. From then on nothing else is.
func (c *Collection) Candidates() []digest.Digest {
	only := map[digest.Digest]struct{}{}
	for i := range c.s.fans {
		for _, d := range c.candidates(&c.s.fans[i]) {
			only[d] = struct{}{}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.only = only
	return slices.Collect(maps.Keys(only))
}

// Keep says that something refers to d. It may be called concurrently, and for digests that are not here.
func (c *Collection) Keep(d digest.Digest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept[d] = struct{}{}
}

// Finish removes the blobs that were there when the mark began, were neither kept nor put nor pinned
// since, hold no pin now and are not being read. It returns how many it removed and their bytes. A file that cannot be
// removed does not stop it; the errors come back joined. Uploads older than a day are dropped too.
// It stops early when ctx ends.
func (c *Collection) Finish(ctx context.Context) (removed int, bytes int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for i := range c.s.fans {
		if err := context.Cause(ctx); err != nil {
			return removed, bytes, errors.Join(append(errs, err)...)
		}
		n, b, err := c.sweep(&c.s.fans[i])
		removed, bytes = removed+n, bytes+b
		errs = append(errs, err)
	}
	errs = append(errs, c.s.expireStaged())
	return removed, bytes, errors.Join(errs...)
}

// sweep goes through one fan in small steps, so that puts do not wait for a long sweep.
func (c *Collection) sweep(f *fan) (removed int, bytes int64, err error) {
	var errs []error
	for _, d := range c.candidates(f) {
		f.mu.Lock()
		// The world has moved on since the candidates were listed.
		if e := f.entries[d]; e != nil && c.garbage(d, e) {
			if err := c.s.remove(f, d, e); err != nil {
				errs = append(errs, err)
			} else {
				removed, bytes = removed+1, bytes+e.size
			}
		}
		f.mu.Unlock()
	}
	return removed, bytes, errors.Join(errs...)
}

func (c *Collection) candidates(f *fan) []digest.Digest {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []digest.Digest
	for d, e := range f.entries {
		if c.garbage(d, e) {
			list = append(list, d)
		}
	}
	return list
}

func (c *Collection) garbage(d digest.Digest, e *entry) bool {
	_, kept := c.kept[d]
	_, candidate := c.only[d]
	return !kept && (candidate || c.only == nil) && e.epoch < c.epoch && e.readers == 0 && !c.s.now().Before(e.pinned)
}
