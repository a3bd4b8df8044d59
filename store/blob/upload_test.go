package blob

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

func chunksOf(data []byte) (parts [][]byte, sums []digest.Digest) {
	for part := range slices.Chunk(data, ChunkSize) {
		parts, sums = append(parts, part), append(sums, digest.Of(part))
	}
	return parts, sums
}

func want(t *testing.T, err error, reason string) {
	t.Helper()
	if err == nil || fault.Reason(err) != reason {
		t.Fatalf("got %v, want %s", err, reason)
	}
}

func TestUploadResumes(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s := open(t, mem, Options{})
	data := random(3*ChunkSize+5, 1)
	d := digest.Of(data)
	parts, sums := chunksOf(data)
	want(t, s.PutChunk(d, 0, parts[0]), "unknown_upload")
	want(t, s.FinishUpload(context.Background(), d), "unknown_upload")
	missing, err := s.StartUpload(d, int64(len(data)), sums)
	if err != nil || !slices.Equal(missing, []int{0, 1, 2, 3}) {
		t.Fatal(missing, err)
	}
	want(t, s.PutChunk(d, 4, parts[3]), "bad_chunk")
	want(t, s.PutChunk(d, -1, parts[3]), "bad_chunk")
	want(t, s.PutChunk(d, 1, parts[0]), "bad_chunk")
	want(t, s.PutChunk(d, 0, parts[3]), "bad_chunk")
	for _, i := range []int{3, 1, 1} {
		if err := s.PutChunk(d, i, parts[i]); err != nil {
			t.Fatal(err)
		}
	}
	want(t, s.FinishUpload(context.Background(), d), "upload_incomplete")

	s = open(t, mem, Options{})
	missing, err = s.StartUpload(d, int64(len(data)), sums)
	if err != nil || !slices.Equal(missing, []int{0, 2}) {
		t.Fatal(missing, err)
	}
	for _, i := range missing {
		if err := s.PutChunk(d, i, parts[i]); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := s.FinishUpload(context.Background(), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutChunk(d, 0, parts[0]); err != nil {
		t.Fatal(err)
	}
	if missing, err := s.StartUpload(d, int64(len(data)), sums); err != nil || len(missing) > 0 {
		t.Fatal(missing, err)
	}
	ranges(t, s, d, data)
	if all := files(mem, "blobs"); len(all) != 1 {
		t.Fatal(all)
	}
}

func TestUploadDamagedInStaging(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), Options{})
	data := random(2*ChunkSize, 1)
	d := digest.Of(data)
	parts, sums := chunksOf(data)
	if _, err := s.StartUpload(d, int64(len(data)), sums); err != nil {
		t.Fatal(err)
	}
	for i := range parts {
		if err := s.PutChunk(d, i, parts[i]); err != nil {
			t.Fatal(err)
		}
	}
	staged := files(s.fs, "blobs")[0]
	bad := slurp(t, s.fs, staged)
	bad[ChunkSize+3] ^= 1
	spill(t, s.fs, staged, bad)
	want(t, s.FinishUpload(context.Background(), d), "upload_incomplete")
	if err := s.PutChunk(d, 1, parts[1]); err != nil {
		t.Fatal(err)
	}
	_ = s.fs.Remove(staged)
	want(t, s.FinishUpload(context.Background(), d), "upload_incomplete")
	missing, err := s.StartUpload(d, int64(len(data)), sums)
	if err != nil || len(missing) != 2 {
		t.Fatal(missing, err)
	}
	if err := uploadAll(s, data); err != nil {
		t.Fatal(err)
	}
	ranges(t, s, d, data)
}

func TestUploadMismatch(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), Options{})
	data := random(ChunkSize+1, 1)
	parts, sums := chunksOf(data)
	d := digest.Of([]byte("something else"))
	for _, size := range []int64{-1, 0, ChunkSize, 2*ChunkSize + 1} {
		_, err := s.StartUpload(d, size, sums)
		want(t, err, "bad_upload")
	}
	_, err := s.StartUpload(d, 5, []digest.Digest{sums[0]})
	want(t, err, "bad_upload")
	if _, err := s.StartUpload(d, int64(len(data)), sums); err != nil {
		t.Fatal(err)
	}
	for i := range parts {
		if err := s.PutChunk(d, i, parts[i]); err != nil {
			t.Fatal(err)
		}
	}
	want(t, s.FinishUpload(context.Background(), d), "digest_mismatch")
	want(t, s.FinishUpload(context.Background(), d), "unknown_upload")
	if all := files(s.fs, "blobs"); len(all) != 0 {
		t.Fatal(all)
	}
	if err := uploadAll(s, nil); err != nil {
		t.Fatal(err)
	}

	// A first announcement that lied about the size does not spoil an honest one.
	good := random(2*ChunkSize, 6)
	gd := digest.Of(good)
	long := append(bytes.Clone(good), random(3*ChunkSize, 7)...)
	lparts, lsums := chunksOf(long)
	if _, err := s.StartUpload(gd, int64(len(long)), lsums); err != nil {
		t.Fatal(err)
	}
	for i := range lparts {
		if err := s.PutChunk(gd, i, lparts[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := uploadAll(s, good); err != nil {
		t.Fatal(err)
	}
	ranges(t, s, gd, good)
}

func TestUploadExpires(t *testing.T) {
	t.Parallel()
	clk := newClock()
	mem := vfs.NewMem()
	s := open(t, mem, Options{Now: clk.now})
	data := random(ChunkSize+1, 1)
	parts, sums := chunksOf(data)
	d := digest.Of(data)
	begin := func() {
		t.Helper()
		missing, err := s.StartUpload(d, int64(len(data)), sums)
		if err != nil || len(missing) != 2 {
			t.Fatal(missing, err)
		}
		if err := s.PutChunk(d, 0, parts[0]); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	clk.add(23 * time.Hour)
	collect(t, s)
	if err := s.PutChunk(d, 0, parts[0]); err != nil {
		t.Fatal(err)
	}
	clk.add(23 * time.Hour)
	collect(t, s)
	if len(files(mem, "blobs")) != 1 {
		t.Fatal("an upload in use expired")
	}
	clk.add(2 * time.Hour)
	collect(t, s)
	if len(files(mem, "blobs")) != 0 {
		t.Fatal("an old upload stayed")
	}
	clk.t = time.Now()
	begin()
	s = open(t, mem, Options{Now: clk.now})
	if len(files(mem, "blobs")) != 1 {
		t.Fatal("a restart dropped an upload")
	}
	clk.add(25 * time.Hour)
	s = open(t, mem, Options{Now: clk.now})
	begin()
}

func TestUploadDiskFull(t *testing.T) {
	t.Parallel()
	data := random(ChunkSize+1, 1)
	for n := 1; ; n++ {
		mem := vfs.NewMem()
		h := &hookFS{FS: mem, hook: func(string, string) (bool, error) { return false, nil }}
		s := open(t, h, Options{})
		ops := 0
		h.hook = func(op, _ string) (bool, error) {
			if ops++; ops == n && op != "remove" {
				return false, syscall.ENOSPC
			}
			return false, nil
		}
		err := uploadAll(s, data)
		if ops < n {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if err != nil {
			want(t, err, "disk_full")
		}
		if err := uploadAll(s, data); err != nil {
			t.Fatalf("after operation %d failed: %v", n, err)
		}
		if all := files(mem, "blobs"); len(all) != 1 || strings.Contains(all[0], stagedDir) {
			t.Fatal(all)
		}
	}
}
