package store

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/fault"
)

// dbFS is the file system under a database. It makes up for two things that Pebble does not do.
//
// Pebble points a marker file at the MANIFEST in use and syncs the directory after that only: a crash could keep the new
// marker and not what it points at, or take the old one away before the new one is there. Here the directory is
// synced before as well.
//
// Pebble opens a database whose write-ahead log is missing as if nothing had been in it. Here the file WAL beside the
// database names every log that must be there.
type dbFS struct {
	FS
	dir string
	// list is the file that names the logs; empty in a database that has none.
	list string

	mu   sync.Mutex
	logs []string
	// fatal is told, once the database is open, that there can be no further log: Pebble would panic.
	fatal func(error)
}

func openDBFS(fs FS, dir, list string) (*dbFS, error) {
	d := &dbFS{FS: fs, dir: dir, list: list}
	if list == "" {
		return d, nil
	}
	b, err := ReadFile(fs, list)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fault.New(fault.Corrupt, "damaged_store", "%s is missing", list).
			Hint("restore the data directory from a copy")
	}
	if err != nil {
		return nil, err
	}
	names, whole := strings.CutPrefix(string(b), listHead)
	names, ended := strings.CutSuffix(names, listEnd)
	for name := range strings.Lines(names) {
		name = strings.TrimSuffix(name, "\n")
		_, ok := logNumber(name)
		whole = whole && ok
		d.logs = append(d.logs, name)
	}
	if !whole || !ended {
		return nil, fault.New(fault.Corrupt, "damaged_store", "%s does not say which log files there are: %.20q", list, b).
			Hint("check the disk, then restore the data directory from a copy; nothing in it was changed")
	}
	for _, name := range d.logs {
		if _, err := fs.Stat(fs.PathJoin(dir, name)); errors.Is(err, os.ErrNotExist) {
			return nil, fault.New(fault.Corrupt, "damaged_store", "%s is missing", fs.PathJoin(dir, name)).
				Hint("restore the data directory from a copy; nothing in it was changed")
		} else if err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Unwrap implements FS.
func (d *dbFS) Unwrap() vfs.FS { return d.FS }

func isMarker(fs FS, name string) bool { return strings.HasPrefix(fs.PathBase(name), "marker.") }

func (d *dbFS) isLog(name string) bool {
	_, ok := logNumber(name)
	return ok && d.list != ""
}

// Create implements FS.
func (d *dbFS) Create(name string, c vfs.DiskWriteCategory) (File, error) {
	if isMarker(d.FS, name) {
		if err := syncDir(d.FS, d.dir); err != nil {
			return nil, err
		}
	}
	f, err := d.FS.Create(name, c)
	if !d.isLog(name) {
		return f, err
	}
	return d.listed(f, name, err)
}

// ReuseForWrite implements FS.
func (d *dbFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (File, error) {
	if !d.isLog(from) {
		return d.FS.ReuseForWrite(from, to, c)
	}
	if err := d.unlist(from); err != nil {
		return d.listed(nil, to, err)
	}
	f, err := d.FS.ReuseForWrite(from, to, c)
	return d.listed(f, to, err)
}

// Remove implements FS.
func (d *dbFS) Remove(name string) error {
	switch {
	case isMarker(d.FS, name):
		if err := syncDir(d.FS, d.dir); err != nil {
			return err
		}
	case d.isLog(name):
		if err := d.unlist(name); err != nil {
			return err
		}
	}
	return d.FS.Remove(name)
}

// listed names a log once it is known to survive a crash.
func (d *dbFS) listed(f File, name string, err error) (File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		if err = syncDir(d.FS, d.dir); err == nil {
			err = d.write(append(slices.Clone(d.logs), d.PathBase(name)))
		}
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}
	if err != nil && d.fatal != nil {
		d.fatal(explain(err, d.dir))
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// opened says that the database is open.
func (d *dbFS) opened(fatal func(error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fatal = fatal
}

// unlist takes a log that is about to go off the list.
func (d *dbFS) unlist(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	base := d.PathBase(name)
	return d.write(slices.DeleteFunc(slices.Clone(d.logs), func(n string) bool { return n == base }))
}

func (d *dbFS) write(logs []string) error {
	slices.Sort(logs)
	if logs = slices.Compact(logs); slices.Equal(logs, d.logs) {
		return nil
	}
	if err := replaceFile(d.FS, d.list, list(logs)); err != nil {
		return err
	}
	d.logs = logs
	return nil
}

// The list of logs is whole only with both: a file that lost its content must not read as a list of none.
const listHead, listEnd = "write-ahead logs:\n", "end\n"

func list(logs []string) string {
	var b strings.Builder
	b.WriteString(listHead)
	for _, l := range logs {
		fmt.Fprintln(&b, l)
	}
	b.WriteString(listEnd)
	return b.String()
}

// replaceFile puts a file in the place of another, or of none, as a whole and durably.
func replaceFile(fs FS, name, content string) error { return replace(fs, name, content, false) }

// WritePrivate does so with a file that nobody but the node's user may read.
func WritePrivate(fs FS, name, content string) error { return replace(fs, name, content, true) }

func replace(fs FS, name, content string, private bool) error {
	tmp := name + ".tmp"
	f, err := fs.Create(tmp, writeCategory)
	if err != nil {
		return err
	}
	if private && fs == OS { // others know no permissions
		err = os.Chmod(tmp, 0o600)
	}
	if err == nil {
		_, err = f.Write([]byte(content))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(tmp, name); err != nil {
		return err
	}
	return syncDir(fs, fs.PathDir(name))
}
