package shuffle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/fault"
)

// group is a key with its values, as a test looks at them.
type group struct {
	key    string
	values []string
}

// parseGroups reads the ABI's groups stream the plain way.
func parseGroups(r io.Reader) ([]group, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	b := bytes.NewReader(data)
	take := func(n uint64) string {
		p := make([]byte, n)
		if _, err := io.ReadFull(b, p); err != nil {
			panic(err)
		}
		return string(p)
	}
	var list []group
	for b.Len() > 0 {
		n, err := binary.ReadUvarint(b)
		if err != nil {
			return nil, err
		}
		g := group{key: take(n)}
		for {
			n, err := binary.ReadUvarint(b)
			if err != nil {
				return nil, err
			}
			if n == 0 {
				break
			}
			g.values = append(g.values, take(n-1))
		}
		list = append(list, g)
	}
	return list, nil
}

// reference does the same with maps.
type reference struct {
	parts uint32
	all   []map[string][]string
}

func newReference(parts uint32) *reference {
	r := &reference{parts: parts}
	for range parts {
		r.all = append(r.all, map[string][]string{})
	}
	return r
}

func (r *reference) add(key, value []byte) {
	m := r.all[Partition(key, r.parts)]
	m[string(key)] = append(m[string(key)], string(value))
}

func (r *reference) groups(p uint32) []group {
	var list []group
	for _, k := range slices.Sorted(maps.Keys(r.all[p])) {
		list = append(list, group{k, r.all[p][k]})
	}
	return list
}

func equal(a, b []group) bool {
	return slices.EqualFunc(a, b, func(a, b group) bool { return a.key == b.key && slices.Equal(a.values, b.values) })
}

// sum is a combiner of decimal numbers.
func sum(_ context.Context, r io.Reader, emit func([]byte) error) error {
	list, err := parseGroups(r)
	if err != nil {
		return err
	}
	var batch []byte
	for _, g := range list {
		n := 0
		for _, v := range g.values {
			m, err := strconv.Atoi(v)
			if err != nil {
				return err
			}
			n += m
		}
		batch = AppendRecord(batch, []byte(g.key), strconv.AppendInt(nil, int64(n), 10))
		if len(batch) > 500 {
			if err := emit(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return emit(batch)
}

func (r *reference) summed(p uint32) []group {
	list := r.groups(p)
	for i, g := range list {
		n := 0
		for _, v := range g.values {
			m, _ := strconv.Atoi(v)
			n += m
		}
		list[i].values = []string{strconv.Itoa(n)}
	}
	return list
}

// makeRecords draws records of many kinds.
func makeRecords(rng *rand.Rand, n int) []Record {
	blob := func(max int) []byte {
		b := make([]byte, rng.IntN(max))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	recs := make([]Record, 0, n)
	for range n {
		r := Record{Key: blob(4), Value: blob(6)}
		switch rng.IntN(40) {
		case 0:
			r.Value = blob(9000)
		case 1:
			r.Key = blob(3000)
		case 2:
			r.Key = bytes.Repeat([]byte{0}, rng.IntN(12))
		case 3, 4, 5:
			r.Value = nil
		}
		recs = append(recs, r)
	}
	return recs
}

func batches(recs []Record, n int) [][]byte {
	var list [][]byte
	for part := range slices.Chunk(recs, n) {
		var b []byte
		for _, r := range part {
			b = AppendRecord(b, r.Key, r.Value)
		}
		list = append(list, b)
	}
	return list
}

func sortAll(t testing.TB, cfg Config, list [][]byte) ([]byte, Index, Stats) {
	t.Helper()
	s, err := NewSorter(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list {
		b = bytes.Clone(b)
		if err := s.Add(b); err != nil {
			t.Fatal(err)
		}
		clear(b)
	}
	var out bytes.Buffer
	x, err := s.Finish(&out)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.FS != nil {
		if names, err := cfg.FS.List(cfg.Dir); err == nil {
			t.Fatalf("scratch files stayed: %v", names)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	read, err := ReadIndex(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil || read.Size != x.Size || !slices.Equal(read.Segments, x.Segments) {
		t.Fatalf("index read %v, %v; written %v", read, err, x)
	}
	return out.Bytes(), x, s.Stats()
}

func segment(out []byte, x Index, p uint32) io.Reader {
	off, n := x.Segment(p)
	return io.NewSectionReader(bytes.NewReader(out), off, n)
}

func mergeAll(t testing.TB, inputs []io.Reader, cfg MergeConfig) ([]group, Stats) {
	t.Helper()
	m := Merge(context.Background(), inputs, cfg)
	got, err := parseGroups(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return got, m.Stats()
}

func TestSorterAgainstMaps(t *testing.T) {
	t.Parallel()
	var spills, merges int64
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 0))
		parts := []uint32{1, 2, 7, 64, 500}[rng.IntN(5)]
		bound := int64(1) << (10 + rng.IntN(14))
		recs := makeRecords(rng, 1+rng.IntN(3000))
		ref := newReference(parts)
		for _, r := range recs {
			ref.add(r.Key, r.Value)
		}
		cfg := Config{Partitions: parts, MemoryBound: bound, FS: vfs.NewMem(), Dir: "tmp/sort"}
		out, x, stats := sortAll(t, cfg, batches(recs, 1+rng.IntN(50)))
		if stats.RecordsIn != int64(len(recs)) || stats.RecordsOut != int64(len(recs)) {
			t.Fatalf("seed %d: %d records in, %d out, want %d", seed, stats.RecordsIn, stats.RecordsOut, len(recs))
		}
		if limit := bound + bound/4 + 13000; stats.PeakMemory > limit {
			t.Fatalf("seed %d: peak %d with bound %d", seed, stats.PeakMemory, bound)
		}
		spills, merges = spills+stats.Spills, merges+stats.Merges
		for p := range parts {
			got, _ := mergeAll(t, []io.Reader{segment(out, x, p)}, MergeConfig{})
			want := ref.groups(p)
			if !equal(got, want) {
				t.Fatalf("seed %d: partition %d of %d differs: %d keys, want %d", seed, p, parts, len(got), len(want))
			}
			records := 0
			for _, g := range want {
				records += len(g.values)
			}
			if seg := x.Segments[p]; seg.Keys != int64(len(want)) || seg.Records != int64(records) {
				t.Fatalf("seed %d: segment %+v, want %d keys, %d records", seed, seg, len(want), records)
			}
		}
	}
	if spills < 100 || merges < 5 {
		t.Fatalf("only %d spills and %d merges", spills, merges)
	}
}

func TestSorterCombines(t *testing.T) {
	t.Parallel()
	var all Stats
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 0))
		parts := []uint32{1, 3, 20}[rng.IntN(3)]
		keys := []int{10, 300, 5000}[rng.IntN(3)]
		cfg := Config{Partitions: parts, MemoryBound: int64(1) << (10 + rng.IntN(10)), FS: vfs.NewMem(), Dir: "sort", Combine: sum}
		var recs []Record
		ref := newReference(parts)
		for range rng.IntN(20000) {
			r := Record{fmt.Append(nil, "key ", rng.IntN(keys)), fmt.Append(nil, rng.IntN(100))}
			recs = append(recs, r)
			ref.add(r.Key, r.Value)
		}
		out, x, stats := sortAll(t, cfg, batches(recs, 100))
		for p := range parts {
			if got, _ := mergeAll(t, []io.Reader{segment(out, x, p)}, MergeConfig{}); !equal(got, ref.summed(p)) {
				t.Fatalf("seed %d: partition %d differs", seed, p)
			}
		}
		all.Combines += stats.Combines
		all.Spills += stats.Spills
		all.Merges += stats.Merges
		all.Kept += stats.Kept
		if stats.PeakMemory > cfg.MemoryBound+2000 {
			t.Fatalf("peak %d of %d", stats.PeakMemory, cfg.MemoryBound)
		}
	}
	if all.Combines == 0 || all.Spills == 0 || all.Merges == 0 || all.Kept == 0 {
		t.Fatalf("not everything happened: %+v", all)
	}
}

func TestCombinerRules(t *testing.T) {
	t.Parallel()
	one := []byte("1")
	broken := errors.New("broken")
	drain := func(r io.Reader) { _, _ = io.Copy(io.Discard, r) }
	cases := map[string]struct {
		f    Combine
		want string
	}{
		"descending": {func(_ context.Context, r io.Reader, emit func([]byte) error) error {
			drain(r)
			return emit(AppendRecord(AppendRecord(nil, []byte("b"), one), []byte("a"), one))
		}, "bad_combiner"},
		"a key of its own": {func(_ context.Context, r io.Reader, emit func([]byte) error) error {
			drain(r)
			return emit(AppendRecord(nil, []byte("aa"), one))
		}, "bad_combiner"},
		"before it was read": {func(_ context.Context, r io.Reader, emit func([]byte) error) error {
			defer drain(r)
			return emit(AppendRecord(nil, []byte("a"), one))
		}, "bad_combiner"},
		"an error of emit ignored": {func(_ context.Context, r io.Reader, emit func([]byte) error) error {
			drain(r)
			_ = emit(AppendRecord(nil, []byte("aa"), one))
			return nil
		}, "bad_combiner"},
		"stops early":   {func(context.Context, io.Reader, func([]byte) error) error { return nil }, "bad_combiner"},
		"a bad batch":   {func(_ context.Context, r io.Reader, emit func([]byte) error) error { drain(r); return emit([]byte{9}) }, "bad_records"},
		"its own error": {func(context.Context, io.Reader, func([]byte) error) error { return broken }, "internal"},
		"nothing":       {func(_ context.Context, r io.Reader, _ func([]byte) error) error { drain(r); return nil }, ""},
		"twice": {func(_ context.Context, r io.Reader, emit func([]byte) error) error {
			drain(r)
			b := AppendRecord(AppendRecord(nil, []byte("a"), one), []byte("a"), one)
			return emit(AppendRecord(b, []byte("c"), one))
		}, ""},
	}
	for name, c := range cases {
		s, err := NewSorter(context.Background(), Config{Partitions: 1, Combine: c.f})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []string{"c", "a", "b", "a"} {
			if err := s.Add(AppendRecord(nil, []byte(k), one)); err != nil {
				t.Fatal(err)
			}
		}
		_, err = s.Finish(io.Discard)
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || fault.Reason(err) != c.want):
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		case c.want == "bad_combiner" && fault.KindOf(err) != fault.Guest:
			t.Errorf("%s: kind %v", name, fault.KindOf(err))
		}
		if again := s.Add(nil); again == nil {
			t.Errorf("%s: added after the end", name)
		}
	}
}

// TestCombinerReadsAhead has a combiner that reads so many keys ahead that the check of what it was given gives up.
func TestCombinerReadsAhead(t *testing.T) {
	t.Parallel()
	s, err := NewSorter(context.Background(), Config{Partitions: 1, Combine: sum})
	if err != nil {
		t.Fatal(err)
	}
	n := maxAhead + 1000
	var batch []byte
	for i := range n {
		batch = AppendRecord(batch[:0], fmt.Append(nil, i), []byte("1"))
		if err := s.Add(batch); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Finish(io.Discard); err != nil || s.Stats().KeysOut != int64(n) {
		t.Fatal(err, s.Stats())
	}
}

func TestSorterRefuses(t *testing.T) {
	t.Parallel()
	for _, parts := range []uint32{0, MaxPartitions + 1} {
		if _, err := NewSorter(context.Background(), Config{Partitions: parts}); fault.KindOf(err) != fault.Invalid {
			t.Fatal(err)
		}
	}
	s, err := NewSorter(context.Background(), Config{Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	good := AppendRecord(nil, []byte("k"), []byte("v"))
	for _, bad := range [][]byte{{1}, {0}, {1, 'k', 2, 'v'}, append(bytes.Clone(good), 0xff), {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}} {
		if err := s.Add(bad); fault.KindOf(err) != fault.Guest || fault.Reason(err) != "bad_records" {
			t.Fatalf("%v: %v", bad, err)
		}
	}
	if err := s.Add(good); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Finish(io.Discard); err != nil || s.Stats().RecordsOut != 1 {
		t.Fatal(err, s.Stats())
	}
}
