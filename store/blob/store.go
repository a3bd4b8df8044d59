// Package blob keeps bytes under their SHA-256, in one directory of a file system.
//
// A blob is written once, streamed through bounded memory and durable when Put or Commit returns. Every
// read is verified chunk by chunk: damaged bytes give an error of kind fault.Corrupt and never come out
// as data. Putting a blob that a read found damaged writes it anew.
//
// The package does not know who refers to a blob, does not copy blobs between nodes and does not
// encrypt. The caller owns the directory alone (one Store at a time), renews the pins of what it is about
// to refer to, and drives collection.
//
// Errors the caller can act on are of type *fault.Error: NotFound "unknown_blob", Corrupt "damaged_blob",
// Exhausted "disk_full", and those of uploads. Everything here is safe for concurrent use unless
// it says otherwise.
package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

// DefaultPinTTL is how long a pin lasts when Options do not say.
const DefaultPinTTL = 10 * time.Minute

const (
	tmpDir    = "tmp"
	stagedDir = "staged"
	// category is what Pebble's file systems account writes under.
	category = "wattle-blob"
)

// Options are the settings of a Store; the zero value is good.
type Options struct {
	// Now is the clock of pins and of the expiry of uploads; default time.Now.
	Now func() time.Time
	// PinTTL is how long a pin lasts; default DefaultPinTTL.
	PinTTL time.Duration
}

// Store is a directory of blobs.
type Store struct {
	fs   store.FS
	dir  string
	now  func() time.Time
	ttl  time.Duration
	temp atomic.Uint64
	// epoch counts the collections begun; an entry carries the one in which it was last put or pinned.
	epoch atomic.Uint64
	blobs atomic.Int64
	bytes atomic.Int64
	fans  [256]fan

	uploadMu sync.Mutex
	uploads  map[digest.Digest]*upload
}

// fan is one of the 256 folders blobs are spread over. Its mutex is held while a file appears or disappears,
// so that the entries and the files always agree.
type fan struct {
	dir string

	mu      sync.Mutex
	entries map[digest.Digest]*entry
	// linked says that the folder itself is known to survive a crash.
	linked bool
}

// entry is one blob.
type entry struct {
	size    int64
	pinned  time.Time
	epoch   uint64
	readers int
	// durable says that the file's name is known to survive a crash. What a former process left was
	// perhaps never synced, so it starts out false.
	durable bool
	// placed says that this process wrote the file.
	placed bool
	// damaged says that the file turned out not to hold the blob.
	damaged bool
}

// Open makes the directory when it is not there and lists what it holds; everything found is pinned for
// PinTTL, since pins do not outlive the process. What interrupted writes left is removed; uploads begun less
// than a day ago are kept. It starts nothing, and a Store need not be closed.
func Open(fsys store.FS, dir string, opts Options) (*Store, error) {
	s := &Store{fs: fsys, dir: dir, now: opts.Now, ttl: opts.PinTTL, uploads: map[digest.Digest]*upload{}}
	if s.now == nil {
		s.now = time.Now
	}
	if s.ttl <= 0 {
		s.ttl = DefaultPinTTL
	}
	s.epoch.Store(1)
	for i := range s.fans {
		s.fans[i] = fan{dir: fsys.PathJoin(dir, hex.EncodeToString([]byte{byte(i)})), entries: map[digest.Digest]*entry{}}
	}
	if err := s.prepare(); err != nil {
		return nil, s.diskErr(fmt.Errorf("open blobs in %s: %w", dir, err))
	}
	return s, nil
}

func (s *Store) prepare() error {
	tmp, staged := s.fs.PathJoin(s.dir, tmpDir), s.fs.PathJoin(s.dir, stagedDir)
	if err := s.fs.RemoveAll(tmp); err != nil {
		return err
	}
	for _, dir := range []string{s.dir, tmp, staged} {
		if err := s.fs.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := s.syncAbove(s.dir); err != nil {
		return err
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if b, err := hex.DecodeString(name); err == nil && len(b) == 1 && hex.EncodeToString(b) == name {
			if err := s.load(b[0]); err != nil {
				return err
			}
		}
	}
	return s.expireStaged()
}

// syncAbove makes the entries of dir and all folders above it survive a crash, whoever made them. Folders
// that may not be opened, or whose file system does not sync folders, were not made by us and are passed over.
func (s *Store) syncAbove(dir string) error {
	for parent := s.fs.PathDir(dir); ; dir, parent = parent, s.fs.PathDir(parent) {
		err := s.syncDir(parent)
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EINVAL) {
			return err
		}
		if parent == s.fs.PathDir(parent) {
			return nil
		}
	}
}

func (s *Store) load(first byte) error {
	f := &s.fans[first]
	names, err := s.fs.List(f.dir)
	if err != nil {
		return err
	}
	pinned := s.now().Add(s.ttl)
	for _, name := range names {
		d, err := digest.Parse("sha256-" + name)
		if err != nil || d[0] != first {
			continue
		}
		info, err := s.fs.Stat(s.fs.PathJoin(f.dir, name))
		if err != nil {
			return err
		}
		size, ok := sizeOf(info.Size())
		f.entries[d] = &entry{size: size, pinned: pinned, epoch: s.epoch.Load(), damaged: !ok}
		s.blobs.Add(1)
		s.bytes.Add(size)
	}
	return nil
}

// Stat returns the size of blob d in bytes and whether it is there. A blob known to be damaged is not.
func (s *Store) Stat(d digest.Digest) (size int64, ok bool) {
	f := s.fan(d)
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.entries[d]
	if e == nil || e.damaged {
		return 0, false
	}
	return e.size, true
}

// Pin keeps blob d from collection for PinTTL from now. It does nothing when d is not there: a caller
// that must know looks with Stat afterwards.
func (s *Store) Pin(d digest.Digest) {
	f := s.fan(d)
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.entries[d]; e != nil {
		s.pin(e)
	}
}

// pin renews an entry; its fan is locked.
func (s *Store) pin(e *entry) {
	e.pinned, e.epoch = s.now().Add(s.ttl), s.epoch.Load()
}

// Delete removes blob d whatever its pins. Whoever reads it can go on. It is nil when d is not there.
func (s *Store) Delete(d digest.Digest) error {
	f := s.fan(d)
	f.mu.Lock()
	defer f.mu.Unlock()
	if e := f.entries[d]; e != nil {
		return s.remove(f, d, e)
	}
	return nil
}

// remove unlinks a blob; its fan is locked. The folder is not synced: a blob that comes back after a crash
// is collected again.
func (s *Store) remove(f *fan, d digest.Digest, e *entry) error {
	if err := s.fs.Remove(s.path(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove blob %s: %w", d, err)
	}
	delete(f.entries, d)
	s.blobs.Add(-1)
	s.bytes.Add(-e.size)
	return nil
}

// Usage returns how many blobs there are and their bytes together, without what the format adds.
func (s *Store) Usage() (blobs int, bytes int64) {
	return int(s.blobs.Load()), s.bytes.Load()
}

func (s *Store) fan(d digest.Digest) *fan { return &s.fans[d[0]] }

func (s *Store) path(d digest.Digest) string { return s.fs.PathJoin(s.fan(d).dir, d.Hex()) }

func (s *Store) tempPath() string {
	return s.fs.PathJoin(s.dir, tmpDir, strconv.FormatUint(s.temp.Add(1), 10))
}

func (s *Store) syncDir(dir string) error {
	d, err := s.fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// diskErr gives a full disk its kind.
func (s *Store) diskErr(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fault.New(fault.Exhausted, "disk_full", "no space left for blobs: %w", err).
			Hint("free space on the disk of %s, then try again", s.dir).With("dir", s.dir)
	}
	return err
}

func unknown(d digest.Digest) *fault.Error {
	return fault.New(fault.NotFound, "unknown_blob", "blob %s is not on this node", d).With("digest", d)
}
