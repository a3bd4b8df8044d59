package store

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/fault"
)

func open(fs FS) (*Store, error) {
	return Open(Options{FS: fs, Dir: "a/data", Fatal: func(err error) { panic(err) }})
}

func mustOpen(t *testing.T, fs FS) *Store {
	t.Helper()
	s, err := open(fs)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func set(t *testing.T, db DB, key string, sync bool) {
	t.Helper()
	b := db.NewBatch(false)
	defer b.Close()
	if err := b.Set([]byte(key), []byte("value of "+key)); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(sync); err != nil {
		t.Fatal(err)
	}
}

func has(t *testing.T, db DB, key string) bool {
	t.Helper()
	v, ok, err := db.Get([]byte(key))
	if err != nil || ok && string(v) != "value of "+key {
		t.Fatal(key, string(v), err)
	}
	return ok
}

// What each database keeps over a crash is what the shard's replay is built on.
func TestDurability(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, fs)
	set(t, s.Log, "synced", true)
	set(t, s.State, "flushed", false)
	if err := s.State.Flush(); err != nil {
		t.Fatal(err)
	}
	set(t, s.State, "unflushed", false)
	durable := map[string]bool{}
	var err error
	for k := range s.State.ScanDurable(nil, nil, &err) {
		durable[string(k)] = true
	}
	if err != nil || !durable["flushed"] || durable["unflushed"] {
		t.Errorf("said to be durable: %v, %v", durable, err)
	}
	after := mustOpen(t, fs.CrashClone(vfs.CrashCloneCfg{}))
	if !has(t, after.Log, "synced") || !has(t, after.State, "flushed") || has(t, after.State, "unflushed") {
		t.Error("a crash kept something else than what was synced")
	}
	if err := after.Close(); err != nil {
		t.Error(err)
	}
	// A clean end keeps everything.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, fs)
	if !has(t, s.State, "unflushed") {
		t.Error("a clean end lost what was written")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestBatchReads(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, vfs.NewMem())
	defer s.Close()
	set(t, s.State, "b", false)
	b := s.State.NewBatch(true)
	defer b.Close()
	for _, k := range []string{"a", "c"} {
		if err := b.Set([]byte(k), []byte("new")); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.DeleteRange([]byte("b"), []byte("c")); err != nil {
		t.Fatal(err)
	}
	var got string
	var err error
	for k := range b.Scan([]byte("a"), nil, &err) {
		got += string(k)
	}
	if got != "ac" || err != nil {
		t.Errorf("the batch shows %q, %v", got, err)
	}
	snap := s.State.Snapshot()
	defer snap.Close()
	if err := b.Commit(false); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := snap.Get([]byte("a")); ok || err != nil {
		t.Error("a snapshot sees what came after it", err)
	}
	if has(t, s.State, "b") {
		t.Error("a deleted key is there")
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	write := func(fs FS, name, text string) {
		t.Helper()
		if err := fs.MkdirAll(fs.PathDir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		make   func(fs FS)
		reason string
	}{
		"newer":         {func(fs FS) { write(fs, "a/data/FORMAT", fmt.Sprintf("wattle data %d\n", Format+1)) }, "data_dir_newer"},
		"garbage":       {func(fs FS) { write(fs, "a/data/FORMAT", "\x00\x01\x02") }, "damaged_store"},
		"empty format":  {func(fs FS) { write(fs, "a/data/FORMAT", "") }, "damaged_store"},
		"no format":     {func(fs FS) { write(fs, "a/data/log/000001.log", "") }, "damaged_store"},
		"format zero":   {func(fs FS) { write(fs, "a/data/FORMAT", "wattle data 0\n") }, "damaged_store"},
		"format signed": {func(fs FS) { write(fs, "a/data/FORMAT", "wattle data -1\n") }, "damaged_store"},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			c.make(fs)
			s, err := open(fs)
			if err == nil {
				s.Close()
			}
			if fault.Reason(err) != c.reason || fault.As(err).Help == "" {
				t.Errorf("%v, want %s with a hint", err, c.reason)
			}
		})
	}
	t.Run("in use", func(t *testing.T) {
		dir := t.TempDir()
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{Dir: dir}); fault.Reason(err) != "data_dir_in_use" {
			t.Errorf("a second node: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = Open(Options{Dir: dir}); err != nil {
			t.Fatal("the lock outlived its holder:", err)
		}
		s.Close()
	})
}

func TestExplain(t *testing.T) {
	t.Parallel()
	for err, reason := range map[error]string{
		&os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}: "disk_full",
		&os.PathError{Op: "open", Path: "x", Err: syscall.EACCES}:  "data_dir_permission",
	} {
		if e := explain(err, "dir"); fault.Reason(e) != reason || fault.As(e).Help == "" {
			t.Errorf("%v: %v", err, e)
		}
	}
}
