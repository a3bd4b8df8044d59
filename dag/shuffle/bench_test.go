package shuffle

import (
	"bytes"
	"context"
	"go/scanner"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// words is the identifiers of Go's own sources as word count emits them: batches of about 4 KiB, each word with "1".
var words = sync.OnceValues(func() ([][]byte, int) {
	var list [][]byte
	var batch []byte
	n, read := 0, 0
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		panic(err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src")
	files, _ := filepath.Glob(filepath.Join(src, "*", "*.go"))
	more, _ := filepath.Glob(filepath.Join(src, "cmd", "compile", "internal", "*", "*.go"))
	for _, path := range append(files, more...) {
		src, err := os.ReadFile(path)
		if err != nil || read > 24<<20 {
			continue
		}
		read += len(src)
		var s scanner.Scanner
		s.Init(token.NewFileSet().AddFile(path, -1, len(src)), src, nil, 0)
		for {
			_, tok, lit := s.Scan()
			if tok == token.EOF {
				break
			}
			if tok != token.IDENT || len(lit) > 120 {
				continue
			}
			n++
			if batch = AppendRecord(batch, []byte(lit), []byte("1")); len(batch) > 4096 {
				list, batch = append(list, batch), nil
			}
		}
	}
	return append(list, batch), n
})

func benchSort(b *testing.B, cfg Config, repeat int) {
	list, n := words()
	list, n = slices.Repeat(list, repeat), n*repeat
	b.ResetTimer()
	b.ReportAllocs()
	var stats Stats
	for b.Loop() {
		cfg.FS, cfg.Dir = vfs.NewMem(), "sort"
		s, err := NewSorter(context.Background(), cfg)
		if err != nil {
			b.Fatal(err)
		}
		for _, batch := range list {
			if err := s.Add(batch); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := s.Finish(io.Discard); err != nil {
			b.Fatal(err)
		}
		stats = s.Stats()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
	b.ReportMetric(float64(stats.PeakMemory)/(1<<20), "peak-MiB")
	b.ReportMetric(float64(stats.Spills), "spills")
	b.ReportMetric(float64(stats.Kept), "kept")
	b.ReportMetric(float64(stats.BytesOut)/(1<<20), "out-MiB")
}

func BenchmarkSorter(b *testing.B) {
	b.Run("fits", func(b *testing.B) { benchSort(b, Config{Partitions: 16}, 1) })
	b.Run("spills", func(b *testing.B) { benchSort(b, Config{Partitions: 16, MemoryBound: 4 << 20}, 1) })
	b.Run("combine", func(b *testing.B) { benchSort(b, Config{Partitions: 16, Combine: count}, 1) })
	b.Run("combine-keeps", func(b *testing.B) { benchSort(b, Config{Partitions: 16, MemoryBound: 16 << 20, Combine: count}, 8) })
	b.Run("combine-spills", func(b *testing.B) { benchSort(b, Config{Partitions: 16, MemoryBound: 2 << 20, Combine: count}, 1) })
}

// BenchmarkRecordSort is the plain alternative to the table: keep all records and sort them.
func BenchmarkRecordSort(b *testing.B) {
	list, n := words()
	for b.Loop() {
		var recs []Record
		var parts []uint32
		for _, batch := range list {
			for r := range DecodeRecords(batch) {
				recs = append(recs, r)
				parts = append(parts, Partition(r.Key, 16))
			}
		}
		slices.SortStableFunc(recs, func(x, y Record) int { return bytes.Compare(x.Key, y.Key) })
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
}

// BenchmarkMapOfSlices is the other plain alternative.
func BenchmarkMapOfSlices(b *testing.B) {
	list, n := words()
	for b.Loop() {
		m := map[string][]byte{}
		for _, batch := range list {
			for r := range DecodeRecords(batch) {
				m[string(r.Key)] = append(m[string(r.Key)], r.Value...)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
}

// count is a combiner that works in a stream, as a guest does, for values that are all of one byte.
func count(_ context.Context, r io.Reader, emit func([]byte) error) error {
	buf := make([]byte, 256<<10)
	var batch []byte
	fill, at := 0, 0
	need := func(n int) bool {
		for fill-at < n {
			fill = copy(buf, buf[at:fill])
			at = 0
			m, err := r.Read(buf[fill:])
			fill += m
			if err != nil {
				return false
			}
		}
		return true
	}
	for need(1) {
		n := int(buf[at])
		at++
		need(n)
		key := append([]byte(nil), buf[at:at+n]...)
		at += n
		sum := 0
		for need(1) && buf[at] != 0 {
			n := int(buf[at]) - 1
			need(n + 1)
			v := 0
			for _, c := range buf[at+1 : at+1+n] {
				v = v*10 + int(c-'0')
			}
			sum += v
			at += n + 1
		}
		at++
		var digits [20]byte
		i := len(digits)
		for ; sum > 0; sum /= 10 {
			i--
			digits[i] = byte('0' + sum%10)
		}
		if batch = AppendRecord(batch, key, digits[i:]); len(batch) > 16<<10 {
			if err := emit(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return emit(batch)
}

func BenchmarkMerge(b *testing.B) {
	list, n := words()
	const inputs = 16
	var outs [][]byte
	for part := range slices.Chunk(list, len(list)/inputs+1) {
		s, err := NewSorter(context.Background(), Config{Partitions: 1})
		if err != nil {
			b.Fatal(err)
		}
		for _, batch := range part {
			_ = s.Add(batch)
		}
		var out bytes.Buffer
		x, err := s.Finish(&out)
		if err != nil {
			b.Fatal(err)
		}
		_, size := x.Segment(0)
		outs = append(outs, out.Bytes()[:size])
	}
	b.ResetTimer()
	b.ReportAllocs()
	var stats Stats
	buf := make([]byte, 256<<10)
	for b.Loop() {
		var in []io.Reader
		for _, o := range outs {
			in = append(in, bytes.NewReader(o))
		}
		m := Merge(context.Background(), in, MergeConfig{})
		for {
			if _, err := m.Read(buf); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		stats = m.Stats()
		_ = m.Close()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/record")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(stats.KeysOut), "ns/key")
}
