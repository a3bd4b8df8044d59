package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/wattlehq/wattle/internal/fault"
)

// Format is the version of the layout that this release writes, and the newest it reads.
const Format = 1

const formatPrefix = "wattle data "

// walList is the file that names the logs of the log database.
const walList = "WAL"

// Options tune a Store. The zero value is usable but for Dir.
type Options struct {
	// FS is the file system; OS by default.
	FS FS
	// Dir is the data directory. It is made if it does not exist.
	Dir string
	// Fatal is called when a database can no longer keep its word, for example because the disk is
	// full, and must not return. By default it prints the error and exits with status 1.
	Fatal func(error)
	// LogCache and StateCache are the sizes of the block caches in bytes: 8 and 64 MiB by default.
	LogCache, StateCache int64
}

// Store is an open data directory. Its methods and databases may be used concurrently.
type Store struct {
	FS  FS
	Dir string
	// Log has a write-ahead log, State none: after a crash it is what it was at some moment since its last flush.
	Log, State DB

	lock io.Closer
}

// Exit tells what happened and ends the process.
func Exit(err error) {
	fmt.Fprintln(os.Stderr, "wattle:", err)
	if f := fault.As(err); f != nil && f.Help != "" {
		fmt.Fprintln(os.Stderr, "       ", f.Help)
	}
	os.Exit(1)
}

// Open locks the data directory and opens what is in it, making it if it is empty. It refuses, with a
// *fault.Error that says what to do, a directory that is in use, from a newer release or damaged.
func Open(opts Options) (_ *Store, err error) {
	if opts.FS == nil {
		opts.FS = OS
	}
	if opts.Fatal == nil {
		opts.Fatal = Exit
	}
	if opts.LogCache == 0 {
		opts.LogCache = 8 << 20
	}
	if opts.StateCache == 0 {
		opts.StateCache = 64 << 20
	}
	s := &Store{FS: opts.FS, Dir: opts.Dir}
	defer func() {
		if err != nil {
			err = explain(err, opts.Dir)
			s.Close()
		}
	}()
	if err := makeDir(s.FS, s.Dir); err != nil {
		return nil, err
	}
	if s.lock, err = s.FS.Lock(s.FS.PathJoin(s.Dir, "LOCK")); err != nil {
		// Trouble with the file itself comes with its path.
		if path := (*os.PathError)(nil); errors.As(err, &path) {
			return nil, err
		}
		return nil, fault.New(fault.Precondition, "data_dir_in_use", "data directory %s is in use by another node: %w", s.Dir, err).
			Hint("stop that node, or give this one a directory of its own with --data")
	}
	if err := s.checkFormat(); err != nil {
		return nil, err
	}
	if err := s.probe(); err != nil {
		return nil, err
	}
	if s.Log, err = openDB(s.FS, s.FS.PathJoin(s.Dir, "log"), dbOptions{cache: opts.LogCache, wal: s.FS.PathJoin(s.Dir, walList), fatal: opts.Fatal}); err != nil {
		return nil, err
	}
	if s.State, err = openDB(s.FS, s.FS.PathJoin(s.Dir, "state"), dbOptions{cache: opts.StateCache, fatal: opts.Fatal}); err != nil {
		return nil, err
	}
	scratch := s.Scratch()
	if err := s.FS.RemoveAll(scratch); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return s, s.FS.MkdirAll(scratch, 0o755)
}

// Scratch is the directory for files that need not outlive the process.
func (s *Store) Scratch() string { return s.FS.PathJoin(s.Dir, "scratch") }

// Close closes the databases and gives the lock back. Every reader must have been closed before.
func (s *Store) Close() error {
	var errs []error
	for _, db := range []DB{s.State, s.Log} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// makeDir makes dir and syncs the directories whose entries that changed, so that a crash cannot
// take away the directory with everything that was synced inside it.
func makeDir(fs FS, dir string) error {
	if _, err := fs.Stat(dir); err == nil {
		return nil
	}
	if err := fs.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for parent := fs.PathDir(dir); ; parent = fs.PathDir(parent) {
		if err := syncDir(fs, parent); err != nil {
			return err
		}
		if parent == fs.PathDir(parent) {
			return nil
		}
	}
}

func syncDir(fs FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// checkFormat refuses a layout this release does not know, and writes the version into a new directory.
func (s *Store) checkFormat() error {
	name := s.FS.PathJoin(s.Dir, "FORMAT")
	f, err := s.FS.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return s.writeFormat(name)
	}
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(f, 64))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	v, ok := strings.CutPrefix(strings.TrimSuffix(string(b), "\n"), formatPrefix)
	n, err := strconv.Atoi(v)
	if !ok || err != nil || n < 1 {
		return fault.New(fault.Corrupt, "damaged_store", "%s does not say which format the directory has: %.20q", name, b).
			Hint("if this is no data directory of wattle, give another one with --data; otherwise restore it from a copy")
	}
	if n > Format {
		return fault.New(fault.Precondition, "data_dir_newer", "data directory %s has format %d; this release reads up to %d", s.Dir, n, Format).
			Hint("run the release that wrote it, or a newer one")
	}
	return nil
}

func (s *Store) writeFormat(name string) error {
	// A directory with a database but without a format was not made by an interrupted start, which writes the format first.
	if _, err := s.FS.Stat(s.FS.PathJoin(s.Dir, "log")); err == nil {
		return fault.New(fault.Corrupt, "damaged_store", "%s is missing although %s holds a log", name, s.Dir).
			Hint("restore the directory from a copy, or start with an empty one")
	}
	// Before the format, so that it is there wherever a format is.
	if err := replaceFile(s.FS, s.FS.PathJoin(s.Dir, walList), list(nil)); err != nil {
		return err
	}
	return replaceFile(s.FS, name, fmt.Sprintf("%s%d\n", formatPrefix, Format))
}

// probe makes sure of the space that opening takes: when it runs out on the way, Pebble may crash. What is in the log's files
// is written once more.
func (s *Store) probe() (err error) {
	size := int64(1 << 20)
	dir := s.FS.PathJoin(s.Dir, "log")
	names, err := s.FS.List(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, name := range names {
		if _, ok := logNumber(name); !ok {
			continue
		}
		info, err := s.FS.Stat(s.FS.PathJoin(dir, name))
		if err != nil {
			return err
		}
		size += info.Size()
	}
	name := s.FS.PathJoin(s.Dir, "SPACE.tmp")
	f, err := s.FS.Create(name, writeCategory)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close(), s.FS.Remove(name)) }()
	for zeros := make([]byte, 1<<20); size > 0; size -= int64(len(zeros)) {
		if _, err := f.Write(zeros); err != nil {
			return err
		}
	}
	return nil
}

// explain turns what the operating system and Pebble say into something a person can act on.
func explain(err error, dir string) error {
	switch {
	case fault.As(err) != nil:
		return err
	case isDiskFull(err):
		return fault.New(fault.Exhausted, "disk_full", "the disk that holds %s is full: %w", dir, err).
			Hint("free some space and start the node again; nothing acknowledged was lost")
	case errors.Is(err, os.ErrPermission):
		return fault.New(fault.Denied, "data_dir_permission", "data directory %s cannot be used: %w", dir, err).
			Hint("give the user that runs the node the right to read and write it, or choose another with --data")
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENAMETOOLONG):
		return fault.New(fault.Precondition, "bad_data_dir", "data directory %s cannot be used: %w", dir, err).
			Hint("choose another with --data")
	case isCorruption(err):
		return fault.New(fault.Corrupt, "damaged_store", "data directory %s is damaged: %w", dir, err).
			Hint("check the disk, then restore the directory from a copy; nothing in it was changed")
	}
	return fmt.Errorf("open data directory %s: %w", dir, err)
}
