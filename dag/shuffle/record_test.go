package shuffle

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"testing"

	"github.com/wattlehq/wattle/internal/fault"
)

// TestPartitionGolden pins the hash: outputs on disk and nodes of other releases depend on it.
func TestPartitionGolden(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key  string
		n    uint32
		want uint32
	}{
		{"", 1000, 37},
		{"a", 1000, 996},
		{"foobar", 1000, 968},
		{"a", 1, 0},
		{"wattle", 64, 42},
		{"\x00", 7, 3},
		{"\xff\xfe", 4096, 1456},
	} {
		if got := Partition([]byte(c.key), c.n); got != c.want {
			t.Errorf("Partition(%q, %d) = %d, want %d", c.key, c.n, got, c.want)
		}
	}
}

func TestPartitionSpreads(t *testing.T) {
	t.Parallel()
	h := fnv.New64a()
	_, _ = h.Write([]byte("another implementation"))
	if got, want := Partition([]byte("another implementation"), 999), uint32(h.Sum64()%999); got != want {
		t.Errorf("got %d, want %d", got, want)
	}
	const n, parts = 100_000, 16
	var counts [parts]int
	for i := range n {
		counts[Partition(fmt.Append(nil, "word", i), parts)]++
	}
	for p, c := range counts {
		if c < n/parts*9/10 || c > n/parts*11/10 {
			t.Errorf("partition %d has %d of %d", p, c, n)
		}
	}
}

func FuzzDecodeRecords(f *testing.F) {
	f.Add([]byte{})
	f.Add(AppendRecord(AppendRecord(nil, []byte("key"), []byte("value")), nil, nil))
	f.Add([]byte{0x80})
	f.Add([]byte{1, 'k', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, batch []byte) {
		var again []byte
		var failed error
		for r, err := range DecodeRecords(batch) {
			if err != nil {
				failed = err
				break
			}
			again = AppendRecord(again, r.Key, r.Value)
		}
		if failed != nil && fault.Reason(failed) != "bad_records" {
			t.Fatal(failed)
		}
		if failed == nil && len(again) > len(batch) {
			t.Fatal("more came out than went in")
		}
		s, err := NewSorter(context.Background(), Config{Partitions: 3})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Add(batch); (err == nil) != (failed == nil) {
			t.Fatalf("decoding says %v, adding %v", failed, err)
		}
	})
}

func FuzzMerge(f *testing.F) {
	f.Add(smallSegment(f, 10))
	f.Add(smallSegment(f, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		// As bytes of a segment, and past the checksums as its content.
		_, _ = io.Copy(io.Discard, Merge(context.Background(), []io.Reader{bytes.NewReader(data)}, MergeConfig{}))
		var framed bytes.Buffer
		fw := newFrameWriter(&framed, 7)
		_, _ = fw.Write(data)
		_ = fw.end()
		m := Merge(context.Background(), []io.Reader{&framed}, MergeConfig{})
		out, err := io.ReadAll(m)
		if err == nil && m.Stats().KeysOut > 0 && len(out) == 0 {
			t.Fatal("keys without bytes")
		}
		if err == nil {
			if _, err := parseGroups(bytes.NewReader(out)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzReadIndex(f *testing.F) {
	f.Add(appendIndex(nil, []Segment{{}, {}}))
	f.Add(appendIndex(make([]byte, 9), []Segment{{Size: 9, Keys: 1, Records: 2}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := ReadIndex(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			if fault.KindOf(err) != fault.Corrupt {
				t.Fatal(err)
			}
			return
		}
		end := int64(0)
		for p := range x.Segments {
			off, n := x.Segment(uint32(p))
			if off != end || n < 0 {
				t.Fatalf("segment %d at %d, %d bytes", p, off, n)
			}
			end = off + n
		}
		if end > int64(len(data)) {
			t.Fatal("beyond the end")
		}
	})
}
