package dag

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// Every byte of every file is in one part exactly, splits have about the size asked for, and whole files stay whole.
func TestCut(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var files []File
		var bytes int64
		for i := range rng.IntN(20) {
			f := File{Path: fmt.Sprint("/", i), Name: fmt.Sprint(i), Size: rng.Int64N(1 << rng.IntN(12)), Modified: time.Unix(int64(i), 0)}
			files = append(files, f)
			bytes += f.Size
		}
		size, whole, pack := 1+rng.Int64N(500), rng.IntN(3) == 0, rng.IntN(2) == 0
		splits, total := cut(files, size, whole, pack, 2)
		if total != bytes {
			t.Errorf("seed %d: %d bytes, want %d", seed, total, bytes)
		}
		var parts []*storev1.FilePart
		for _, s := range splits {
			in := int64(0)
			for _, p := range s.Parts {
				in += int64(p.Length)
			}
			switch {
			case len(s.Parts) == 0:
				t.Errorf("seed %d: an empty split", seed)
			case len(s.Parts) > 1 && (!pack || in > size):
				t.Errorf("seed %d: %d parts with %d bytes share a split of %d", seed, len(s.Parts), in, size)
			case !whole && in > size:
				t.Errorf("seed %d: a split of %d bytes, want %d at most", seed, in, size)
			}
			parts = append(parts, s.Parts...)
		}
		// Small files may share a split that began before a large one: what counts is the order within each file.
		at := map[string]uint64{}
		for _, p := range parts {
			i := slices.IndexFunc(files, func(f File) bool { return f.Path == p.Path })
			f := files[i]
			if p.Name != f.Name || p.Offset != at[p.Path] || p.FileSize != uint64(f.Size) || p.ModifiedAt != f.Modified.UnixNano() || p.HeaderLines != 2 ||
				p.Lines != (p.Length != p.FileSize) || whole && p.Lines {
				t.Fatalf("seed %d: %v at %d of %v", seed, p, at[p.Path], f)
			}
			at[p.Path] += p.Length
		}
		for _, f := range files {
			if n, there := at[f.Path]; !there || n != uint64(f.Size) {
				t.Errorf("seed %d: %d bytes of %v are in a split", seed, n, f)
			}
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	entries := [][]byte{[]byte("one"), nil, []byte("three"), {}, bytes.Repeat([]byte("x"), 1000)}
	table := encodeTable(entries)
	n := uint32(len(entries))
	for i, want := range entries {
		got, err := TableEntry(bytes.NewReader(table), int64(len(table)), n, uint32(i))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
	if _, err := TableEntry(bytes.NewReader(table), int64(len(table)), n, n); fault.Reason(err) != "damaged_table" {
		t.Errorf("behind the end: %v", err)
	}
}

// A table may be damaged in any way: an entry is within its bytes, or there is an error.
func FuzzTableEntry(f *testing.F) {
	f.Add(encodeTable([][]byte{[]byte("one"), nil, []byte("three")}), uint32(3), uint32(1))
	f.Add(encodeTable(nil), uint32(0), uint32(0))
	f.Add(bytes.Repeat([]byte{0xff}, 24), uint32(3), uint32(2))
	f.Fuzz(func(t *testing.T, table []byte, n, i uint32) {
		got, err := TableEntry(bytes.NewReader(table), int64(len(table)), n, i)
		if err == nil && (i >= n || !bytes.Contains(table, got) || len(got) > len(table)-8*int(n)) {
			t.Errorf("entry %d of %d: %q", i, n, got)
		}
		// What was encoded is found again.
		if len(table) > 0 {
			at := int(i) % len(table)
			entries := [][]byte{table[:at], table[at:]}
			e := encodeTable(entries)
			for k, want := range entries {
				if got, err := TableEntry(bytes.NewReader(e), int64(len(e)), 2, uint32(k)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("%q, %v, want %q", got, err, want)
				}
			}
		}
	})
}
