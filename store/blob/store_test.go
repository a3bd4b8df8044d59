package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

func open(t testing.TB, fsys store.FS, opts Options) *Store {
	t.Helper()
	s, err := Open(fsys, "blobs", opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t testing.TB, s *Store, data []byte) digest.Digest {
	t.Helper()
	d, n, err := s.Put(context.Background(), bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if d != digest.Of(data) || n != int64(len(data)) {
		t.Fatalf("put of %d bytes answered %s, %d", len(data), d, n)
	}
	return d
}

func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = rng.Read(b)
	return b
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 4095, ChunkSize - 1, ChunkSize, ChunkSize + 1, 2 * ChunkSize, 3*ChunkSize + ChunkSize/2} {
		data := random(size, uint64(size))
		s := open(t, vfs.NewMem(), Options{})
		d := put(t, s, data)
		again, _, err := s.Put(context.Background(), iotest.HalfReader(bytes.NewReader(data)))
		if err != nil || again != d {
			t.Fatalf("%d bytes: another reader gave %s, %v", size, again, err)
		}
		for range 2 {
			if got, ok := s.Stat(d); !ok || got != int64(size) {
				t.Fatalf("%d bytes: stat says %d, %v", size, got, ok)
			}
			if n, b := s.Usage(); n != 1 || b != int64(size) {
				t.Fatalf("usage is %d blobs, %d bytes", n, b)
			}
			ranges(t, s, d, data)
			s = open(t, s.fs, Options{})
		}
		if names, _ := s.fs.List("blobs/tmp"); len(names) > 0 {
			t.Fatalf("left over: %v", names)
		}
	}
}

// ranges compares reads of many ranges, in all ways, with the bytes themselves.
func ranges(t *testing.T, s *Store, d digest.Digest, data []byte) {
	t.Helper()
	b, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if b.Size() != int64(len(data)) || b.Digest() != d {
		t.Fatalf("size %d, digest %s", b.Size(), b.Digest())
	}
	ref := bytes.NewReader(data)
	rng := rand.New(rand.NewPCG(uint64(len(data)), 1))
	edge := func() int64 {
		return max(0, int64(rng.IntN(5))*ChunkSize/2+int64(rng.IntN(5))-2)
	}
	for range 15 {
		off, n := edge(), edge()
		got, want := make([]byte, n), make([]byte, n)
		gn, gerr := b.ReadAt(got, off)
		wn, werr := ref.ReadAt(want, off)
		if n > 0 && (gn != wn || gerr != werr || !bytes.Equal(got[:gn], want[:wn])) {
			t.Fatalf("read %d at %d: %d %v, want %d %v", n, off, gn, gerr, wn, werr)
		}
		want, _ = io.ReadAll(io.NewSectionReader(ref, off, n))
		var copied bytes.Buffer
		if _, err := io.Copy(&copied, b.Reader(off, n)); err != nil || !bytes.Equal(copied.Bytes(), want) {
			t.Fatalf("copy of %d at %d: %d bytes, %v, want %d", n, off, copied.Len(), err, len(want))
		}
	}
	if err := iotest.TestReader(b.Reader(int64(len(data)/2), 300), data[len(data)/2:min(len(data), len(data)/2+300)]); err != nil {
		t.Fatal(err)
	}
}

func TestWriter(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), Options{})
	data := random(2*ChunkSize+77, 3)
	w, err := s.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(data, 70_001) {
		if n, err := w.Write(part); n != len(part) || err != nil {
			t.Fatal(n, err)
		}
	}
	d, n, err := w.Commit()
	if err != nil || n != int64(len(data)) || d != digest.Of(data) {
		t.Fatal(d, n, err)
	}
	if _, err := w.Write(data); err == nil {
		t.Fatal("wrote after Commit")
	}
	if _, _, err := w.Commit(); err == nil {
		t.Fatal("committed twice")
	}
	ranges(t, s, d, data)

	ctx, cancel := context.WithCancel(context.Background())
	w, _ = s.Create(ctx)
	_, _ = w.Write(random(2*ChunkSize, 4))
	cancel()
	if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Fatalf("write after cancel: %v", err)
	}
	w.Abort()
	w, _ = s.Create(context.Background())
	_, _ = w.Write(random(2*ChunkSize, 4))
	w.Abort()
	broken := errors.New("broken")
	if _, _, err := s.Put(context.Background(), io.MultiReader(bytes.NewReader(random(ChunkSize*2, 5)), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Fatalf("put of a broken reader: %v", err)
	}
	if all := files(s.fs, "blobs"); len(all) != 1 {
		t.Fatalf("left over: %v", all)
	}
}

func TestUnknown(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), Options{})
	if _, err := s.Open(digest.Of([]byte("x"))); fault.KindOf(err) != fault.NotFound || fault.Reason(err) != "unknown_blob" {
		t.Fatalf("got %v", err)
	}
	s.Pin(digest.Of([]byte("x")))
	if err := s.Delete(digest.Of([]byte("x"))); err != nil {
		t.Fatal(err)
	}
	d := put(t, s, []byte("x"))
	b, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(d); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b.Reader(0, 1)); string(got) != "x" || err != nil {
		t.Fatalf("a reader lost its blob: %q %v", got, err)
	}
	_ = b.Close()
	_ = b.Close()
	if n, size := s.Usage(); n != 0 || size != 0 {
		t.Fatal(n, size)
	}
}

func TestRealDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := Open(store.OS, dir+"/a/b", Options{})
	if err != nil {
		t.Fatal(err)
	}
	data := random(ChunkSize+5, 8)
	d := put(t, s, data)
	if err := uploadAll(s, random(2*ChunkSize+5, 9)); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(store.OS, dir+"/a/b", Options{}); err != nil {
		t.Fatal(err)
	}
	ranges(t, s, d, data)
	if n, _ := s.Usage(); n != 2 {
		t.Fatal(n)
	}
}

// TestDamage flips and cuts a blob's file everywhere: no read may give wrong bytes without an error, and
// another Put makes it good.
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 300, ChunkSize + 100} {
		data := random(size, 9)
		mem := vfs.NewMem()
		d := put(t, open(t, mem, Options{}), data)
		path := open(t, mem, Options{}).path(d)
		good := slurp(t, mem, path)
		try := func(what string, bad []byte) {
			t.Helper()
			spill(t, mem, path, bad)
			s := open(t, mem, Options{})
			got, err := readAll(s, d)
			if fault.KindOf(err) != fault.Corrupt || fault.Reason(err) != "damaged_blob" {
				t.Fatalf("%d bytes, %s: %d bytes read, error %v", size, what, len(got), err)
			}
			if f := fault.As(err).Fields; f["digest"] != d.String() || !strings.HasSuffix(f["file"], d.Hex()) {
				t.Fatalf("fields %v", f)
			}
			if !bytes.HasPrefix(data, got) {
				t.Fatalf("%d bytes, %s: wrong bytes came out", size, what)
			}
			if _, ok := s.Stat(d); ok {
				t.Fatalf("%s: still counted as there", what)
			}
			put(t, s, data)
			if got, err := readAll(s, d); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("%s: not healed: %v", what, err)
			}
		}
		step := 1
		if size > 1000 {
			step = len(good) / 9
		}
		for i := 0; i < len(good); i += step {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			try(fmt.Sprintf("bit flipped in byte %d of %d", i, len(good)), bad)
			try(fmt.Sprintf("cut to %d of %d", i, len(good)), good[:i])
		}
		for i := len(good) - footerSize - 70; i < len(good); i += 1 + step/4000 {
			if i >= 0 {
				bad := bytes.Clone(good)
				bad[i] ^= 1 << (i % 8)
				try(fmt.Sprintf("bit flipped in byte %d of %d", i, len(good)), bad)
			}
		}
		try("a byte more", append(bytes.Clone(good), 0))
		other := []byte("other")
		od := put(t, open(t, mem, Options{}), other)
		try("another blob's file", slurp(t, mem, open(t, mem, Options{}).path(od)))
	}
}

func slurp(t testing.TB, fsys store.FS, path string) []byte {
	t.Helper()
	f, err := fsys.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func spill(t testing.TB, fsys store.FS, path string, b []byte) {
	t.Helper()
	f, err := fsys.Create(path, category)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Clone(b)); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
}

func TestVanishedFile(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), Options{})
	d := put(t, s, []byte("here"))
	_ = s.fs.Remove(s.path(d))
	if _, err := s.Open(d); fault.KindOf(err) != fault.Corrupt {
		t.Fatal(err)
	}
	put(t, s, []byte("here"))
	if _, err := readAll(s, d); err != nil {
		t.Fatal(err)
	}
}

// TestDiskErrors makes each operation fail in turn, with a full disk or another error.
func TestDiskErrors(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, size := range []int{10, 2*ChunkSize + 1} {
			for n := 1; ; n++ {
				mem := vfs.NewMem()
				h := &hookFS{FS: mem, hook: func(string, string) (bool, error) { return false, nil }}
				s := open(t, h, Options{})
				ops := 0
				h.hook = func(op, _ string) (bool, error) {
					if op == "remove" {
						return false, nil
					}
					if ops++; ops == n {
						return false, fmt.Errorf("test: %w", cause)
					}
					return false, nil
				}
				data := random(size, 1)
				_, _, err := s.Put(context.Background(), bytes.NewReader(data))
				if ops < n {
					break
				}
				if full := fault.Reason(err) == "disk_full"; !errors.Is(err, cause) || full != (cause == syscall.ENOSPC) {
					t.Fatalf("operation %d: %v", n, err)
				}
				if all := files(mem, "blobs"); len(all) > 0 {
					t.Fatalf("operation %d left %v", n, all)
				}
				if n, b := s.Usage(); n != 0 || b != 0 {
					t.Fatalf("usage %d, %d", n, b)
				}
				put(t, s, data)
			}
		}
	}
}

func TestConcurrentPutsOfTheSame(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), Options{})
	data := random(ChunkSize+9, 2)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			d, _, err := s.Put(context.Background(), bytes.NewReader(data))
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := readAll(s, d); err != nil || !bytes.Equal(got, data) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	if all := files(s.fs, "blobs"); len(all) != 1 {
		t.Fatalf("files: %v", all)
	}
	if n, b := s.Usage(); n != 1 || b != int64(len(data)) {
		t.Fatal(n, b)
	}
}

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func BenchmarkPut(b *testing.B) {
	for _, size := range []int{100, 64 << 10, 8 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			s := open(b, vfs.NewMem(), Options{})
			data := random(size, 1)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				data[0], data[1], data[2] = byte(i), byte(i>>8), byte(i>>16)
				d, _, err := s.Put(context.Background(), bytes.NewReader(data))
				if err != nil {
					b.Fatal(err)
				}
				_ = s.Delete(d)
			}
		})
	}
}

func BenchmarkRead(b *testing.B) {
	s := open(b, vfs.NewMem(), Options{})
	data := random(8<<20, 1)
	d := put(b, s, data)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		r, _ := s.Open(d)
		if _, err := io.Copy(io.Discard, r.Reader(0, r.Size())); err != nil {
			b.Fatal(err)
		}
		_ = r.Close()
	}
}
