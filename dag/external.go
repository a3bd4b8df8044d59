package dag

import (
	"bytes"
	"regexp"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// Bounds of a client's lease.
const (
	MinClientLease     = time.Second
	MaxClientLease     = time.Hour
	DefaultClientLease = 30 * time.Second
)

// acquire records that a client gets an attempt. Each such attempt is recorded before it is handed out, so that every leader knows who has
// what, and those that nobody has had begin as they are.
func (t *transition) acquire(c *storev1.Start, r *storev1.TaskRecord) {
	if t.letGo(c.Stage, r) {
		r.Attempt++ // the client may have got it, although its leader does not know
	}
	r.Term = t.cmd.Term
	r.NotBefore = 0
	r.State = wattlev1.TaskState_TASK_STATE_RUNNING
	r.Client, r.Lease, r.AcquiredAt = c.Client, c.Lease, t.cmd.Time.UnixNano()
	t.stage(c.Stage).Acquired++
	t.setStage(c.Stage)
	t.setTask(c.Stage, c.Task, r)
	t.result.Attempt = r.Attempt
}

// letGo takes an attempt from its client, if one has it.
func (t *transition) letGo(stage uint32, r *storev1.TaskRecord) bool {
	if r.Client == "" {
		return false
	}
	r.Client, r.Lease, r.AcquiredAt = "", 0, 0
	t.stage(stage).Acquired--
	t.setStage(stage)
	return true
}

// giveBack checks that a client has the attempt that ends, and says who that was and how long it took.
func (t *transition) giveBack(c *storev1.Finish, r *storev1.TaskRecord) *fault.Error {
	client, took := r.Client, t.cmd.Time.Sub(time.Unix(0, r.AcquiredAt))
	if !t.letGo(c.Stage, r) {
		return errNotAcquired(c.Task, c.Attempt)
	}
	r.Node = client
	r.Usage = &wattlev1.CallUsage{Duration: durationpb.New(max(took, 0))}
	return nil
}

// extend begins the lease of a client anew.
func (t *transition) extend(c *storev1.Extend) *fault.Error {
	r, err := t.current(c.Stage, c.Task, c.Generation, c.Attempt)
	if err != nil {
		return err
	}
	if r.Client == "" {
		return errNotAcquired(c.Task, c.Attempt)
	}
	if r.Lease != c.Lease {
		r.Lease = c.Lease
		t.setTask(c.Stage, c.Task, r)
	}
	t.effect(Extended{AttemptID{TaskID{t.id, c.Stage, c.Task}, c.Generation, c.Attempt}, time.Duration(c.Lease)})
	return nil
}

func errNotAcquired(task, attempt uint32) *fault.Error {
	return fault.New(fault.Precondition, "stale_attempt", "no client has attempt %d of task %d", attempt, task)
}

// ReadClientWork is Works.Of for an attempt that a client has to have, which goes on while its job is paused; without the inputs unless
// they are asked for.
func ReadClientWork(r machine.Reader, p Pick, inputs bool) (*Work, error) {
	works := ReadWorks(r, p.Task.Job)
	t, err := works.record(p)
	if err != nil {
		return nil, err
	}
	if t.Client == "" {
		return nil, errNotAcquired(p.Task.Index, p.Attempt)
	}
	w := &Work{Stage: works.plan.Stages[p.Task.Stage]}
	if !inputs {
		return w, nil
	}
	return w, w.readInputs(r, p.Task, works.plan)
}

// Accepted tells whether an output is what an attempt is known to have put out: then it was sent twice.
func Accepted(r machine.Reader, id AttemptID, out *storev1.Output) bool {
	t := readTask(r, id.Task.Job, id.Task.Stage, id.Task.Index, 0)
	have, want := t.GetOutput().GetBytes(), out.GetBytes()
	return t.State == wattlev1.TaskState_TASK_STATE_COMPLETED && t.Generation == id.Generation && t.Attempt == id.Attempt &&
		have.GetDigest() == want.GetDigest() && bytes.Equal(have.GetInline(), want.GetInline())
}

var poolName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$`)

// CheckPool checks the name of a worker pool. The error is Invalid "bad_pool".
func CheckPool(name string) *fault.Error {
	if !poolName.MatchString(name) {
		return invalid("bad_pool", "%.80q cannot be the name of a pool", name).
			Hint("use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning and ending with a letter or digit")
	}
	return nil
}
