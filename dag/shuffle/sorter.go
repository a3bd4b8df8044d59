// Package shuffle is the host's side of map-reduce: it groups the records a map task emits by key, combines,
// sorts and partitions them within a bound of memory, and merges the outputs of many map tasks into the
// groups stream a reduce task reads.
//
// It runs no guests and moves no bytes between nodes: a combiner is a function of the caller's, and inputs and
// outputs are readers and writers. The caller gives every Sorter and every Merge a folder of its own for
// scratch files, and closes them.
//
// A map output is one stream of bytes that holds all partitions, each a segment, so that one blob for each map
// task is enough and a reduce task reads a range of it. A segment is a groups stream in checksummed frames:
// keys in ascending order of bytes, each once, its values in the order of their arrival.
//
// Nothing here is safe for concurrent use, but different Sorters and Merges are independent.
package shuffle

import (
	"context"
	"io"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

// DefaultMemoryBound is that of a Config that names none, in bytes.
const DefaultMemoryBound = 64 << 20

const (
	minMemoryBound = 1 << 10
	// maxMemoryBound keeps places in the arena within 32 bits.
	maxMemoryBound = 2 << 30
	// sorterFanIn is how many runs are merged at once: their frames together take a quarter of the bound.
	sorterFanIn = 32
)

// Config are the settings of a Sorter.
type Config struct {
	// Partitions is how many there are, 1 to MaxPartitions.
	Partitions uint32
	// MemoryBound bounds the records held in memory with all that is kept about them, in bytes; default
	// DefaultMemoryBound, at most 2 GiB. A single larger record is held nevertheless. Below 64 KiB it is approximate.
	MemoryBound int64
	// FS and Dir are where runs are kept that do not fit. Dir belongs to this Sorter alone, need not exist, and is removed.
	FS  store.FS
	Dir string
	// Combine, if set, shrinks the values of a key: when memory is full and at the end.
	Combine Combine
}

// Stats tells what was done.
type Stats struct {
	// RecordsIn and BytesIn are what was added.
	RecordsIn, BytesIn int64
	// RecordsOut, KeysOut and BytesOut are what came out.
	RecordsOut, KeysOut, BytesOut int64
	// Spills counts runs written, Merges passes through files beyond the last one, SpillBytes the bytes of both.
	Spills, Merges, SpillBytes int64
	// Combines counts calls of the combiner, CombineIn and CombineOut the records it was given and gave. Kept counts
	// how often a full memory was combined so well that nothing had to be written.
	Combines, CombineIn, CombineOut, Kept int64
	// PeakMemory is the most that was held of what MemoryBound bounds, in bytes.
	PeakMemory int64
}

// Sorter makes the output of one map task.
type Sorter struct {
	ctx   context.Context
	cfg   Config
	sc    scratch
	t     *table
	limit int64
	frame int
	runs  []source
	stats Stats
	err   error
}

// NewSorter makes a Sorter; it writes nothing yet. ctx bounds all that it does, the combiner's calls too. The error is of
// kind fault.Invalid when the settings make no sense.
func NewSorter(ctx context.Context, cfg Config) (*Sorter, error) {
	if cfg.Partitions == 0 || cfg.Partitions > MaxPartitions {
		return nil, fault.New(fault.Invalid, "bad_partitions", "%d partitions: want 1 to %d", cfg.Partitions, MaxPartitions)
	}
	if cfg.MemoryBound <= 0 {
		cfg.MemoryBound = DefaultMemoryBound
	}
	cfg.MemoryBound = min(max(cfg.MemoryBound, minMemoryBound), maxMemoryBound)
	s := &Sorter{ctx: ctx, cfg: cfg, sc: scratch{fs: cfg.FS, dir: cfg.Dir}, limit: cfg.MemoryBound, frame: 256}
	if cfg.Combine != nil {
		// The rest is for what the combiner gives.
		s.limit = cfg.MemoryBound / 4 * 3
	}
	for s.frame < maxFrame && int64(s.frame)*2*4*sorterFanIn <= cfg.MemoryBound {
		s.frame *= 2
	}
	s.t = newTable(cfg.Partitions, s.limit)
	return s, nil
}

// Stats tells what was done so far.
func (s *Sorter) Stats() Stats { return s.stats }

// Add takes a batch of records and copies what it needs. A malformed batch is refused as a whole, with an error of kind
// fault.Guest "bad_records", and the Sorter can go on. Any other error is final: the scratch files are removed and
// every later call gives it again.
func (s *Sorter) Add(batch []byte) error {
	if s.err != nil {
		return s.err
	}
	if err := context.Cause(s.ctx); err != nil {
		return s.fail(err)
	}
	for rest := batch; len(rest) > 0; {
		_, _, next, ok := cutRecord(rest)
		if !ok {
			return badRecords(len(batch) - len(rest))
		}
		rest = next
	}
	for rest := batch; len(rest) > 0; {
		key, value, next, _ := cutRecord(rest)
		if s.t.n > 0 && s.t.memory()+s.t.cost(key, value) > s.limit {
			if err := s.makeRoom(); err != nil {
				return s.fail(err)
			}
		}
		s.t.add(key, value)
		s.stats.RecordsIn++
		rest = next
	}
	s.stats.BytesIn += int64(len(batch))
	s.peak(0)
	return nil
}

func (s *Sorter) peak(more int64) {
	s.stats.PeakMemory = max(s.stats.PeakMemory, s.t.memory()+more)
}

// makeRoom empties the table: combined into less, or into a run.
func (s *Sorter) makeRoom() error {
	s.peak(0)
	if s.cfg.Combine == nil {
		return s.spill()
	}
	sp := &spool{s: &s.sc, limit: int(s.cfg.MemoryBound / 4)}
	w := newFrameWriter(sp, s.frame)
	out := &groupWriter{w: w, tagged: true}
	err := combineAll(s.ctx, s.cfg.Combine, s.cfg.Partitions, s.t.sorted(), out, &s.stats)
	if err == nil {
		err = w.end()
	}
	if cerr := sp.close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	s.peak(min(w.n, int64(sp.limit)))
	s.t.reset()
	if sp.file != nil {
		s.addRun(sp.path, w.n)
		return nil
	}
	// Keeping it pays while most of the memory is free again, an eighth of the time even where files cost
	// nothing; otherwise the same keys would be combined over and over for little.
	if 2*(w.n+out.keys*(entryCost+3*chunkHead)) <= s.limit {
		s.stats.Kept++
		return s.keep(newGroupReader(sp, true))
	}
	path, n, err := s.sc.write(s.frame, func(w *frameWriter) error {
		return (&groupWriter{w: w, tagged: true}).copy(newGroupReader(sp, true))
	})
	if err == nil {
		s.addRun(path, n)
	}
	return err
}

func (s *Sorter) keep(src groups) error {
	for {
		_, key, err := src.group()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		e := s.t.find(key)
		for {
			piece, begun, err := src.values()
			if err != nil {
				return err
			}
			if piece == nil {
				break
			}
			s.t.push(e, piece, len(piece))
			e.count += uint32(begun)
		}
	}
}

// spill writes the table as a run, combined if there is a combiner.
func (s *Sorter) spill() error {
	path, n, err := s.sc.write(s.frame, func(w *frameWriter) error {
		return s.reduce(s.t.sorted(), &groupWriter{w: w, tagged: true})
	})
	if err != nil {
		return err
	}
	s.t.reset()
	s.addRun(path, n)
	return nil
}

func (s *Sorter) addRun(path string, n int64) {
	s.runs = append(s.runs, source{path: path})
	s.stats.Spills++
	s.stats.SpillBytes += n
}

// reduce copies groups, through the combiner if there is one.
func (s *Sorter) reduce(src groups, out *groupWriter) error {
	if s.cfg.Combine == nil {
		return out.copy(src)
	}
	return combineAll(s.ctx, s.cfg.Combine, s.cfg.Partitions, src, out, &s.stats)
}

// Finish writes the map output to w and removes the scratch files; nothing can be added afterwards. An error of w comes
// back as it is.
func (s *Sorter) Finish(w io.Writer) (Index, error) {
	if s.err != nil {
		return Index{}, s.err
	}
	index, err := s.finish(w)
	if err != nil {
		return Index{}, s.fail(err)
	}
	s.err = errClosed
	s.t = nil
	return index, s.sc.clean()
}

func (s *Sorter) finish(w io.Writer) (Index, error) {
	if err := context.Cause(s.ctx); err != nil {
		return Index{}, err
	}
	if len(s.runs) == 0 {
		return s.output(w, s.t.sorted())
	}
	// The memory goes to the merge.
	if s.t.n > 0 {
		if err := s.spill(); err != nil {
			return Index{}, err
		}
	}
	s.t = newTable(s.cfg.Partitions, s.limit)
	runs, err := narrow(s.runs, sorterFanIn, func(part []source) (source, error) {
		path, n, err := s.sc.mergeFiles(s.ctx, part, s.frame, 0, s.reduce)
		s.stats.Merges++
		s.stats.SpillBytes += n
		return source{path: path}, err
	})
	if err != nil {
		return Index{}, err
	}
	m, err := newMerger(s.ctx, &s.sc, runs, 0)
	defer m.close()
	if err != nil {
		return Index{}, err
	}
	return s.output(w, m)
}

// output writes the segments and the index.
func (s *Sorter) output(w io.Writer, src groups) (Index, error) {
	segments := make([]Segment, 0, s.cfg.Partitions)
	fw := newFrameWriter(w, s.frame)
	out := &groupWriter{w: fw}
	// seal ends the segments below part.
	var start, keys, recs int64
	seal := func(part uint32) error {
		for len(segments) < int(part) {
			if err := fw.end(); err != nil {
				return err
			}
			segments = append(segments, Segment{start, fw.n - start, out.keys - keys, out.recs - recs})
			start, keys, recs = fw.n, out.keys, out.recs
		}
		return nil
	}
	out.enter = seal
	if err := s.reduce(src, out); err != nil {
		return Index{}, err
	}
	if err := seal(s.cfg.Partitions); err != nil {
		return Index{}, err
	}
	tail := appendIndex(nil, segments)
	if _, err := w.Write(tail); err != nil {
		return Index{}, err
	}
	s.stats.RecordsOut, s.stats.KeysOut, s.stats.BytesOut = out.recs, out.keys, fw.n+int64(len(tail))
	return Index{segments, s.stats.BytesOut}, nil
}

// fail makes err final.
func (s *Sorter) fail(err error) error {
	s.err, s.t, s.runs = err, nil, nil
	_ = s.sc.clean()
	return err
}

// Close removes the scratch files. Closing again, or after Finish, does nothing.
func (s *Sorter) Close() error {
	if s.err == nil {
		s.err = errClosed
	}
	s.t = nil
	return s.sc.clean()
}
