package jobs

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/dag"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

const (
	// mostWait is how long a client may wait for tasks.
	mostWait = time.Minute
	// While it waits, other nodes are asked anew after this time: others may lead now.
	askAnew = 5 * time.Second
	// While nobody has anything, or others are quicker, the pauses grow from this.
	firstPause = 20 * time.Millisecond
	// Inputs of this size travel with their tasks, and so much altogether.
	smallInput, mostInputs = dag.InlineBytes, 4 << 20
)

func invalid(reason, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, reason, format, args...)
}

// Acquire gives a client tasks of any node that leads some, and waits for them if it is asked to.
func (s *Service) Acquire(ctx context.Context, q *wattlev1.AcquireTasksRequest) ([]*wattlev1.AcquiredTask, error) {
	ask, err := acquisition(q)
	if err != nil {
		return nil, err
	}
	end := time.Now().Add(q.Wait.AsDuration())
	for pause := firstPause; ; pause = min(2*pause, time.Second) {
		attempts := s.acquire(ctx, ask)
		tasks := s.acquired(ctx, attempts, ask.Lease)
		if ctx.Err() != nil {
			s.sched.release(attempts)
			return nil, ctx.Err()
		}
		left := time.Until(end)
		if len(tasks) > 0 || left <= 0 {
			return tasks, nil
		}
		rest := pause
		if s.await(ctx, &peerv1.AwaitTasksRequest{Pool: ask.Pool, Wait: durationpb.New(min(left, askAnew))}) {
			// Again and again, if others are always quicker; else at once.
			rest = min(pause-firstPause, 100*time.Millisecond)
		}
		wait := time.NewTimer(min(rest, time.Until(end)))
		select {
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

// acquisition checks what a client asks for.
func acquisition(q *wattlev1.AcquireTasksRequest) (*peerv1.AcquireRequest, error) {
	if q.Pool != "" {
		if err := dag.CheckPool(q.Pool); err != nil {
			return nil, err
		}
	}
	if q.MaxTasks > mostAcquired {
		return nil, invalid("bad_max_tasks", "%d tasks at a time: the limit is %d", q.MaxTasks, mostAcquired).Hint("ask again for more")
	}
	if w := q.Wait.AsDuration(); w < 0 || w > mostWait {
		return nil, invalid("bad_wait", "it wants to wait for %s: want 0 to %s", w, mostWait).Hint("ask again when it is over")
	}
	lease, err := leaseOf(q.Lease)
	if err != nil {
		return nil, err
	}
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(q.Client) > 64 || strings.ContainsFunc(q.Client, odd) {
		return nil, invalid("bad_client", "%.100q cannot be the name of a client", q.Client).Hint("use up to 64 bytes of text without line ends and control characters")
	}
	name := q.Client
	if name == "" {
		name = "unnamed"
	}
	return &peerv1.AcquireRequest{Client: dag.ClientPrefix + name, Pool: q.Pool, MaxTasks: max(q.MaxTasks, 1), Lease: durationpb.New(lease)}, nil
}

func leaseOf(d *durationpb.Duration) (time.Duration, error) {
	if d == nil {
		return dag.DefaultClientLease, nil
	}
	if l := d.AsDuration(); l < dag.MinClientLease || l > dag.MaxClientLease {
		return 0, invalid("bad_lease", "a lease of %s: want %s to %s", l, dag.MinClientLease, dag.MaxClientLease).
			Hint("leave it out for %s, and extend it while the task runs", dag.DefaultClientLease)
	}
	return d.AsDuration(), nil
}

// here stands for this node among those that lead.
const here = ""

func (s *Service) leaders() []string {
	all := append(slices.Clone(s.sched.peers.Leaders()), here)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// acquire asks those who lead something, one after the other, until the client has what it wants.
func (s *Service) acquire(ctx context.Context, q *peerv1.AcquireRequest) (attempts []*Attempt) {
	want := q.MaxTasks
	for _, node := range s.leaders() {
		if uint32(len(attempts)) == want || ctx.Err() != nil {
			break
		}
		q := proto.Clone(q).(*peerv1.AcquireRequest)
		q.MaxTasks = want - uint32(len(attempts))
		if node == here {
			attempts = append(attempts, s.sched.acquire(ctx, q)...)
		} else if g, err := s.sched.peers.Acquire(ctx, node, q); err == nil {
			attempts = append(attempts, attemptsFrom(g)...)
		}
	}
	return attempts
}

// await waits until somebody may have something, and tells whether somebody said so.
func (s *Service) await(ctx context.Context, q *peerv1.AwaitTasksRequest) bool {
	ctx, cancel := context.WithTimeout(ctx, q.Wait.AsDuration())
	defer cancel()
	nodes := s.leaders()
	var ready atomic.Bool
	left := make(chan struct{}, len(nodes))
	for _, node := range nodes {
		go func() {
			defer func() { left <- struct{}{} }()
			yes := false
			if node == here {
				yes = s.sched.Await(ctx, q)
			} else {
				yes, _ = s.sched.peers.AwaitTasks(ctx, node, q)
			}
			if yes {
				ready.Store(true)
				cancel()
			}
		}()
	}
	for range nodes {
		<-left
	}
	return ready.Load()
}

// acquired is what a client is told of the tasks it gets. Those whose inputs cannot be read end here.
func (s *Service) acquired(ctx context.Context, attempts []*Attempt, lease *durationpb.Duration) (tasks []*wattlev1.AcquiredTask) {
	room := mostInputs
	for _, a := range attempts {
		t := &wattlev1.AcquiredTask{
			Token: tokenOf(a.ID()), JobId: string(a.Task.Job), Stage: a.Work.Stage.Name, Task: a.Task.Index, Attempt: a.Attempt,
			Params: a.Work.Stage.Params, Lease: lease,
		}
		if d := a.Work.Stage.Timeout; d > 0 {
			t.Timeout = durationpb.New(time.Duration(d))
		}
		var input bytes.Buffer
		err := s.input(ctx, a, func(r io.Reader) error {
			_, err := io.CopyN(&input, r, int64(min(smallInput, room))+1)
			return err
		})
		switch {
		case errors.Is(err, io.EOF):
			t.Input = input.Bytes()
			room -= len(t.Input)
		case err == nil:
			t.InputWithheld = true
		default:
			continue
		}
		tasks = append(tasks, t)
	}
	return tasks
}

// input opens what an attempt reads, for a client. If that fails, so does the attempt, as it would here.
func (s *Service) input(ctx context.Context, a *Attempt, read func(io.Reader) error) error {
	t := &task{Executor: s.reads, a: a, ctx: ctx, work: a.Work}
	in, _, err := t.input()
	if err == nil {
		r := &inputReader{in: in}
		if err = read(r); err == nil || r.err == nil || errors.Is(r.err, io.EOF) { // it is the reader that failed
			return errors.Join(err, t.close())
		}
	}
	_ = t.close() // there is something worse to tell
	o := t.without(external(a.ID()), err)
	s.sched.record(a, o)
	return fault.New(fault.Precondition, "stale_attempt", "the input of task %d of stage %s cannot be read: %w", a.Task.Index, a.Work.Stage.Name, err).
		Hint("acquire another task: this one comes again when its input is there")
}

// inputReader reads an input from its start to its end.
type inputReader struct {
	in  host.Input
	off int64
	err error
}

func (r *inputReader) Read(p []byte) (n int, err error) {
	n, err = r.in.ReadAt(p, r.off)
	r.off += int64(n)
	r.err = err
	return n, err
}

// tokenOf names an attempt to a client.
func tokenOf(id dag.AttemptID) string {
	b, err := proto.Marshal(attemptTo(id))
	if err != nil {
		panic(err) // only text that is not UTF-8 fails
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func parseToken(s string) (id dag.AttemptID, err error) {
	ref := &peerv1.AttemptRef{}
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err == nil {
		err = proto.Unmarshal(b, ref)
	}
	if err == nil && len(ref.ProtoReflect().GetUnknown()) > 0 {
		err = errors.New("there is more in it")
	}
	if err == nil {
		_, err = dag.ParseJobID(ref.Job)
	}
	if err != nil {
		return id, invalid("bad_token", "%.100q is no token of a task", s).Hint("send what AcquireTasks answered, as it is")
	}
	return attemptFrom(ref), nil
}

// work reads what an attempt of a client has to do. One that counts no more is refused.
func (s *Service) work(ctx context.Context, id dag.AttemptID, inputs bool) (*Attempt, error) {
	a := &Attempt{Pick: dag.Pick{Task: id.Task, Generation: id.Generation, Attempt: id.Attempt}}
	err := s.read(ctx, id.Task.Job, func(r machine.Reader) (err error) {
		a.Work, err = dag.ReadClientWork(r, a.Pick, inputs)
		return err
	})
	return a, stale(err)
}

// Input writes the input of an acquired task.
func (s *Service) Input(ctx context.Context, token string, data io.Writer) error {
	id, err := parseToken(token)
	if err != nil {
		return err
	}
	a, err := s.work(ctx, id, true)
	if err != nil {
		return err
	}
	return s.input(ctx, a, func(r io.Reader) error {
		_, err := io.Copy(data, r)
		return err
	})
}

// Extend begins the lease of an acquired task anew.
func (s *Service) Extend(ctx context.Context, q *wattlev1.ExtendTaskRequest) error {
	id, err := parseToken(q.Token)
	if err != nil {
		return err
	}
	lease, err := leaseOf(q.Lease)
	if err != nil {
		return err
	}
	_, err = s.sched.propose(ctx, id.Task.Job, &storev1.JobCommand{Change: &storev1.JobCommand_Extend{Extend: &storev1.Extend{
		Stage: id.Task.Stage, Task: id.Task.Index, Generation: id.Generation, Attempt: id.Attempt, Lease: int64(lease),
	}}})
	return stale(err)
}

// stale says what to do about an attempt that counts no more.
func stale(err error) error {
	if e := fault.As(err); e != nil && e.Reason == "stale_attempt" && e.Help == "" {
		return e.Hint("stop working on it: its lease ended, or it was finished")
	}
	return err
}

// Finish records how an acquired task ended.
func (s *Service) Finish(ctx context.Context, q *wattlev1.FinishTaskRequest) error {
	id, err := parseToken(q.Token)
	if err != nil {
		return err
	}
	f := external(id)
	var out *storev1.Output
	switch o := q.Outcome.(type) {
	case *wattlev1.FinishTaskRequest_Output:
		out, err = s.output(ctx, id, o.Output)
	case *wattlev1.FinishTaskRequest_OutputDigest:
		out, err = s.uploaded(ctx, id, o.OutputDigest)
	case *wattlev1.FinishTaskRequest_Failure:
		f.Outcome = &storev1.Finish_Failed{Failed: &storev1.Failure{
			Reason: "client_error", Message: limitText(o.Failure.GetMessage(), 4<<10), Retryable: !o.Failure.GetPermanent(),
		}}
	case *wattlev1.FinishTaskRequest_Release:
		f = released(id)
	default:
		err = invalid("no_outcome", "it does not say how the task ended").Hint("send one of output, output_digest, failure and release")
	}
	if err != nil {
		return stale(err)
	}
	if out != nil {
		f.Outcome = &storev1.Finish_Completed{Completed: out}
	}
	_, err = s.sched.propose(ctx, id.Task.Job, &storev1.JobCommand{Change: &storev1.JobCommand_Finish{Finish: f}})
	if out != nil && fault.KindOf(err) == fault.Precondition && s.accepted(ctx, id, out) {
		return nil // the answer to the first time was lost
	}
	return stale(err)
}

func (s *Service) accepted(ctx context.Context, id dag.AttemptID, out *storev1.Output) (yes bool) {
	err := s.read(ctx, id.Task.Job, func(r machine.Reader) error {
		yes = dag.Accepted(r, id, out)
		return nil
	})
	return err == nil && yes
}

// output keeps what a client put out: what is large, as a blob.
func (s *Service) output(ctx context.Context, id dag.AttemptID, data []byte) (*storev1.Output, error) {
	if len(data) <= dag.InlineBytes {
		return &storev1.Output{Bytes: &storev1.Bytes{Inline: data, Size: uint64(len(data))}}, nil
	}
	a, err := s.work(ctx, id, false)
	if err != nil {
		return nil, err
	}
	t := &task{Executor: s.reads, a: a, ctx: ctx, work: a.Work}
	sink := t.newBytesSink()
	defer sink.abort()
	if _, err := sink.Write(data); err != nil {
		return nil, err
	}
	return sink.finish(ctx)
}

// uploaded makes an output of bytes that a client uploaded to this node.
func (s *Service) uploaded(ctx context.Context, id dag.AttemptID, name string) (*storev1.Output, error) {
	d, err := digest.Parse(name)
	if err != nil {
		return nil, invalid("bad_digest", "%w", err).Hint("write sha256- and 64 hex digits")
	}
	a, err := s.work(ctx, id, false)
	if err != nil {
		return nil, err
	}
	if err := s.blobs.FinishUpload(ctx, d); err != nil {
		return nil, err
	}
	b, err := s.blobs.Open(ctx, d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if a.Work.Stage.Result {
		s.blobs.Spread(ctx, d)
	}
	return &storev1.Output{Bytes: &storev1.Bytes{Digest: d.String(), Size: uint64(b.Size())}, Node: s.reads.Node}, nil
}

// waiting says what a stage waits for whose tasks could run.
func (s *Service) waiting(st *wattlev1.Stage) string {
	if st.External {
		if st.Running > 0 || st.Completed == st.Tasks {
			return ""
		}
		pool := ""
		if st.Pool != "" {
			pool = " --pool " + st.Pool
		}
		return fmt.Sprintf("no client has a task of it: wattle job work%s -- COMMAND runs them", pool)
	}
	known := s.sched.peers.Pools()
	switch {
	case st.Pool == "" || slices.Contains(known, st.Pool):
		return ""
	case len(known) == 0:
		return fmt.Sprintf("no node of pool %q is known, nor of any other: start one with wattle up --pool %s", st.Pool, st.Pool)
	}
	return fmt.Sprintf("no node of pool %q is known; known pools: %s", st.Pool, strings.Join(known, ", "))
}
