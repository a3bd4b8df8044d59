package blob

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

// Reader reads an open blob, here or elsewhere.
type Reader interface {
	io.ReaderAt
	Size() int64
	Close() error
}

var _ Reader = (*Blob)(nil)

// Blob is an open blob. It keeps the blob from collection until Close. ReadAt and Reader may be called
// concurrently; nothing may be called after Close.
type Blob struct {
	s      *Store
	e      *entry
	d      digest.Digest
	file   store.File
	size   int64
	chunks []digest.Digest
	closed sync.Once

	// The chunk read last, for small reads in a row.
	mu    sync.Mutex
	last  int64
	cache []byte
}

// Open opens blob d. The error is NotFound "unknown_blob" when it is not there and Corrupt "damaged_blob"
// when its file is not what was stored.
func (s *Store) Open(d digest.Digest) (*Blob, error) {
	f := s.fan(d)
	f.mu.Lock()
	e := f.entries[d]
	if e == nil {
		f.mu.Unlock()
		return nil, unknown(d)
	}
	e.readers++
	f.mu.Unlock()
	b := &Blob{s: s, e: e, d: d, last: -1}
	if err := b.open(); err != nil {
		_ = b.Close()
		return nil, err
	}
	return b, nil
}

func (b *Blob) open() error {
	file, err := b.s.fs.Open(b.s.path(b.d))
	if errors.Is(err, fs.ErrNotExist) {
		f := b.s.fan(b.d)
		f.mu.Lock()
		current := f.entries[b.d] == b.e
		f.mu.Unlock()
		if !current {
			return unknown(b.d)
		}
		return b.damaged("the file is missing")
	}
	if err != nil {
		return fmt.Errorf("open blob %s: %w", b.d, err)
	}
	b.file = file
	info, err := file.Stat()
	if err != nil {
		return fmt.Errorf("open blob %s: %w", b.d, err)
	}
	size, ok := sizeOf(info.Size())
	if !ok {
		return b.damaged(fmt.Sprintf("a file of %d bytes cannot be a blob", info.Size()))
	}
	trailer := make([]byte, trailerSize(size))
	if err := b.readFull(trailer, size); err != nil {
		return err
	}
	b.size = size
	b.chunks, err = decodeTrailer(trailer, b.d, size)
	if err != nil {
		return b.damaged(err.Error())
	}
	return nil
}

// Size returns the size in bytes.
func (b *Blob) Size() int64 { return b.size }

// Chunks returns the digests of its chunks.
func (b *Blob) Chunks() []digest.Digest { return slices.Clone(b.chunks) }

// Digest returns the blob's digest.
func (b *Blob) Digest() digest.Digest { return b.d }

// Close ends the use of the blob. Closing again does nothing.
func (b *Blob) Close() error {
	var err error
	b.closed.Do(func() {
		f := b.s.fan(b.d)
		f.mu.Lock()
		b.e.readers--
		f.mu.Unlock()
		if b.file != nil {
			err = b.file.Close()
		}
	})
	return err
}

// ReadAt implements io.ReaderAt. Every chunk it touches is read whole and verified; the error is Corrupt
// "damaged_blob" when one is damaged, and p then holds only what came before it.
func (b *Blob) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fault.New(fault.Invalid, "bad_offset", "blob %s: negative offset %d", b.d, off)
	}
	n := 0
	for n < len(p) && off < b.size {
		m, err := b.readSome(p[n:], off)
		n, off = n+m, off+int64(m)
		if err != nil {
			return n, err
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// readSome reads from the one chunk that holds off.
func (b *Blob) readSome(p []byte, off int64) (int, error) {
	i := off / ChunkSize
	start := i * ChunkSize
	length := int(min(ChunkSize, b.size-start))
	if off == start && len(p) >= length {
		// Bytes that turn out to be bad must not stay in the caller's hands.
		if err := b.readChunk(p[:length], i); err != nil {
			clear(p[:length])
			return 0, err
		}
		return length, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last != i {
		if cap(b.cache) < length {
			b.cache = make([]byte, length)
		}
		b.last, b.cache = -1, b.cache[:length]
		if err := b.readChunk(b.cache, i); err != nil {
			return 0, err
		}
		b.last = i
	}
	return copy(p, b.cache[off-start:]), nil
}

// readChunk reads and verifies chunk i, which is as long as p.
func (b *Blob) readChunk(p []byte, i int64) error {
	if err := b.readFull(p, i*ChunkSize); err != nil {
		return err
	}
	if digest.Of(p) != b.chunks[i] {
		return b.damaged(fmt.Sprintf("chunk %d does not have its digest", i))
	}
	return nil
}

func (b *Blob) readFull(p []byte, off int64) error {
	n, err := b.file.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return b.damaged("the file is too short")
	}
	return fmt.Errorf("read blob %s: %w", b.d, err)
}

// damaged makes the error, and lets the next Put of the blob write it anew.
func (b *Blob) damaged(what string) error {
	f := b.s.fan(b.d)
	f.mu.Lock()
	b.e.damaged = true
	f.mu.Unlock()
	path := b.s.path(b.d)
	return fault.New(fault.Corrupt, "damaged_blob", "blob %s is damaged: %s: %s", b.d, path, what).
		With("digest", b.d).With("file", path)
}

// Reader reads n bytes from off, or as many as there are. Readers of one Blob are independent of each other, each
// with its own buffer of at most one chunk; a single Reader is not safe for concurrent use. It ends when the
// Blob is closed.
func (b *Blob) Reader(off, n int64) io.Reader {
	off = max(0, min(off, b.size))
	return &reader{b: b, off: off, end: off + max(0, min(n, b.size-off))}
}

type reader struct {
	b        *Blob
	off, end int64
	buf      []byte
	// left is what of buf is still to come.
	left []byte
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// WriteTo implements io.WriterTo.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	var n int64
	for {
		if len(r.left) == 0 {
			switch err := r.fill(); err {
			case nil:
			case io.EOF:
				return n, nil
			default:
				return n, err
			}
		}
		m, err := w.Write(r.left)
		r.left, n = r.left[m:], n+int64(m)
		if err != nil {
			return n, err
		}
	}
}

// fill reads the chunk that holds off.
func (r *reader) fill() error {
	if r.off >= r.end {
		return io.EOF
	}
	i := r.off / ChunkSize
	start := i * ChunkSize
	length := int(min(ChunkSize, r.b.size-start))
	if cap(r.buf) < length {
		r.buf = make([]byte, length)
	}
	r.buf = r.buf[:length]
	if err := r.b.readChunk(r.buf, i); err != nil {
		return err
	}
	stop := min(r.end, start+int64(length))
	r.left = r.buf[r.off-start : stop-start]
	r.off = stop
	return nil
}
