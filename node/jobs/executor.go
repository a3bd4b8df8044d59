package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
	"github.com/wattlehq/wattle/node/grants"
	"github.com/wattlehq/wattle/store"
)

// DefaultTaskTimeout is how long an attempt may take where neither its stage nor its function says.
const DefaultTaskTimeout = 10 * time.Minute

// DefaultTaskOutput is how many bytes an attempt may put out where its function does not say.
const DefaultTaskOutput = 1 << 30

// Executor runs attempts. It is a worker.Runner; its fields must be set.
type Executor struct {
	// Node is this one.
	Node string
	// Counts returns once it is known that an attempt counts: see Scheduler.
	Counts func(context.Context, *Attempt) error
	Host   *host.Host
	Blobs  Blobs
	Inputs *Inputs
	Grants *grants.Grants
	// FS and Scratch are where records are spilled that do not fit into ShuffleBytes of memory.
	FS           store.FS
	Scratch      string
	ShuffleBytes int64
	// Counters takes what the shuffles did.
	Counters *ShuffleCounters

	tables tables
}

// Run implements worker.Runner.
func (x *Executor) Run(_ context.Context, a *Attempt) Outcome {
	t := &task{Executor: x, a: a, ctx: a.ctx, work: a.Work}
	defer a.cancel(nil)
	out, err := t.run()
	if errors.Is(context.Cause(a.ctx), errJobOver) {
		return Outcome{}
	}
	f := &storev1.Finish{
		Stage: a.Task.Stage, Task: a.Task.Index, Generation: a.Generation, Attempt: a.Attempt, Node: x.Node,
		Usage: &wattlev1.CallUsage{Duration: durationpb.New(t.stats.Duration), PeakMemoryBytes: t.stats.PeakMemory, Fuel: t.stats.Fuel, LogDropped: t.stats.LogDropped},
	}
	if err == nil {
		f.Outcome = &storev1.Finish_Completed{Completed: out}
		return Outcome{Finish: f}
	}
	return t.without(f, err)
}

// without says how an attempt ended that put nothing out.
func (t *task) without(f *storev1.Finish, err error) Outcome {
	var lost *lostInput
	switch {
	case errors.As(err, &lost):
		slog.Warn("the output of a task is lost, it is made again", "task", t.a.Task, "error", err)
		f.Outcome = &storev1.Finish_Released{Released: &storev1.Release{}}
		return Outcome{Finish: f, Lost: []*storev1.Lose{lost.lose}}
	case t.ctx.Err() != nil:
		f.Outcome = &storev1.Finish_Released{Released: &storev1.Release{}}
	default:
		f.Outcome = &storev1.Finish_Failed{Failed: t.failure(err)}
	}
	return Outcome{Finish: f}
}

// lostInput says that the output of another task could not be read.
type lostInput struct {
	lose *storev1.Lose
	err  error
}

func (l *lostInput) Error() string { return l.err.Error() }
func (l *lostInput) Unwrap() error { return l.err }

// failure judges an error: errors a guest answers with and time limits may pass; crashes and other limits usually repeat, and
// so does what is wrong with the input. What went wrong on the node itself may pass, too; a full disk, memory that is short or a node
// that is away is waited for.
func (t *task) failure(err error) *storev1.Failure {
	f := &storev1.Failure{Reason: fault.Reason(err), Message: limitText(err.Error(), 4<<10)}
	e := fault.As(err)
	switch {
	case e != nil && (e.Kind == fault.Exhausted || e.Kind == fault.Unavailable):
		f.Trouble = true
	case e == nil, e.Kind == fault.Internal, e.Reason == "time_limit":
		f.Retryable = true
	case e.Kind == fault.Guest:
		f.Retryable = e.Fields["permanent"] != "true"
	case e.Kind == fault.Trap, e.Kind == fault.Limit:
		f.Retryable = t.work.Stage.Retry.GetTraps()
	}
	if e == nil {
		f.Reason = "node_error"
		slog.Error("a task failed on this node's account", "task", t.a.Task, "error", err)
	}
	return f
}

func limitText(s string, n int) string {
	if len(s) > n {
		s = s[:n] + " ..."
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// task is one attempt at work.
type task struct {
	*Executor
	a       *Attempt
	ctx     context.Context
	work    *dag.Work
	stats   host.Stats
	closers []func() error
}

// close gives back what was opened for the task.
func (t *task) close() (err error) {
	for _, c := range t.closers {
		err = errors.Join(err, c())
	}
	return err
}

func (t *task) run() (out *storev1.Output, err error) {
	defer func() { err = errors.Join(err, t.close()) }()
	s := t.work.Stage
	if s.Function == nil {
		return t.join()
	}
	in, kind, err := t.input()
	if err != nil {
		return nil, err
	}
	sink, err := t.sink()
	if err != nil {
		return nil, err
	}
	defer sink.abort()
	if err := t.call(s.Function, kind, in, sink); err != nil {
		return nil, err
	}
	return sink.finish(t.ctx)
}

// call runs a function of the stage on an input.
func (t *task) call(f *storev1.PlanFunction, kind string, in host.Input, out sink) error {
	m, err := t.load(f)
	if err != nil {
		return err
	}
	defer m.Release()
	limits := Limits(f.Limits)
	if limits.Timeout == 0 {
		limits.Timeout = DefaultTaskTimeout
	}
	// What is emitted goes to disk, so it may be more than an answer that is kept in memory.
	if limits.Output == 0 {
		limits.Output = DefaultTaskOutput
	}
	if s := time.Duration(t.work.Stage.Timeout); s > 0 && f == t.work.Stage.Function {
		limits.Timeout = s
	}
	mounts, closeMounts, err := t.Grants.Mounts(f.Capabilities)
	if err != nil {
		return err
	}
	defer closeMounts()
	// All attempts of a job are in one trace, which is found by its id.
	ctx := trace.With(t.ctx, trace.Of(string(t.a.Task.Job)))
	stats, err := m.Call(ctx, &host.Call{
		Function: f.Function, Input: in, Output: out, Emit: out.emit, Limits: limits,
		Log: func(level host.Level, line string) {
			slog.Debug(line, "job", t.a.Task.Job, "stage", t.work.Stage.Name, "task", t.a.Task.Index, "attempt", t.a.Attempt)
		},
		Fresh: f.Fresh,
		// A combiner runs while the function emits.
		Nested: f != t.work.Stage.Function, Within: f != t.work.Stage.Function,
		Capabilities: fenced{t.Grants.For(f.Service, f.Function, f.Capabilities), func(ctx context.Context) error { return t.Counts(ctx, t.a) }}, Mounts: mounts,
		Context: host.Context{
			Service: f.Service, Version: f.Number, Function: f.Function, Job: string(t.a.Task.Job), Stage: t.work.Stage.Name,
			Task: t.a.Task.Index, Attempt: t.a.Attempt, Input: kind, Params: t.work.Stage.Params,
		},
	})
	t.stats.Duration += stats.Duration
	t.stats.Fuel += stats.Fuel
	t.stats.LogDropped = t.stats.LogDropped || stats.LogDropped
	t.stats.PeakMemory = max(t.stats.PeakMemory, stats.PeakMemory)
	return err
}

func (t *task) load(f *storev1.PlanFunction) (*host.Module, error) {
	return LoadModule(t.ctx, t.Host, t.Blobs, f.Digest)
}

// LoadModule compiles the module with this digest, unless it is compiled already.
func LoadModule(ctx context.Context, h *host.Host, blobs Blobs, name string) (*host.Module, error) {
	d, err := digest.Parse(name)
	if err != nil {
		return nil, err
	}
	return h.Load(ctx, d, func() ([]byte, error) {
		b, err := blobs.Open(ctx, d)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		return io.ReadAll(b.Reader(0, b.Size()))
	})
}

// Limits turns the limits of the API into the host's.
func Limits(l *wattlev1.Limits) host.Limits {
	return host.Limits{
		Memory: l.GetMemoryBytes(), Timeout: l.GetTimeout().AsDuration(), Output: l.GetOutputBytes(), Log: l.GetLogBytes(),
		Fuel: l.GetFuel(), Stack: l.GetStackBytes(), Concurrency: l.GetConcurrency(),
	}
}

// entry reads what is the task's own of its stage's table.
func (t *task) entry() ([]byte, error) {
	s := t.work.Stage
	if s.Table.GetDigest() == "" {
		b := s.Table.GetInline()
		return dag.TableEntry(bytes.NewReader(b), int64(len(b)), s.Tasks, t.a.Task.Index)
	}
	d, err := digest.Parse(s.Table.Digest)
	if err != nil {
		return nil, err
	}
	r, size, done, err := t.tables.get(t.ctx, t.Blobs, d)
	if err != nil {
		return nil, err
	}
	entry, err := dag.TableEntry(r, size, s.Tasks, t.a.Task.Index)
	done(err)
	return entry, err
}

// output opens the output of another task, where it is. What cannot be read is lost.
func (t *task) output(in dag.Input) (io.ReaderAt, int64, error) {
	b := in.Output.GetBytes()
	if b.GetDigest() == "" {
		return bytes.NewReader(b.GetInline()), int64(len(b.GetInline())), nil
	}
	d, err := digest.Parse(b.Digest)
	if err != nil {
		return nil, 0, err
	}
	r, err := t.Blobs.OpenAt(t.ctx, d, int64(b.Size), in.Output.Node)
	if err != nil {
		return nil, 0, t.lost(in, err)
	}
	t.closers = append(t.closers, r.Close)
	return &lossReader{t: t, in: in, r: r}, r.Size(), nil
}

func (t *task) lost(in dag.Input, err error) error {
	k := fault.KindOf(err)
	if k != fault.Corrupt && k != fault.NotFound {
		return err
	}
	l := &storev1.Lose{Stage: t.work.Stage.From, Task: in.Task, Generation: in.Generation}
	if k == fault.NotFound && in.Output.Node != t.Node {
		l.Node = in.Output.Node // it is gone, or what it had is
	}
	return &lostInput{l, err}
}

type lossReader struct {
	t  *task
	in dag.Input
	r  io.ReaderAt
}

func (l *lossReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.r.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = l.t.lost(l.in, err)
	}
	return n, err
}

// input opens what the task reads, and says how the guest sees it.
func (t *task) input() (host.Input, string, error) {
	s := t.work.Stage
	split := s.Function.GetKind() == wattlev1.FunctionKind_FUNCTION_KIND_MAP
	switch s.Input {
	case storev1.InputKind_INPUT_KIND_VALUE, storev1.InputKind_INPUT_KIND_ITEMS, storev1.InputKind_INPUT_KIND_FILES:
		entry, err := t.entry()
		if err != nil {
			return nil, "", err
		}
		if s.Input == storev1.InputKind_INPUT_KIND_FILES {
			return t.fileInput(entry, split)
		}
		if !split {
			return host.BytesInput(entry), "bytes", nil
		}
		return host.StreamInput(onePart(&part{length: int64(len(entry)), data: bytes.NewReader(entry)})), "split", nil
	case storev1.InputKind_INPUT_KIND_EACH:
		p, err := t.outputPart(t.work.Inputs[0])
		if err != nil {
			return nil, "", err
		}
		if !split {
			return host.StreamInput(p.data), "bytes", nil
		}
		return host.StreamInput(onePart(p)), "split", nil
	case storev1.InputKind_INPUT_KIND_REDUCE:
		r, err := t.groups()
		return host.StreamInput(r), "groups", err
	case storev1.InputKind_INPUT_KIND_COLLECT:
		rest := t.work.Inputs
		return host.StreamInput(&parts{next: func() (*part, error) {
			if len(rest) == 0 {
				return nil, io.EOF
			}
			in := rest[0]
			rest = rest[1:]
			return t.outputPart(in)
		}}), "split", nil
	}
	return nil, "", fmt.Errorf("a stage with input %v", s.Input)
}

func (t *task) fileInput(entry []byte, split bool) (host.Input, string, error) {
	s := &storev1.Split{}
	if err := proto.Unmarshal(entry, s); err != nil {
		return nil, "", err
	}
	p := t.Inputs.fileParts(t.ctx, s, t.work.Stage.Node)
	if split {
		t.closers = append(t.closers, p.Close)
		return host.StreamInput(p), "split", nil
	}
	one, err := p.next()
	if err != nil {
		return nil, "", err
	}
	t.closers = append(t.closers, one.close)
	return host.StreamInput(one.data), "bytes", nil
}

func (t *task) outputPart(in dag.Input) (*part, error) {
	r, size, err := t.output(in)
	if err != nil {
		return nil, err
	}
	return &part{name: fmt.Sprint(in.Task), length: size, data: io.NewSectionReader(r, 0, size), close: func() error { return nil }}, nil
}

func onePart(p *part) io.Reader {
	rest := p
	p.close = func() error { return nil }
	return &parts{next: func() (*part, error) {
		if rest == nil {
			return nil, io.EOF
		}
		p := rest
		rest = nil
		return p, nil
	}}
}

// join is a collect stage without a function: the outputs one after the other.
func (t *task) join() (*storev1.Output, error) {
	out := t.newBytesSink()
	defer out.abort()
	for _, in := range t.work.Inputs {
		r, size, err := t.output(in)
		if err != nil {
			return nil, err
		}
		if _, err := io.Copy(out, io.NewSectionReader(r, 0, size)); err != nil {
			return nil, err
		}
		out.records = out.records || in.Output.GetRecords()
	}
	return out.finish(t.ctx)
}
