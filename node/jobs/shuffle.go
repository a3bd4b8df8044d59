package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/wattlehq/wattle/dag"
	"github.com/wattlehq/wattle/dag/shuffle"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store/blob"
)

// ShuffleCounters count what shuffles did since the start.
type ShuffleCounters struct {
	Spills, Merges, Records atomic.Int64
}

// shuffleSink partitions, combines and sorts what a guest emits, for the reduce that reads it.
type shuffleSink struct {
	t      *task
	sorter *shuffle.Sorter
}

// scratchDir is a folder nobody else uses.
func (t *task) scratchDir(what string) string {
	return t.FS.PathJoin(t.Scratch, fmt.Sprintf("%s-%d-%d-%d-%d-%s", t.a.Task.Job, t.a.Task.Stage, t.a.Task.Index, t.a.Generation, t.a.Attempt, what))
}

func (t *task) newShuffleSink() (sink, error) {
	cfg := shuffle.Config{Partitions: t.work.Stage.Partitions, MemoryBound: t.ShuffleBytes, FS: t.FS, Dir: t.scratchDir("map")}
	if t.work.Stage.Combiner != nil {
		cfg.Combine = t.combine
	}
	s, err := shuffle.NewSorter(t.ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &shuffleSink{t: t, sorter: s}, nil
}

// combine runs the stage's combiner over a stream of keys with their values.
func (t *task) combine(ctx context.Context, groups io.Reader, emit func([]byte) error) error {
	return t.call(t.work.Stage.Combiner, "groups", host.StreamInput(groups), emitOnly{t.work.Stage.Name, emit})
}

// emitOnly is the sink of a combiner.
type emitOnly struct {
	stage string
	to    func(batch []byte) error
}

func (e emitOnly) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, errMixed(e.stage)
}
func (e emitOnly) emit(batch []byte) error                         { return e.to(batch) }
func (e emitOnly) finish(context.Context) (*storev1.Output, error) { return nil, nil }
func (e emitOnly) abort()                                          {}

func (s *shuffleSink) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return 0, errMixed(s.t.work.Stage.Name)
}

func (s *shuffleSink) emit(batch []byte) error { return s.sorter.Add(batch) }

func (s *shuffleSink) finish(ctx context.Context) (*storev1.Output, error) {
	w, err := s.t.Blobs.Create(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if w != nil {
			w.Abort()
		}
	}()
	if _, err := s.sorter.Finish(w); err != nil {
		return nil, err
	}
	s.t.count(s.sorter.Stats())
	out := w
	w = nil
	return s.t.commit(ctx, out)
}

// commit makes a written blob the task's output. Only results are copied to other nodes: what other stages read can be made again.
func (t *task) commit(ctx context.Context, w *blob.Writer) (*storev1.Output, error) {
	d, size, err := w.Commit()
	if err != nil {
		return nil, err
	}
	if t.work.Stage.Result {
		t.Blobs.Spread(ctx, d)
	}
	return &storev1.Output{Bytes: &storev1.Bytes{Digest: d.String(), Size: uint64(size)}, Node: t.Node}, nil
}

func (s *shuffleSink) abort() { s.sorter.Close() }

func (t *task) count(s shuffle.Stats) {
	t.Counters.Spills.Add(s.Spills)
	t.Counters.Merges.Add(s.Merges)
	if s.Spills > 0 {
		t.Counters.Merges.Add(1) // the last pass, which goes to the output
	}
	t.Counters.Records.Add(s.RecordsIn)
}

// groups opens the task's partition in all map outputs and merges them.
func (t *task) groups() (io.Reader, error) {
	var segments []io.Reader
	var from []dag.Input
	for _, in := range t.work.Inputs {
		r, size, err := t.output(in)
		if err != nil {
			return nil, err
		}
		index, err := shuffle.ReadIndex(r, size)
		if err != nil {
			return nil, t.lost(in, err)
		}
		if int(t.a.Task.Index) >= len(index.Segments) {
			return nil, t.lost(in, fault.New(fault.Corrupt, "damaged_output", "a map output has %d partitions, not %d", len(index.Segments), t.a.Task.Index+1))
		}
		// Reading nothing would still verify the chunk it lies in.
		if index.Segments[t.a.Task.Index].Records == 0 {
			continue
		}
		off, n := index.Segment(t.a.Task.Index)
		from = append(from, in)
		segments = append(segments, io.NewSectionReader(r, off, n))
	}
	m := shuffle.Merge(t.ctx, segments, shuffle.MergeConfig{FS: t.FS, Dir: t.scratchDir("reduce")})
	t.closers = append(t.closers, m.Close)
	t.Counters.Merges.Add(1)
	return &mergeReader{t: t, m: m, from: from}, nil
}

// mergeReader tells from a merge's error which task's output is to be made again.
type mergeReader struct {
	t *task
	m *shuffle.Merged
	// from are the tasks whose segments are merged.
	from []dag.Input
}

func (r *mergeReader) Read(p []byte) (int, error) {
	n, err := r.m.Read(p)
	var bad *shuffle.InputError
	if errors.As(err, &bad) {
		var lost *lostInput
		if !errors.As(err, &lost) {
			err = r.t.lost(r.from[bad.Input], err)
		}
	}
	return n, err
}
