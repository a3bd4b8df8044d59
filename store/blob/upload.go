package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// stagedTTL is how long an upload nobody touches is kept.
const stagedTTL = 24 * time.Hour

// upload is one resumable upload. Its bytes stand in a staged file at their final place, chunks that have not
// arrived being holes. Nothing is synced before the end: after a crash the chunks are verified again,
// and what was lost is asked for again.
type upload struct {
	path string

	mu     sync.Mutex
	size   int64
	chunks []digest.Digest
	have   []bool
	used   time.Time
	// over says that the upload is done or dropped; a caller that still holds it starts again.
	over bool
}

// StartUpload announces blob d of size bytes, made of chunks with these digests, and returns the numbers
// of those still to send, in order; none when the blob is there (it is then pinned). Called again, also after
// a restart, it resumes: chunks that arrived before are verified and not asked for. An upload nobody
// touches for a day is dropped. The error is Invalid "bad_upload" when size and chunks do not fit.
func (s *Store) StartUpload(d digest.Digest, size int64, chunks []digest.Digest) (missing []int, err error) {
	if size < 0 || int64(len(chunks)) != chunkCount(size) {
		return nil, invalid("bad_upload", "%d bytes do not have %d chunks of %d bytes", size, len(chunks), ChunkSize)
	}
	if len(chunks) == 1 && chunks[0] != d {
		return nil, invalid("bad_upload", "the only chunk of %s must have its digest, not %s", d, chunks[0])
	}
	if there, err := s.touch(d); there || err != nil {
		return nil, err
	}
	s.uploadMu.Lock()
	u := s.uploads[d]
	if u == nil {
		u = &upload{path: s.fs.PathJoin(s.dir, stagedDir, d.Hex())}
		s.uploads[d] = u
	}
	s.uploadMu.Unlock()

	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		return nil, fault.New(fault.Unavailable, "upload_ended", "the upload of %s has just ended", d).Hint("start it again")
	}
	u.used = s.now()
	if u.have == nil || u.size != size || !slices.Equal(u.chunks, chunks) {
		u.size, u.chunks = size, slices.Clone(chunks)
		if err := s.survey(u); err != nil {
			u.have = nil
			return nil, s.diskErr(fmt.Errorf("upload of %s: %w", d, err))
		}
	}
	return u.missing(), nil
}

// survey finds out which chunks the staged file holds.
func (s *Store) survey(u *upload) error {
	u.have = make([]bool, len(u.chunks))
	file, err := s.fs.Open(u.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > u.size+trailerSize(u.size) {
		// Announced with another size before.
		return s.fs.Remove(u.path)
	}
	buf := make([]byte, min(u.size, ChunkSize))
	for i := range u.chunks {
		chunk := buf[:u.length(i)]
		n, err := file.ReadAt(chunk, int64(i)*ChunkSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		u.have[i] = n == len(chunk) && digest.Of(chunk) == u.chunks[i]
	}
	return nil
}

func (u *upload) length(i int) int64 { return min(ChunkSize, u.size-int64(i)*ChunkSize) }

func (u *upload) missing() []int {
	var list []int
	for i, have := range u.have {
		if !have {
			list = append(list, i)
		}
	}
	return list
}

// PutChunk takes chunk index of an announced blob; sending one again is harmless. data is not kept, but is not to be
// used any more: a file system may scribble on what it is given to write. The errors are
// Precondition "unknown_upload" when d was not announced since the Store was opened, Invalid "bad_chunk" when
// the data is not that chunk's, Exhausted "disk_full".
func (s *Store) PutChunk(d digest.Digest, index int, data []byte) error {
	u := s.upload(d)
	if u == nil {
		if _, ok := s.Stat(d); ok {
			return nil
		}
		return unknownUpload(d)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over || u.have == nil {
		return unknownUpload(d)
	}
	u.used = s.now()
	if index < 0 || index >= len(u.chunks) {
		return invalid("bad_chunk", "%s has no chunk %d: it has %d", d, index, len(u.chunks))
	}
	if int64(len(data)) != u.length(index) {
		return invalid("bad_chunk", "chunk %d of %s has %d bytes, not %d", index, d, u.length(index), len(data))
	}
	if got := digest.Of(data); got != u.chunks[index] {
		return invalid("bad_chunk", "chunk %d of %s has the digest %s, announced was %s", index, d, got, u.chunks[index])
	}
	if u.have[index] {
		return nil
	}
	if err := s.writeAt(u.path, data, int64(index)*ChunkSize, false); err != nil {
		return s.diskErr(fmt.Errorf("upload of %s: %w", d, err))
	}
	u.have[index] = true
	return nil
}

func (s *Store) writeAt(path string, data []byte, off int64, sync bool) error {
	file, err := s.fs.OpenReadWrite(path, category)
	if err != nil {
		return err
	}
	if len(data) > 0 {
		_, err = file.WriteAt(data, off)
	}
	if err == nil && sync {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// FinishUpload makes the blob of the chunks: durable and pinned when it returns. It is nil when the blob is there
// already. The errors are Precondition "unknown_upload" or "upload_incomplete", and Invalid "digest_mismatch" when the
// chunks, each as announced, are together not d: they are dropped then.
func (s *Store) FinishUpload(ctx context.Context, d digest.Digest) error {
	u := s.upload(d)
	if u != nil {
		u.mu.Lock()
		defer u.mu.Unlock()
	}
	if there, err := s.touch(d); there || err != nil {
		if u != nil && err == nil {
			s.drop(d, u)
		}
		return err
	}
	if u == nil || u.over || u.have == nil {
		return unknownUpload(d)
	}
	u.used = s.now()
	if missing := u.missing(); len(missing) > 0 {
		return incomplete(d, missing)
	}
	got, err := s.verify(ctx, u, d)
	if err != nil {
		return s.diskErr(fmt.Errorf("upload of %s: %w", d, err))
	}
	if missing := u.missing(); len(missing) > 0 {
		return incomplete(d, missing)
	}
	if got != d {
		s.drop(d, u)
		return invalid("digest_mismatch", "the chunks make up %s, announced was %s", got, d).Hint("upload it again").With("digest", d)
	}
	if err := s.writeAt(u.path, appendTrailer(nil, d, u.size, u.chunks), u.size, true); err != nil {
		return s.diskErr(fmt.Errorf("upload of %s: %w", d, err))
	}
	err = s.place(u.path, d, u.size)
	s.drop(d, u)
	return err
}

// verify reads the staged bytes again, since the disk had them in its care, and returns their digest. If that is not d, chunks that
// are not as they were become missing.
func (s *Store) verify(ctx context.Context, u *upload, d digest.Digest) (got digest.Digest, err error) {
	whole := sha256.New()
	if u.size == 0 {
		whole.Sum(got[:0])
		return got, nil
	}
	file, err := s.fs.Open(u.path)
	if err != nil {
		// Something took the file away: all of it has to come again.
		clear(u.have)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return got, err
	}
	defer file.Close()
	buf := make([]byte, min(u.size, ChunkSize))
	each := func(do func(i int, chunk []byte)) error {
		for i := range u.chunks {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			n, err := file.ReadAt(buf[:u.length(i)], int64(i)*ChunkSize)
			if err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			do(i, buf[:n])
		}
		return nil
	}
	if err := each(func(_ int, chunk []byte) { whole.Write(chunk) }); err != nil {
		return got, err
	}
	if whole.Sum(got[:0]); got == d {
		return got, nil
	}
	return got, each(func(i int, chunk []byte) { u.have[i] = digest.Of(chunk) == u.chunks[i] })
}

func (s *Store) upload(d digest.Digest) *upload {
	s.uploadMu.Lock()
	defer s.uploadMu.Unlock()
	return s.uploads[d]
}

// drop ends an upload, whose lock is held, and removes its file if it is still there.
func (s *Store) drop(d digest.Digest, u *upload) {
	u.over = true
	_ = s.fs.Remove(u.path)
	s.uploadMu.Lock()
	defer s.uploadMu.Unlock()
	if s.uploads[d] == u {
		delete(s.uploads, d)
	}
}

// expireStaged drops the uploads nobody touched for a day, of this process and of former ones.
func (s *Store) expireStaged() error {
	dir := s.fs.PathJoin(s.dir, stagedDir)
	names, err := s.fs.List(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		path := s.fs.PathJoin(dir, name)
		d, err := digest.Parse("sha256-" + name)
		if err != nil {
			continue
		}
		if u := s.upload(d); u != nil {
			continue
		}
		info, err := s.fs.Stat(path)
		if err == nil && s.now().Sub(info.ModTime()) > stagedTTL {
			err = s.fs.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	s.uploadMu.Lock()
	live := make(map[digest.Digest]*upload, len(s.uploads))
	for d, u := range s.uploads {
		live[d] = u
	}
	s.uploadMu.Unlock()
	for d, u := range live {
		u.mu.Lock()
		if !u.over && s.now().Sub(u.used) > stagedTTL {
			s.drop(d, u)
		}
		u.mu.Unlock()
	}
	return errors.Join(errs...)
}

func unknownUpload(d digest.Digest) *fault.Error {
	return fault.New(fault.Precondition, "unknown_upload", "no upload of %s was started", d).
		Hint("start it, also after a restart of the node: chunks that arrived are not asked for again").With("digest", d)
}

func incomplete(d digest.Digest, missing []int) *fault.Error {
	return fault.New(fault.Precondition, "upload_incomplete", "%d chunks of %s are still to come, the first is %d", len(missing), d, missing[0]).
		Hint("start the upload again to learn which").With("digest", d)
}

// invalid is a request that can never work as it is.
func invalid(reason, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, reason, format, args...)
}
