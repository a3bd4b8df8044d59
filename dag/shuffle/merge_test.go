package shuffle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/fault"
)

func TestMergeAgainstMaps(t *testing.T) {
	t.Parallel()
	var passes int64
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 3))
		parts := uint32(1 + rng.IntN(4))
		ref := newReference(parts)
		inputs := make([][]io.Reader, parts)
		for range rng.IntN(40) {
			recs := makeRecords(rng, rng.IntN(200))
			for _, r := range recs {
				ref.add(r.Key, r.Value)
			}
			out, x, _ := sortAll(t, Config{Partitions: parts, MemoryBound: 1 << (10 + rng.IntN(8)), FS: vfs.NewMem(), Dir: "s"}, batches(recs, 10))
			for p := range parts {
				inputs[p] = append(inputs[p], segment(out, x, p))
			}
		}
		for p := range parts {
			mem := vfs.NewMem()
			got, stats := mergeAll(t, inputs[p], MergeConfig{FS: mem, Dir: "m", FanIn: 2 + rng.IntN(12), Partition: p})
			if !equal(got, ref.groups(p)) {
				t.Fatalf("seed %d: partition %d differs", seed, p)
			}
			if names, err := mem.List("m"); err == nil {
				t.Fatalf("scratch files stayed: %v", names)
			}
			passes += stats.Merges
		}
	}
	if passes < 50 {
		t.Fatalf("only %d passes", passes)
	}
}

func TestMergeCombines(t *testing.T) {
	t.Parallel()
	const parts = 3
	for _, fanIn := range []int{2, 3, 7} {
		ref := newReference(parts)
		inputs := make([][]io.Reader, parts)
		for i := range 25 {
			var recs []Record
			for k := range 200 {
				r := Record{fmt.Append(nil, k*(i%4)), []byte("1")}
				recs = append(recs, r)
				ref.add(r.Key, r.Value)
			}
			out, x, _ := sortAll(t, Config{Partitions: parts, Combine: sum}, batches(recs, 10))
			for p := range uint32(parts) {
				inputs[p] = append(inputs[p], segment(out, x, p))
			}
		}
		for p := range uint32(parts) {
			got, stats := mergeAll(t, inputs[p], MergeConfig{FS: vfs.NewMem(), Dir: "m", FanIn: fanIn, Combine: sum, Partitions: parts, Partition: p})
			if stats.Combines == 0 {
				t.Fatal("nothing combined")
			}
			summed := newReference(1)
			for _, g := range got {
				for _, v := range g.values {
					summed.add([]byte(g.key), []byte(v))
				}
			}
			if !equal(summed.summed(0), ref.summed(p)) {
				t.Fatalf("fan-in %d: partition %d differs", fanIn, p)
			}
		}
	}
}

func smallSegment(t testing.TB, n int) []byte {
	t.Helper()
	var recs []Record
	for i := range n {
		recs = append(recs, Record{fmt.Append(nil, "key ", i%50), fmt.Append(nil, "value ", i)})
	}
	out, x, _ := sortAll(t, Config{Partitions: 1}, batches(recs, 100))
	_, size := x.Segment(0)
	return out[:size]
}

func TestMergeNamesTheBadInput(t *testing.T) {
	t.Parallel()
	good := smallSegment(t, 150)
	var unsorted bytes.Buffer
	fw := newFrameWriter(&unsorted, maxFrame)
	gw := &groupWriter{w: fw}
	for _, k := range []string{"b", "a"} {
		_ = gw.record(0, []byte(k), nil)
	}
	_ = gw.end()
	_ = fw.end()
	bad := map[string][]byte{"unsorted": unsorted.Bytes(), "no input at all": nil}
	for i := range good {
		bad[fmt.Sprintf("cut at %d", i)] = good[:i]
		flipped := bytes.Clone(good)
		flipped[i] ^= 1 << (i % 8)
		bad[fmt.Sprintf("flipped at %d", i)] = flipped
	}
	for name, data := range bad {
		for _, fanIn := range []int{0, 2} {
			mem := vfs.NewMem()
			in := []io.Reader{bytes.NewReader(good), bytes.NewReader(good), bytes.NewReader(good), bytes.NewReader(data), bytes.NewReader(good)}
			m := Merge(context.Background(), in, MergeConfig{FS: mem, Dir: "m", FanIn: fanIn})
			_, err := io.Copy(io.Discard, m)
			var ie *InputError
			if !errors.As(err, &ie) || ie.Input != 3 || fault.KindOf(err) != fault.Corrupt {
				t.Fatalf("%s, fan-in %d: %v", name, fanIn, err)
			}
			if names, err := mem.List("m"); err == nil {
				t.Fatalf("%s: scratch files stayed: %v", name, names)
			}
			_ = m.Close()
		}
	}
	broken := errors.New("broken")
	m := Merge(context.Background(), []io.Reader{bytes.NewReader(good), io.MultiReader(bytes.NewReader(good[:20]), iotest.ErrReader(broken))}, MergeConfig{})
	var ie *InputError
	if _, err := io.Copy(io.Discard, m); !errors.Is(err, broken) || !errors.As(err, &ie) || ie.Input != 1 {
		t.Fatal(err)
	}
}

func TestMergeEnds(t *testing.T) {
	t.Parallel()
	if got, _ := mergeAll(t, nil, MergeConfig{}); len(got) != 0 {
		t.Fatal(got)
	}
	good := smallSegment(t, 150)
	want, _ := mergeAll(t, []io.Reader{bytes.NewReader(good)}, MergeConfig{})
	for _, wrap := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader} {
		if got, _ := mergeAll(t, []io.Reader{wrap(bytes.NewReader(good))}, MergeConfig{}); !equal(got, want) {
			t.Fatal("a slow reader made a difference")
		}
	}
	if got, err := parseGroups(iotest.OneByteReader(Merge(context.Background(), []io.Reader{bytes.NewReader(good)}, MergeConfig{}))); err != nil || !equal(got, want) {
		t.Fatal(err)
	}
	many := make([]io.Reader, DefaultFanIn+1)
	for i := range many {
		many[i] = bytes.NewReader(good)
	}
	if _, err := Merge(context.Background(), many, MergeConfig{}).Read(make([]byte, 1)); fault.KindOf(err) != fault.Invalid {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Merge(ctx, many[:2], MergeConfig{}).Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	m := Merge(context.Background(), many[:2], MergeConfig{})
	_ = m.Close()
	if _, err := m.Read(make([]byte, 1)); err == nil {
		t.Fatal("read after Close")
	}
}

func TestMergeDiskFull(t *testing.T) {
	t.Parallel()
	good := smallSegment(t, 150)
	for n := 1; ; n++ {
		mem := vfs.NewMem()
		ffs := &failFS{FS: mem, left: n, err: syscall.ENOSPC}
		var in []io.Reader
		for range 9 {
			in = append(in, bytes.NewReader(good))
		}
		m := Merge(context.Background(), in, MergeConfig{FS: ffs, Dir: "m", FanIn: 2})
		_, err := io.Copy(io.Discard, m)
		if ffs.left > 0 {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if fault.Reason(err) != "disk_full" {
			t.Fatalf("change %d: %v", n, err)
		}
		if names, err := mem.List("m"); err == nil {
			t.Fatalf("change %d: scratch files stayed: %v", n, names)
		}
	}
}
