package store

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const writeCategory = vfs.WriteCategoryUnspecified

// pebbleDB is a DB in Pebble.
type pebbleDB struct {
	p   *pebble.DB
	dir string
}

type dbOptions struct {
	cache int64
	wal   string // the file that lists the write-ahead logs; empty for a database without
	fatal func(error)
}

func openDB(fs FS, dir string, o dbOptions) (DB, error) {
	under, err := openDBFS(fs, dir, o.wal)
	if err != nil {
		return nil, err
	}
	there, err := verifyDB(fs, dir, len(under.logs) > 0)
	if err != nil {
		return nil, err
	}
	options := &pebble.Options{
		FS:        under,
		CacheSize: o.cache,
		// Newer than the first format in which a write-ahead log tells a torn tail from damage in its middle.
		FormatMajorVersion:          pebble.FormatNewest,
		DisableWAL:                  o.wal == "",
		MemTableSize:                32 << 20,
		MemTableStopWritesThreshold: 4,
		// Merges run beside the work of the node, so one at a time.
		CompactionConcurrencyRange: func() (int, int) { return 1, 1 },
		Logger:                     logger{fatal: o.fatal, dir: dir},
		EventListener: &pebble.EventListener{
			// Whoever reads damaged bytes, what was acknowledged can no longer be had here.
			DataCorruption: func(i pebble.DataCorruptionInfo) { o.fatal(damagedFile(i.Path, i.Details)) },
			// Without a log, what cannot be flushed piles up in memory until writes wait for ever.
			BackgroundError: func(err error) {
				slog.Error("database", "dir", dir, "error", err)
				if isDiskFull(err) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EROFS) {
					o.fatal(explain(err, dir))
				}
			},
		},
	}
	p, err := pebble.Open(dir, options)
	if err == nil && !there {
		// Pebble makes a new database in an old format, first log included: one that does not say what was synced.
		if err = p.Close(); err == nil {
			p, err = pebble.Open(dir, options)
		}
	}
	if err != nil {
		return nil, err
	}
	under.opened(o.fatal)
	return &pebbleDB{p: p, dir: dir}, nil
}

func (db *pebbleDB) Dir() string { return db.dir }

func (db *pebbleDB) Close() error {
	if err := db.p.Flush(); err != nil {
		return errors.Join(err, db.p.Close())
	}
	return db.p.Close()
}

func (db *pebbleDB) NewBatch(indexed bool) Batch {
	if indexed {
		return &pebbleBatch{b: db.p.NewIndexedBatch()}
	}
	return &pebbleBatch{b: db.p.NewBatch()}
}

func (db *pebbleDB) Get(key []byte) ([]byte, bool, error) { return get(db.p, key) }

func (db *pebbleDB) Scan(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte] {
	return scan(db.p, &pebble.IterOptions{LowerBound: lower, UpperBound: upper}, err)
}

func (db *pebbleDB) ScanDurable(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte] {
	return scan(db.p, &pebble.IterOptions{LowerBound: lower, UpperBound: upper, OnlyReadGuaranteedDurable: true}, err)
}

func (db *pebbleDB) Flush() error { return db.p.Flush() }

func (db *pebbleDB) AsyncFlush() error {
	_, err := db.p.AsyncFlush()
	return err
}

func (db *pebbleDB) Snapshot() Snapshot { return &pebbleSnapshot{s: db.p.NewSnapshot()} }

type pebbleSnapshot struct{ s *pebble.Snapshot }

func (s *pebbleSnapshot) Get(key []byte) ([]byte, bool, error) { return get(s.s, key) }

func (s *pebbleSnapshot) Scan(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte] {
	return scan(s.s, &pebble.IterOptions{LowerBound: lower, UpperBound: upper}, err)
}

func (s *pebbleSnapshot) Close() error { return s.s.Close() }

type pebbleBatch struct{ b *pebble.Batch }

func (b *pebbleBatch) Get(key []byte) ([]byte, bool, error) { return get(b.b, key) }

func (b *pebbleBatch) Scan(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte] {
	return scan(b.b, &pebble.IterOptions{LowerBound: lower, UpperBound: upper}, err)
}

func (b *pebbleBatch) Set(key, value []byte) error { return b.b.Set(key, value, nil) }

func (b *pebbleBatch) Delete(key []byte) error { return b.b.Delete(key, nil) }

func (b *pebbleBatch) DeleteRange(lower, upper []byte) error {
	return b.b.DeleteRange(lower, upper, nil)
}

func (b *pebbleBatch) Commit(sync bool) error {
	if sync {
		return b.b.Commit(pebble.Sync)
	}
	return b.b.Commit(pebble.NoSync)
}

func (b *pebbleBatch) Close() error { return b.b.Close() }

func get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	v = append(make([]byte, 0, len(v)), v...)
	return v, true, closer.Close()
}

func scan(r pebble.Reader, o *pebble.IterOptions, err *error) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		it, e := r.NewIter(o)
		if e != nil {
			*err = e
			return
		}
		defer func() { *err = errors.Join(*err, it.Close()) }()
		for ok := it.First(); ok; ok = it.Next() {
			v, e := it.ValueAndErr()
			if e != nil {
				*err = e
				return
			}
			if !yield(it.Key(), v) {
				return
			}
		}
		*err = it.Error()
	}
}

// isCorruption also takes a missing file for damage: Pebble names files in its manifest before it needs them.
func isCorruption(err error) bool {
	return pebble.IsCorruptionError(err) || errors.Is(err, pebble.ErrDBNotPristine) || errors.Is(err, os.ErrNotExist) ||
		strings.Contains(err.Error(), "corrupt") || strings.Contains(err.Error(), "checksum") ||
		strings.Contains(err.Error(), "object size mismatch") || // a table that was cut off
		strings.Contains(err.Error(), "from options") // a damaged OPTIONS file differs from what is always the same
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// logger keeps Pebble quiet but for what an operator must know.
type logger struct {
	fatal func(error)
	dir   string
}

func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	slog.Error("database", "dir", l.dir, "error", fmt.Sprintf(format, args...))
}

// Fatalf is what Pebble calls when a write to its log failed: what was written is unknown, so the node must end
// and find out at its next start.
func (l logger) Fatalf(format string, args ...any) {
	var err error = fmt.Errorf(format, args...)
	for _, a := range args {
		if e, ok := a.(error); ok {
			err = explain(e, l.dir)
			break
		}
	}
	l.fatal(err)
	panic(err)
}
