package memory_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
	"github.com/wattlehq/wattle/store/memory"
)

// both opens a store on each kind of disk, empty.
func both(t *testing.T) map[string]*store.Store {
	t.Helper()
	s, err := store.Open(store.Options{FS: vfs.NewMem(), Dir: "d"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return map[string]*store.Store{"pebble": s, "memory": (&memory.Disk{}).Open()}
}

// dump reads everything between two keys.
func dump(t *testing.T, r store.Reader, lower, upper string) (all []string) {
	t.Helper()
	var err error
	var to []byte
	if upper != "" {
		to = []byte(upper)
	}
	for k, v := range r.Scan([]byte(lower), to, &err) {
		all = append(all, fmt.Sprintf("%s=%s", k, v))
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// Both kinds of store do the same, as far as shards can tell.
func TestSame(t *testing.T) {
	t.Parallel()
	for name, s := range both(t) {
		db := s.State
		b := db.NewBatch(true)
		for _, k := range []string{"a", "b", "c", "d"} {
			if err := b.Set([]byte(k), []byte(k+k)); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Delete([]byte("b")); err != nil {
			t.Fatal(err)
		}
		want(t, name+": a batch sees itself", dump(t, b, "a", "d"), "a=aa", "c=cc")
		want(t, name+": before the commit", dump(t, db, "a", "z"))
		if err := b.Commit(false); err != nil {
			t.Fatal(err)
		}
		b.Close()
		want(t, name+": after the commit", dump(t, db, "a", "z"), "a=aa", "c=cc", "d=dd")
		old := db.Snapshot()
		b = db.NewBatch(true)
		if err := b.DeleteRange([]byte("a"), []byte("d")); err != nil {
			t.Fatal(err)
		}
		if err := b.Set([]byte("c"), nil); err != nil {
			t.Fatal(err)
		}
		want(t, name+": a range is gone", dump(t, b, "a", "z"), "c=", "d=dd")
		if err := b.Commit(false); err != nil {
			t.Fatal(err)
		}
		b.Close()
		want(t, name+": a snapshot stands", dump(t, old, "a", "z"), "a=aa", "c=cc", "d=dd")
		old.Close()
		if v, ok, err := db.Get([]byte("c")); !ok || len(v) != 0 || err != nil {
			t.Errorf("%s: an empty value is %q, %v, %v", name, v, ok, err)
		}
		if _, ok, err := db.Get([]byte("a")); ok || err != nil {
			t.Errorf("%s: a removed key is there: %v", name, err)
		}
		var err error
		for k := range db.ScanDurable(nil, []byte("z"), &err) {
			t.Errorf("%s: %s is durable before a flush", name, k)
		}
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
		n := 0
		for range db.ScanDurable(nil, []byte("z"), &err) {
			n++
		}
		if n != 2 || err != nil {
			t.Errorf("%s: %d pairs are durable, %v", name, n, err)
		}
	}
}

func put(t *testing.T, db store.DB, k string, sync bool) {
	t.Helper()
	b := db.NewBatch(false)
	defer b.Close()
	if err := b.Set([]byte(k), []byte(k)); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(sync); err != nil {
		t.Fatal(err)
	}
}

// What was synced survives a crash; of the rest, a beginning.
func TestCrash(t *testing.T) {
	t.Parallel()
	for keep := range 3 {
		d := &memory.Disk{}
		s := d.Open()
		put(t, s.Log, "a", false)
		put(t, s.Log, "b", true)
		put(t, s.Log, "c", false)
		put(t, s.Log, "d", false)
		put(t, s.State, "x", true) // without a log, nothing is durable until it is flushed
		d.Crash(func(db string, unsynced int) int {
			if want := map[string]int{"log": 2, "state": 1}[db]; unsynced != want {
				t.Errorf("%s has %d unsynced commits, want %d", db, unsynced, want)
			}
			if db == "state" {
				return 0
			}
			return keep
		})
		s = d.Open()
		want(t, "log", dump(t, s.Log, "a", "z"), []string{"a=a", "b=b", "c=c", "d=d"}[:2+keep]...)
		want(t, "state", dump(t, s.State, "a", "z"))
	}
}

func TestDamageAndFault(t *testing.T) {
	t.Parallel()
	d := &memory.Disk{}
	if d.Damage("log", rand.IntN) {
		t.Error("damaged an empty map")
	}
	s := d.Open()
	put(t, s.Log, "a", true)
	if !d.Damage("log", func(int) int { return 0 }) {
		t.Fatal("nothing to damage")
	}
	if _, _, err := s.Log.Get([]byte("a")); fault.KindOf(err) != fault.Corrupt {
		t.Errorf("reading damage: %v", err)
	}
	put(t, s.Log, "a", true)
	if _, ok, err := s.Log.Get([]byte("a")); !ok || err != nil {
		t.Errorf("written anew: %v, %v", ok, err)
	}
	full := fmt.Errorf("full")
	d.Fault = func(o memory.Op) error {
		if o.DB == "log" && o.Sync {
			return full
		}
		return nil
	}
	b := s.Log.NewBatch(false)
	defer b.Close()
	if err := b.Commit(true); err != full {
		t.Errorf("a sync on a full disk: %v", err)
	}
}
