package jobs

import (
	"context"
	"io"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store/blob"
)

// sink takes what a guest puts out: bytes through Write, records through emit.
type sink interface {
	io.Writer
	emit(batch []byte) error
	// finish stores it all.
	finish(ctx context.Context) (*storev1.Output, error)
	// abort gives back what is held; after finish it does nothing.
	abort()
}

// sink returns the one that fits the stage.
func (t *task) sink() (sink, error) {
	if t.work.Stage.Partitions > 0 {
		return t.newShuffleSink()
	}
	s := t.newBytesSink()
	// A map or reduce that puts nothing out has put out no records.
	s.records = t.work.Stage.Function.Kind != wattlev1.FunctionKind_FUNCTION_KIND_CALL
	return s, nil
}

// bytesSink keeps output inline while it is small, and as a blob from then on.
type bytesSink struct {
	t       *task
	inline  []byte
	w       *blob.Writer
	plain   bool // bytes were written
	emitted bool
	records bool // what an empty output is
}

func (t *task) newBytesSink() *bytesSink { return &bytesSink{t: t} }

func (s *bytesSink) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.plain, s.records = true, false
	if s.emitted {
		return 0, errMixed(s.t.work.Stage.Name)
	}
	return s.put(p)
}

func (s *bytesSink) emit(batch []byte) error {
	s.emitted, s.records = true, true
	if s.plain {
		return errMixed(s.t.work.Stage.Name)
	}
	_, err := s.put(batch)
	return err
}

func errMixed(stage string) error {
	return fault.New(fault.Trap, "mixed_output", "a function of stage %s both emits records and writes bytes", stage).
		Hint("do one of the two")
}

func (s *bytesSink) put(p []byte) (int, error) {
	if s.w == nil {
		if len(s.inline)+len(p) <= dag.InlineBytes {
			s.inline = append(s.inline, p...)
			return len(p), nil
		}
		w, err := s.t.Blobs.Create(s.t.ctx)
		if err != nil {
			return 0, err
		}
		s.w = w
		if _, err := w.Write(s.inline); err != nil {
			return 0, err
		}
		s.inline = nil
	}
	return s.w.Write(p)
}

func (s *bytesSink) finish(context.Context) (*storev1.Output, error) {
	out := &storev1.Output{Records: s.records, Bytes: &storev1.Bytes{Inline: s.inline, Size: uint64(len(s.inline))}}
	if s.w == nil {
		return out, nil
	}
	w := s.w
	s.w = nil
	blob, err := s.t.commit(s.t.ctx, w)
	if err != nil {
		return nil, err
	}
	blob.Records = s.records
	return blob, nil
}

func (s *bytesSink) abort() {
	if s.w != nil {
		s.w.Abort()
	}
}
