package dag

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/wattlehq/wattle/internal/machine"
)

func oneShard(JobID) uint32 { return 0 }

// stageRun are the tasks of a stage of job "a", as they were admitted in term 1.
func stageRun(stage, count uint32, pool string, external bool) Run {
	return Run{Task: TaskID{"a", stage, 0}, Count: count, Attempt: 1, Term: 1, Pool: pool, External: external}
}

// Each taker gets what it may run, and waits for nothing else.
func TestQueueTakers(t *testing.T) {
	t.Parallel()
	q := NewQueue()
	for stage, r := range []Run{stageRun(0, 1, "", false), stageRun(1, 2, "gpu", false), stageRun(2, 3, "", true), stageRun(3, 4, "gpu", true)} {
		r.Task.Stage = uint32(stage)
		q.Add(r)
	}
	plain, gpu := Taker{}, Taker{Pools: []string{"eu", "gpu"}}
	client, gpuClient := Taker{External: true}, Taker{Pools: []string{"gpu"}, External: true}
	for _, c := range []struct {
		t      Taker
		stages []uint32
	}{{plain, []uint32{0}}, {gpu, []uint32{1, 1}}, {client, []uint32{2, 2, 2}}, {gpuClient, []uint32{3, 3, 3, 3}}} {
		var got []uint32
		ready := q.Ready(c.t)
		for range ready {
			p, _, ok := q.Next(epoch, c.t)
			if !ok {
				t.Fatalf("%v: %d of %d", c.t, len(got), ready)
			}
			got = append(got, p.Task.Stage)
		}
		if !slices.Equal(got, c.stages) {
			t.Errorf("%v gets tasks of %v, want %v", c.t, got, c.stages)
		}
		if p, _, ok := q.Next(epoch, c.t); ok {
			t.Errorf("%v gets %v beyond what is ready", c.t, p)
		}
	}
}

// What this node keeps for its own slots is only what it may run.
func TestGrantsOfPools(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pool       string
		free, want int
	}{{"gpu", 8, 5}, {"", 8, 1}, {"", 0, 5}, {"other", 0, 0}} {
		d := NewDispatcher(oneShard, "here", nil)
		d.Lead(epoch, 0, 1, []machine.Effect{stageRun(0, 10, c.pool, false)}, nil, nil)
		d.Report(epoch, "n-gpu", Report{Session: 1, Seq: 1, Want: 100, Taker: Taker{RTT: time.Microsecond, Pools: []string{"gpu"}}})
		d.queue.Ended(TaskID{"a", 0, 0}, time.Second)
		if got := len(d.Grants(epoch, c.free)); got != c.want {
			t.Errorf("pool %q, %d slots free: %d granted, want %d", c.pool, c.free, got, c.want)
		}
		if p, _, ok := d.Next(epoch); ok == (c.pool != "") {
			t.Errorf("pool %q: this node gets %v, %v", c.pool, p, ok)
		}
	}
}

// Attempts come back from where they wait only if somebody else may run them.
func TestRecallOfPools(t *testing.T) {
	t.Parallel()
	for _, pool := range []string{"", "gpu"} {
		d := NewDispatcher(oneShard, "here", nil)
		d.Lead(epoch, 0, 1, []machine.Effect{stageRun(0, 2, pool, false)}, nil, nil)
		r := Report{Session: 1, Seq: 1, Want: 2, Taker: Taker{RTT: time.Microsecond, Pools: []string{"gpu"}}}
		d.Report(epoch, "n-gpu", r)
		d.queue.Ended(TaskID{"a", 0, 0}, time.Second)
		r.Want, r.Seq = 0, 2
		for range 2 {
			for _, g := range d.Grants(epoch, 0) {
				d.Granted(epoch, g.To, g.Pick)
				r.Held = append(r.Held, Held{AttemptID: g.ID()})
			}
		}
		d.Report(epoch, "n-gpu", r)
		d.Recall(1)
		if got := len(d.Replies()["n-gpu"].Recalled); got != map[string]int{"": 1, "gpu": 0}[pool] {
			t.Errorf("pool %q: %d of %d recalled", pool, got, len(r.Held))
		}
	}
}

// granted acquires an attempt and has it recorded.
func granted(t *testing.T, d *Dispatcher, now time.Time, lease time.Duration) AttemptID {
	t.Helper()
	gs := d.Acquire(now, "client/c", nil, 1, lease)
	if len(gs) != 1 {
		t.Fatalf("%d grants", len(gs))
	}
	s := gs[0].Start
	if s.GetClient() != "client/c" || s.Lease != int64(lease) {
		t.Fatalf("to be recorded: %v", s)
	}
	p := d.Started(gs[0].Pick, gs[0].Attempt)
	if !d.Granted(now, gs[0].To, p) {
		t.Fatalf("%v is not to go", p)
	}
	return p.ID()
}

func overdue(d *Dispatcher, now time.Time) string {
	d.Expire(now)
	var all []string
	for _, e := range d.Overdue(now) {
		all = append(all, e.Finish.GetFailed().Reason)
	}
	return fmt.Sprint(all)
}

// The lease of a client is as long as it asked for, whatever those of nodes are; when it is over, that is said until it is recorded.
func TestClientLease(t *testing.T) {
	t.Parallel()
	d := NewDispatcher(oneShard, "here", nil)
	run := stageRun(0, 1, "", true)
	run.Timeout = 100 * time.Second
	d.Lead(epoch, 0, 1, []machine.Effect{run}, nil, nil)
	if p, _, ok := d.Next(epoch); ok || d.Ready() > 0 {
		t.Fatalf("this node gets %v", p)
	}
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	id := granted(t, d, epoch, 30*time.Second)
	if handedOut(d.queue, "a", 0) != 1 || d.ReadyFor(nil) != 0 {
		t.Error("it does not count as running")
	}
	for _, step := range []struct {
		at     int
		extend bool
		want   string
	}{{29, false, "[]"}, {29, true, "[]"}, {58, true, "[]"}, {80, true, "[]"}, {99, true, "[]"}, {100, false, "[time_limit]"}, {102, false, "[]"}, {106, false, "[time_limit]"}, {130, false, "[lease_lost]"}} {
		if step.extend {
			d.Applied(at(step.at), []machine.Effect{Extended{id, 30 * time.Second}})
		}
		if got := overdue(d, at(step.at)); got != step.want {
			t.Errorf("at %d: %s, want %s", step.at, got, step.want)
		}
	}
	d.Applied(at(131), []machine.Effect{Ended{AttemptID: id}})
	if got := overdue(d, at(200)); got != "[]" || handedOut(d.queue, "a", 0) != 0 {
		t.Errorf("after its end is recorded: %s", got)
	}
}

// The next leader adopts what clients have, at once and without asking, and lets their leases begin anew; what nobody has may go.
func TestClientLeaseOutlivesLeader(t *testing.T) {
	t.Parallel()
	d := NewDispatcher(oneShard, "here", nil)
	held, free := stageRun(0, 1, "", true), stageRun(0, 1, "", true)
	held.Tenure, free.Task.Index = Tenure{"client/old", time.Minute, epoch.Add(-time.Hour)}, 1
	d.Lead(epoch, 0, 7, []machine.Effect{held, free}, nil, []string{"n-other"})
	if got := d.Acquire(epoch, "client/c", nil, 10, time.Minute); len(got) != 0 {
		t.Fatalf("%v was given before all nodes have said what they have", got)
	}
	d.Report(epoch, "n-other", Report{Session: 1, Seq: 1, Settled: []Led{{0, 7}}})
	gs := d.Acquire(epoch, "client/c", nil, 10, time.Minute)
	if len(gs) != 1 || gs[0].Task.Index != 1 {
		t.Fatalf("given: %v", gs)
	}
	if got := overdue(d, epoch.Add(59*time.Second)); got != "[]" {
		t.Errorf("a minute has not gone by: %s", got)
	}
	if got := overdue(d, epoch.Add(60*time.Second)); got != "[lease_lost]" {
		t.Errorf("after a minute: %s", got)
	}
	d.Refused(gs[0].Pick)
	if handedOut(d.queue, "a", 0) != 1 {
		t.Error("what was refused is still there")
	}
	// Its job is over: there is nothing to tell anybody.
	d.Applied(epoch, []machine.Effect{Stop{"a"}})
	if rs := d.Replies(); len(rs["client/old"].Stale) > 0 || overdue(d, epoch.Add(time.Hour)) != "[]" {
		t.Errorf("left over: %v", rs)
	}
}

// A node that led gives a client a task, leads no more before that is recorded, and leads again when another client has it from the leader
// in between: the start is refused late, and the task is that client's.
func TestClientOfTheLeaderInBetween(t *testing.T) {
	t.Parallel()
	d := NewDispatcher(oneShard, "here", nil)
	run := stageRun(0, 1, "", true)
	d.Lead(epoch, 0, run.Term, []machine.Effect{run}, nil, nil)
	gs := d.Acquire(epoch, "client/slow", nil, 1, time.Second)
	if len(gs) != 1 {
		t.Fatal(gs)
	}
	d.Yield(0)
	run.Term, run.Tenure = 2, Tenure{Client: "client/other", Lease: time.Second, Since: epoch}
	d.Lead(epoch, 0, 3, []machine.Effect{run}, nil, nil)
	d.Refused(gs[0].Pick)
	if gs := d.Acquire(epoch, "client/third", nil, 1, time.Second); len(gs) != 0 {
		t.Fatalf("%v is given to a third", gs)
	}
	if got := overdue(d, epoch.Add(time.Second-1)); got != "[]" {
		t.Errorf("before its end: %s", got)
	}
	if got := overdue(d, epoch.Add(time.Second)); got != "[lease_lost]" {
		t.Errorf("at its end: %s", got)
	}
}
