// Package memory is a store.Store in memory that can crash: for the simulator and for tests that want thousands of stores.
//
// A Disk outlives the stores that are opened on it. It remembers what was synced, so that Crash can take away the rest, as a
// power cut does, and it can fail or be damaged on demand. It starts no goroutine and draws no random numbers, so the same
// calls give the same disk. It does not imitate files: a store over it has no FS of its own.
package memory

import (
	"fmt"
	"iter"
	"sync"

	"github.com/tidwall/btree"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

// Op is something a disk is asked to do.
type Op struct {
	// DB is "log" or "state".
	DB string
	// Sync tells that what was written so far is to be made durable.
	Sync bool
}

// Disk holds the two maps of one node. The zero value is an empty one.
type Disk struct {
	// Fault, if set, is asked before each Op, and may let it fail. Whether what failed is there after a
	// crash is as open as with anything that was not synced.
	Fault func(Op) error

	log, state tree
}

// Open returns a store over what the disk holds.
func (d *Disk) Open() *store.Store {
	return &store.Store{Log: d.open("log", &d.log, true), State: d.open("state", &d.state, false)}
}

func (d *Disk) open(name string, t *tree, wal bool) *db {
	return &db{disk: d, tree: t, name: name, wal: wal}
}

// Crash loses what was not synced. keep is told how many commits of a map may be lost, in order, and answers how many of
// them the disk had written already.
func (d *Disk) Crash(keep func(db string, unsynced int) int) {
	for name, t := range d.trees {
		t.crash(func(n int) int { return keep(name, n) })
	}
}

// trees yields the maps in a fixed order.
func (d *Disk) trees(yield func(string, *tree) bool) {
	_ = yield("log", &d.log) && yield("state", &d.state)
}

// Damage makes one pair of a map unreadable, which pick chooses by its place, until it is written anew. It tells whether
// there was one.
func (d *Disk) Damage(db string, pick func(pairs int) int) bool {
	for name, t := range d.trees {
		if name == db {
			return t.damage(pick)
		}
	}
	return false
}

// tree is a map with its past. Its methods may be called concurrently.
type tree struct {
	mu      sync.Mutex
	now     btree.Map[string, []byte]
	durable btree.Map[string, []byte]
	// since are what the map was after each commit that is not durable; the last one is now.
	since   []*btree.Map[string, []byte]
	damaged map[string]bool
}

func (t *tree) crash(keep func(unsynced int) int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.since); n > 0 {
		if k := keep(n); k > 0 {
			t.durable = *t.since[k-1].Copy()
		}
	}
	t.now, t.since = *t.durable.Copy(), nil
}

func (t *tree) damage(pick func(int) int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.durable.Len() == 0 {
		return false
	}
	key, _, _ := t.durable.GetAt(pick(t.durable.Len()))
	if t.damaged == nil {
		t.damaged = map[string]bool{}
	}
	t.damaged[key] = true
	return true
}

func (t *tree) copy() *btree.Map[string, []byte] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now.Copy()
}

// commit puts writes in.
func (t *tree) commit(writes []write) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range writes {
		w.do(&t.now)
		delete(t.damaged, w.key)
	}
	t.since = append(t.since, t.now.Copy())
}

func (t *tree) sync() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.durable, t.since = *t.now.Copy(), nil
}

func (t *tree) check(key, dir string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.damaged[key] {
		return nil
	}
	return fault.New(fault.Corrupt, "damaged_store", "%s cannot read %x", dir, key).Hint("check the disk")
}

// write is one change of a batch.
type write struct {
	kind       kind
	key, upper string
	value      []byte
}

type kind byte

const (
	set kind = iota
	remove
	removeRange
)

func (w write) do(m *btree.Map[string, []byte]) {
	switch w.kind {
	case set:
		m.Set(w.key, w.value)
	case remove:
		m.Delete(w.key)
	case removeRange:
		var keys []string
		m.Ascend(w.key, func(k string, _ []byte) bool {
			if k >= w.upper {
				return false
			}
			keys = append(keys, k)
			return true
		})
		for _, k := range keys {
			m.Delete(k)
		}
	}
}

// db is a store.DB over a tree.
type db struct {
	disk *Disk
	tree *tree
	name string
	wal  bool
}

func (d *db) view() *view { return &view{m: d.tree.copy(), db: d} }

func (d *db) Get(key []byte) ([]byte, bool, error) { return d.view().Get(key) }

func (d *db) Scan(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte] {
	return d.view().Scan(lower, upper, err)
}

func (d *db) ScanDurable(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte] {
	d.tree.mu.Lock()
	m := d.tree.durable.Copy()
	d.tree.mu.Unlock()
	return (&view{m: m, db: d}).Scan(lower, upper, err)
}

func (d *db) NewBatch(indexed bool) store.Batch {
	b := &batch{view: view{db: d}}
	if indexed {
		b.m = d.tree.copy()
	}
	return b
}

func (d *db) Snapshot() store.Snapshot { return d.view() }

func (d *db) Flush() error {
	if err := d.ask(true); err != nil {
		return err
	}
	d.tree.sync()
	return nil
}

func (d *db) AsyncFlush() error { return d.Flush() }

func (d *db) Dir() string { return d.name }

// Close leaves the disk as a crash would find it: nothing is made durable.
func (d *db) Close() error { return nil }

func (d *db) ask(sync bool) error {
	if d.disk.Fault == nil {
		return nil
	}
	return d.disk.Fault(Op{DB: d.name, Sync: sync})
}

// view is the map at one moment.
type view struct {
	m  *btree.Map[string, []byte]
	db *db
}

func (v *view) Get(key []byte) ([]byte, bool, error) {
	b, ok := v.m.Get(string(key))
	if !ok {
		return nil, false, nil
	}
	if err := v.db.tree.check(string(key), v.db.name); err != nil {
		return nil, false, err
	}
	return append(make([]byte, 0, len(b)), b...), true, nil
}

func (v *view) Scan(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte] {
	m := v.m.Copy() // the batch it may be goes on
	return func(yield func([]byte, []byte) bool) {
		m.Ascend(string(lower), func(k string, b []byte) bool {
			if upper != nil && k >= string(upper) {
				return false
			}
			if e := v.db.tree.check(k, v.db.name); e != nil {
				*err = e
				return false
			}
			return yield([]byte(k), b)
		})
	}
}

func (v *view) Close() error { return nil }

// batch is a store.Batch.
type batch struct {
	view
	writes []write
}

func (b *batch) add(w write) error {
	b.writes = append(b.writes, w)
	if b.m != nil {
		w.do(b.m)
	}
	return nil
}

func (b *batch) Set(key, value []byte) error {
	return b.add(write{kind: set, key: string(key), value: append([]byte{}, value...)})
}

func (b *batch) Delete(key []byte) error { return b.add(write{kind: remove, key: string(key)}) }

func (b *batch) DeleteRange(lower, upper []byte) error {
	if upper == nil {
		return fmt.Errorf("DeleteRange without an upper bound")
	}
	return b.add(write{kind: removeRange, key: string(lower), upper: string(upper)})
}

func (b *batch) Commit(sync bool) error {
	sync = sync && b.db.wal
	b.db.tree.commit(b.writes)
	if err := b.db.ask(sync); err != nil {
		return err
	}
	if sync {
		b.db.tree.sync()
	}
	return nil
}
