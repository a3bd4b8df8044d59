package grants

import (
	"container/list"
	"sync"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// Cache is the memory that functions of a service share on a node. It is bounded: what was not used for longest leaves
// first, and nothing in it outlives the process. It is safe for concurrent use.
type Cache struct {
	limit int
	now   func() time.Time

	mu      sync.Mutex
	size    int
	last    uint64 // version
	entries map[cacheKey]*list.Element
	order   list.List // of *cacheEntry, the one used last in front
}

type cacheKey struct{ service, key string }

type cacheEntry struct {
	cacheKey
	value   []byte
	version uint64
	end     time.Time // zero: none
}

const (
	maxKey   = 1 << 10
	maxValue = 1 << 20
	// overhead is what an entry takes beside its key and value.
	overhead = 200
)

// NewCache makes a Cache of so many bytes.
func NewCache(limit int, now func() time.Time) *Cache {
	return &Cache{limit: limit, now: now, entries: map[cacheKey]*list.Element{}}
}

func (e *cacheEntry) size() int { return len(e.service) + len(e.key) + len(e.value) + overhead }

// Get answers an entry and its version, 0 where there is none. The value must not be changed.
func (c *Cache) Get(service, key string) ([]byte, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.find(cacheKey{service, key})
	if e == nil {
		return nil, 0
	}
	return e.value, e.version
}

// find answers a live entry and makes it the one used last.
func (c *Cache) find(k cacheKey) *cacheEntry {
	at := c.entries[k]
	if at == nil {
		return nil
	}
	e := at.Value.(*cacheEntry)
	if !e.end.IsZero() && !c.now().Before(e.end) {
		c.remove(at)
		return nil
	}
	c.order.MoveToFront(at)
	return e
}

func (c *Cache) remove(at *list.Element) {
	e := c.order.Remove(at).(*cacheEntry)
	delete(c.entries, e.cacheKey)
	c.size -= e.size()
}

// Put sets an entry, for a time where ttl is above 0; a ttl below 0 removes it. Where expect is not nil, it does so only
// if that is the entry's version. It answers the version that there is afterwards, and whether it did.
func (c *Cache) Put(service, key string, value []byte, ttl time.Duration, expect *uint64) (uint64, bool, error) {
	if len(key) > maxKey || len(value) > maxValue {
		return 0, false, fault.New(fault.Limit, "payload_limit", "a cache entry has a key of at most %d bytes and a value of at most %d, not %d and %d", maxKey, maxValue, len(key), len(value)).
			With("limit", "cache_entry_bytes").With("value", maxValue).
			Hint("keep less in an entry")
	}
	k := cacheKey{service, key}
	c.mu.Lock()
	defer c.mu.Unlock()
	present := uint64(0)
	if e := c.find(k); e != nil {
		present = e.version
	}
	if expect != nil && *expect != present {
		return present, false, nil
	}
	if at := c.entries[k]; at != nil {
		c.remove(at)
	}
	if ttl < 0 {
		return 0, true, nil
	}
	c.last++
	e := &cacheEntry{cacheKey: k, value: append([]byte(nil), value...), version: c.last}
	if ttl > 0 {
		e.end = c.now().Add(ttl)
	}
	c.entries[k] = c.order.PushFront(e)
	c.size += e.size()
	for c.size > c.limit && c.order.Len() > 1 {
		c.remove(c.order.Back())
	}
	return e.version, true, nil
}
