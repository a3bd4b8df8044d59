package shuffle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

// failFS fails the n-th change of the disk.
type failFS struct {
	store.FS
	left int
	err  error
}

func (f *failFS) fail() error {
	if f.left--; f.left == 0 {
		return f.err
	}
	return nil
}

func (f *failFS) MkdirAll(dir string, perm os.FileMode) error {
	return cmp.Or(f.fail(), f.FS.MkdirAll(dir, perm))
}

func (f *failFS) Create(name string, c vfs.DiskWriteCategory) (store.File, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return &failFile{file, f}, err
}

type failFile struct {
	store.File
	fs *failFS
}

func (f *failFile) Write(p []byte) (int, error) {
	if err := f.fs.fail(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, combine := range []Combine{nil, sum} {
		for n := 1; ; n += 1 + n/9 {
			mem := vfs.NewMem()
			ffs := &failFS{FS: mem, left: n, err: fmt.Errorf("test: %w", syscall.ENOSPC)}
			s, err := NewSorter(context.Background(), Config{Partitions: 3, MemoryBound: 1 << 10, FS: ffs, Dir: "a/sort", Combine: combine})
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < 1500 && err == nil; i++ {
				err = s.Add(AppendRecord(nil, fmt.Append(nil, "key ", i), []byte("1")))
			}
			if err == nil {
				_, err = s.Finish(io.Discard)
			}
			if ffs.left > 0 {
				if err != nil || n < 50 {
					t.Fatal(n, err)
				}
				break
			}
			if fault.KindOf(err) != fault.Exhausted || fault.Reason(err) != "disk_full" {
				t.Fatalf("change %d: %v", n, err)
			}
			if names, err := mem.List("a/sort"); err == nil {
				t.Fatalf("change %d: scratch files stayed: %v", n, names)
			}
			if again := s.Add(nil); again != err && fault.Reason(again) != "disk_full" {
				t.Fatal(again)
			}
			_ = s.Close()
		}
	}
}

func TestCancelAndClose(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	begin := func(ctx context.Context) *Sorter {
		s, err := NewSorter(ctx, Config{Partitions: 3, MemoryBound: 1 << 10, FS: mem, Dir: "sort"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 500 {
			if err := s.Add(AppendRecord(nil, fmt.Append(nil, i), nil)); err != nil {
				t.Fatal(err)
			}
		}
		if names, _ := mem.List("sort"); len(names) < 3 {
			t.Fatal("nothing was spilled")
		}
		return s
	}
	clean := func() {
		t.Helper()
		if names, err := mem.List("sort"); err == nil {
			t.Fatalf("scratch files stayed: %v", names)
		}
	}
	if err := begin(context.Background()).Close(); err != nil {
		t.Fatal(err)
	}
	clean()
	ctx, cancel := context.WithCancel(context.Background())
	s := begin(ctx)
	cancel()
	if err := s.Add(AppendRecord(nil, nil, nil)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	clean()
	ctx, cancel = context.WithCancel(context.Background())
	s = begin(ctx)
	cancel()
	if _, err := s.Finish(io.Discard); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	clean()
	// What a killed process left does not get in the way.
	f, _ := mem.Create("sort", "test")
	_ = f.Close()
	s = begin(context.Background())
	broken := errors.New("broken")
	if _, err := s.Finish(writerFunc(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	clean()
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestDamagedRun flips bits of a run between writing and reading.
func TestDamagedRun(t *testing.T) {
	t.Parallel()
	for at := range 400 {
		mem := vfs.NewMem()
		s, err := NewSorter(context.Background(), Config{Partitions: 3, MemoryBound: 4 << 10, FS: mem, Dir: "sort"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			if err := s.Add(AppendRecord(nil, fmt.Append(nil, i), []byte("value"))); err != nil {
				t.Fatal(err)
			}
		}
		data, err := mem.UnsafeGetFileDataBuffer("sort/1")
		if err != nil || len(data) < 400 {
			t.Fatal(len(data), err)
		}
		data[at] ^= 1 << (at % 8)
		if _, err := s.Finish(io.Discard); fault.KindOf(err) != fault.Corrupt {
			t.Fatalf("byte %d: %v", at, err)
		}
	}
}

// TestMemoryHolds compares what the sorter accounts for with what the heap holds. It runs alone, since the heap is
// everybody's.
func TestMemoryHolds(t *testing.T) {
	for name, key := range map[string]func(i int) []byte{
		"distinct keys": func(i int) []byte { return fmt.Append(nil, "key number ", i) },
		"few keys":      func(i int) []byte { return fmt.Append(nil, "key number ", i%100) },
		"long keys":     func(i int) []byte { return fmt.Appendf(nil, "%020000d", i) },
	} {
		const bound = 8 << 20
		s, err := NewSorter(context.Background(), Config{Partitions: 8, MemoryBound: bound, FS: vfs.Default, Dir: t.TempDir() + "/sort"})
		if err != nil {
			t.Fatal(err)
		}
		heap := func() int64 {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			return int64(m.HeapAlloc)
		}
		before, peak := heap(), int64(0)
		var batch []byte
		for i := 0; s.Stats().Spills < 2; i++ {
			batch = AppendRecord(batch[:0], key(i), []byte("value"))
			if err := s.Add(batch); err != nil {
				t.Fatal(err)
			}
			if i&(1<<14-1) == 0 || len(batch) > 1000 && i%100 == 0 {
				peak = max(peak, heap()-before)
			}
		}
		if peak > bound+bound/16 || peak < bound/3 {
			t.Errorf("%s: the heap held %d of %d bytes", name, peak, bound)
		}
		t.Logf("%s: heap %d, accounted %d, bound %d", name, peak, s.Stats().PeakMemory, bound)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMissingPartition(t *testing.T) {
	t.Parallel()
	out, x, _ := sortAll(t, Config{Partitions: 2}, nil)
	if off, n := x.Segment(2); off != 0 || n != 0 {
		t.Fatal(off, n)
	}
	var ie *InputError
	if _, err := Merge(context.Background(), []io.Reader{segment(out, x, 2)}, MergeConfig{}).Read(make([]byte, 1)); !errors.As(err, &ie) {
		t.Fatal(err)
	}
	if _, err := ReadIndex(bytes.NewReader(out[:len(out)-1]), int64(len(out)-1)); fault.Reason(err) != "damaged_output" {
		t.Fatal(err)
	}
}
