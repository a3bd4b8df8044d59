package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/store"
)

// errDone is what a Writer answers after Commit or Abort.
var errDone = errors.New("blob writer: already committed or aborted")

// Put stores what r gives until io.EOF and returns its digest and size in bytes. The blob is durable when Put
// returns, and pinned. Of a blob that is there already nothing is written. An error of r comes back as
// it is.
func (s *Store) Put(ctx context.Context, r io.Reader) (digest.Digest, int64, error) {
	w, err := s.Create(ctx)
	if err != nil {
		return digest.Digest{}, 0, err
	}
	if _, err := w.ReadFrom(r); err != nil {
		w.Abort()
		return digest.Digest{}, 0, err
	}
	return w.Commit()
}

// Writer takes the bytes of one blob. It holds up to one chunk in memory, so a small blob touches the disk only
// at Commit, and not at all when it is there already. It is not safe for concurrent use. Commit or Abort must be called.
type Writer struct {
	s    *Store
	ctx  context.Context
	buf  []byte
	size int64
	// whole is nil until the first chunk is full: the digest of a single chunk is that of the blob.
	whole  hash.Hash
	chunks []digest.Digest
	path   string
	file   store.File
	err    error
}

// Create returns a Writer for a producer that pushes. It writes nothing yet. When ctx ends, the next
// call on the Writer fails.
func (s *Store) Create(ctx context.Context) (*Writer, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	return &Writer{s: s, ctx: ctx}, nil
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		if err := w.room(); err != nil {
			return n, err
		}
		take := min(len(p), ChunkSize-len(w.buf))
		w.buf = append(w.buf, p[:take]...)
		p, n = p[take:], n+take
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	if sized, ok := r.(interface{ Len() int }); ok {
		// One more, so that the end is seen without growing.
		w.buf = slices.Grow(w.buf, max(0, min(sized.Len()+1, ChunkSize-len(w.buf))))
	}
	var n int64
	for idle := 0; ; {
		if err := w.room(); err != nil {
			return n, err
		}
		if len(w.buf) == cap(w.buf) {
			w.buf = slices.Grow(w.buf, min(max(512, len(w.buf)), ChunkSize-len(w.buf)))
		}
		m, err := r.Read(w.buf[len(w.buf):min(cap(w.buf), ChunkSize)])
		w.buf = w.buf[:len(w.buf)+m]
		n += int64(m)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if idle++; m > 0 {
			idle = 0
		} else if idle > 100 {
			return n, io.ErrNoProgress
		}
	}
}

// room makes room in the buffer, and fails when the Writer has.
func (w *Writer) room() error {
	if w.err == nil {
		w.err = context.Cause(w.ctx)
	}
	if w.err == nil && len(w.buf) == ChunkSize {
		w.err = w.flush()
	}
	return w.err
}

// flush writes the buffered chunk to the temporary file.
func (w *Writer) flush() error {
	if w.whole == nil {
		w.whole = sha256.New()
	}
	w.whole.Write(w.buf)
	w.chunks = append(w.chunks, digest.Of(w.buf))
	w.size += int64(len(w.buf))
	return w.write()
}

// write appends the buffer to the temporary file and empties it.
func (w *Writer) write() error {
	if w.file == nil {
		w.path = w.s.tempPath()
		file, err := w.s.fs.Create(w.path, category)
		if err != nil {
			return w.s.diskErr(fmt.Errorf("write blob: %w", err))
		}
		w.file = file
	}
	if _, err := w.file.Write(w.buf); err != nil {
		return w.s.diskErr(fmt.Errorf("write blob: %w", err))
	}
	w.buf = w.buf[:0]
	return nil
}

// Commit ends the blob and returns its digest and size in bytes once it is durable, and pinned. After an error
// nothing of it is left.
func (w *Writer) Commit() (digest.Digest, int64, error) {
	// Whether the blob is placed or not, no temporary file stays.
	defer w.Abort()
	if w.err == nil {
		w.err = context.Cause(w.ctx)
	}
	if w.err != nil {
		return digest.Digest{}, 0, w.err
	}
	var d digest.Digest
	if w.whole == nil {
		d, w.size = digest.Of(w.buf), int64(len(w.buf))
	} else {
		if len(w.buf) > 0 {
			if err := w.flush(); err != nil {
				return d, 0, err
			}
		}
		w.whole.Sum(d[:0])
	}
	if there, err := w.s.touch(d); there || err != nil {
		return d, w.size, err
	}
	w.buf = appendTrailer(w.buf, d, w.size, w.chunks)
	if err := w.write(); err != nil {
		return d, 0, err
	}
	file := w.file
	w.file = nil
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		_ = w.s.fs.Remove(w.path)
		return d, 0, w.s.diskErr(fmt.Errorf("write blob: %w", err))
	}
	return d, w.size, w.s.place(w.path, d, w.size)
}

// Abort gives the blob up and removes what was written. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.file != nil {
		_ = w.file.Close()
		_ = w.s.fs.Remove(w.path)
	}
	w.file, w.buf, w.err = nil, nil, errDone
}

// touch pins blob d and makes sure of its durability when it is there and good.
func (s *Store) touch(d digest.Digest) (there bool, err error) {
	f := s.fan(d)
	f.mu.Lock()
	e := f.entries[d]
	if e == nil || e.damaged {
		f.mu.Unlock()
		return false, nil
	}
	s.pin(e)
	durable := e.durable
	f.mu.Unlock()
	if durable {
		return true, nil
	}
	return true, s.settle(d, e)
}

// place moves a synced file to where blob d belongs, replacing what is there. The file is gone when it fails.
func (s *Store) place(path string, d digest.Digest, size int64) error {
	f := s.fan(d)
	f.mu.Lock()
	e, err := s.link(f, path, d, size)
	f.mu.Unlock()
	if err != nil {
		_ = s.fs.Remove(path)
		return s.diskErr(fmt.Errorf("write blob %s: %w", d, err))
	}
	return s.settle(d, e)
}

// link renames a file into its fan, which is locked, and makes its entry.
func (s *Store) link(f *fan, path string, d digest.Digest, size int64) (*entry, error) {
	if !f.linked {
		if err := s.fs.MkdirAll(f.dir, 0o755); err != nil {
			return nil, err
		}
		if err := s.syncDir(s.dir); err != nil {
			return nil, err
		}
		f.linked = true
	}
	if err := s.fs.Rename(path, s.path(d)); err != nil {
		return nil, err
	}
	if old := f.entries[d]; old != nil {
		s.blobs.Add(-1)
		s.bytes.Add(-old.size)
	}
	e := &entry{size: size, placed: true}
	s.pin(e)
	f.entries[d] = e
	s.blobs.Add(1)
	s.bytes.Add(size)
	return e, nil
}

// settle makes the name of blob d survive a crash. It does not hold the fan's lock while the disk works.
func (s *Store) settle(d digest.Digest, e *entry) error {
	f := s.fan(d)
	f.mu.Lock()
	linked := f.linked
	f.mu.Unlock()
	var err error
	if !linked {
		err = s.syncDir(s.dir)
	}
	if err == nil {
		err = s.syncDir(f.dir)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.linked, e.durable = true, true
		return nil
	}
	// A second sync after a failed one may succeed without having written anything, so the next Put
	// must start from the beginning. No Put of such a file has returned yet, unlike of one found at Open.
	if f.entries[d] == e && e.placed && !e.durable {
		_ = s.remove(f, d, e)
	}
	return s.diskErr(fmt.Errorf("write blob %s: %w", d, err))
}
