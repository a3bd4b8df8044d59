package e2e

import (
	"io"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/store"
)

// tapFS shows every operation that changes the disk to a test before it happens, one at a time. The test can make it
// fail, or have it left out while it looks done.
type tapFS struct {
	store.FS
	mu  sync.Mutex
	tap func(op, path string) (skip bool, err error)
}

func (t *tapFS) before(op, path string) (bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tap(op, path)
}

func (t *tapFS) file(path string, f store.File, err error) (store.File, error) {
	if err != nil {
		return nil, err
	}
	return &tapFile{f, t, path}, nil
}

func (t *tapFS) Unwrap() vfs.FS { return t.FS }

func (t *tapFS) Create(path string, c vfs.DiskWriteCategory) (store.File, error) {
	if _, err := t.before("create", path); err != nil {
		return nil, err
	}
	f, err := t.FS.Create(path, c)
	return t.file(path, f, err)
}

func (t *tapFS) OpenReadWrite(path string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (store.File, error) {
	if _, err := t.before("create", path); err != nil {
		return nil, err
	}
	f, err := t.FS.OpenReadWrite(path, c, o...)
	return t.file(path, f, err)
}

func (t *tapFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (store.File, error) {
	if _, err := t.before("rename", to); err != nil {
		return nil, err
	}
	f, err := t.FS.ReuseForWrite(from, to, c)
	return t.file(to, f, err)
}

func (t *tapFS) OpenDir(path string) (store.File, error) {
	f, err := t.FS.OpenDir(path)
	return t.file(path, f, err)
}

func (t *tapFS) Link(from, to string) error {
	if _, err := t.before("link", to); err != nil {
		return err
	}
	return t.FS.Link(from, to)
}

func (t *tapFS) Rename(from, to string) error {
	if _, err := t.before("rename", to); err != nil {
		return err
	}
	return t.FS.Rename(from, to)
}

func (t *tapFS) MkdirAll(path string, perm os.FileMode) error {
	if _, err := t.before("mkdir", path); err != nil {
		return err
	}
	return t.FS.MkdirAll(path, perm)
}

func (t *tapFS) Remove(path string) error {
	if _, err := t.before("remove", path); err != nil {
		return err
	}
	return t.FS.Remove(path)
}

func (t *tapFS) RemoveAll(path string) error {
	if _, err := t.before("remove", path); err != nil {
		return err
	}
	return t.FS.RemoveAll(path)
}

func (t *tapFS) Lock(path string) (io.Closer, error) {
	if _, err := t.before("create", path); err != nil {
		return nil, err
	}
	return t.FS.Lock(path)
}

type tapFile struct {
	store.File
	t    *tapFS
	path string
}

func (f *tapFile) Write(p []byte) (int, error) {
	if _, err := f.t.before("write", f.path); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *tapFile) WriteAt(p []byte, off int64) (int, error) {
	if _, err := f.t.before("write", f.path); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *tapFile) Preallocate(off, n int64) error {
	if _, err := f.t.before("write", f.path); err != nil {
		return err
	}
	return f.File.Preallocate(off, n)
}

func (f *tapFile) Sync() error {
	if skip, err := f.t.before("sync", f.path); skip || err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *tapFile) SyncData() error {
	if skip, err := f.t.before("sync", f.path); skip || err != nil {
		return err
	}
	return f.File.SyncData()
}

// SyncTo may sync everything, and then counts.
func (f *tapFile) SyncTo(n int64) (bool, error) {
	if skip, err := f.t.before("sync", f.path); skip || err != nil {
		return skip, err
	}
	return f.File.SyncTo(n)
}
