package store

import "iter"

// Reader is a view of an ordered map.
type Reader interface {
	// Get returns a copy of the value of key, and whether it is there.
	Get(key []byte) ([]byte, bool, error)
	// Scan yields the pairs with lower <= key < upper in order, valid until the next one. An error ends it and is left in
	// *err, which must be nil before.
	Scan(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte]
}

// DB is one of the two ordered maps of a Store. It may be used concurrently.
type DB interface {
	Reader
	// ScanDurable is Scan over what would survive a crash now: in a database without a write-ahead log, what was flushed.
	ScanDurable(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte]
	// NewBatch returns a batch of writes. With indexed, reads of the batch see what it already holds.
	NewBatch(indexed bool) Batch
	// Snapshot returns a view of the map as it is now. The caller closes it.
	Snapshot() Snapshot
	// Flush makes everything committed so far durable; AsyncFlush begins that and does not wait.
	Flush() error
	AsyncFlush() error
	// Dir is where the map is kept, for messages.
	Dir() string
	// Close makes what was committed durable and gives the map back. Every reader must have been closed before.
	Close() error
}

// Snapshot is a DB at one moment.
type Snapshot interface {
	Reader
	Close() error
}

// Batch collects writes that take effect together. It is not safe for concurrent use. Only an indexed one can be read.
type Batch interface {
	Reader
	// Set, Delete and DeleteRange (lower <= key < upper) copy what they are given.
	Set(key, value []byte) error
	Delete(key []byte) error
	DeleteRange(lower, upper []byte) error
	// Commit makes the writes visible and, with sync in a map with a write-ahead log, durable.
	Commit(sync bool) error
	// Close gives the batch back, committed or not.
	Close() error
}
