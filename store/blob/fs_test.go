package blob

import (
	"os"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/store"
)

// hookFS calls hook before every operation that changes the disk. The hook can make it fail, or be left out
// while looking done.
type hookFS struct {
	store.FS
	mu   sync.Mutex
	hook func(op, path string) (skip bool, err error)
}

func (h *hookFS) before(op, path string) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.hook(op, path)
}

func (h *hookFS) file(path string, f store.File, err error) (store.File, error) {
	if err != nil {
		return nil, err
	}
	return &hookFile{f, h, path}, nil
}

func (h *hookFS) Create(path string, c vfs.DiskWriteCategory) (store.File, error) {
	if _, err := h.before("create", path); err != nil {
		return nil, err
	}
	f, err := h.FS.Create(path, c)
	return h.file(path, f, err)
}

func (h *hookFS) OpenReadWrite(path string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (store.File, error) {
	if _, err := h.before("create", path); err != nil {
		return nil, err
	}
	f, err := h.FS.OpenReadWrite(path, c, o...)
	return h.file(path, f, err)
}

func (h *hookFS) OpenDir(path string) (store.File, error) {
	f, err := h.FS.OpenDir(path)
	return h.file(path, f, err)
}

func (h *hookFS) Rename(from, to string) error {
	if _, err := h.before("rename", to); err != nil {
		return err
	}
	return h.FS.Rename(from, to)
}

func (h *hookFS) MkdirAll(path string, perm os.FileMode) error {
	if _, err := h.before("mkdir", path); err != nil {
		return err
	}
	return h.FS.MkdirAll(path, perm)
}

func (h *hookFS) Remove(path string) error {
	if _, err := h.before("remove", path); err != nil {
		return err
	}
	return h.FS.Remove(path)
}

func (h *hookFS) RemoveAll(path string) error {
	if _, err := h.before("remove", path); err != nil {
		return err
	}
	return h.FS.RemoveAll(path)
}

type hookFile struct {
	store.File
	h    *hookFS
	path string
}

func (f *hookFile) Write(p []byte) (int, error) {
	if _, err := f.h.before("write", f.path); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f *hookFile) WriteAt(p []byte, off int64) (int, error) {
	if _, err := f.h.before("write", f.path); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f *hookFile) Sync() error {
	if skip, err := f.h.before("sync", f.path); skip || err != nil {
		return err
	}
	return f.File.Sync()
}

// files lists everything below dir but folders.
func files(fsys store.FS, dir string) []string {
	names, _ := fsys.List(dir)
	var all []string
	for _, n := range names {
		path := fsys.PathJoin(dir, n)
		info, err := fsys.Stat(path)
		switch {
		case err != nil:
		case info.IsDir():
			all = append(all, files(fsys, path)...)
		default:
			all = append(all, strings.TrimPrefix(path, "/"))
		}
	}
	return all
}
