package sim

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// job is one that a client submits, and what is to come of it.
type job struct {
	id   dag.JobID
	plan *storev1.Plan
	salt uint64
	// volatile functions put out something else in each generation.
	volatile bool
	book
}

// behaviour is what a task's function does.
type behaviour struct {
	fatal    bool
	failures uint32 // in its first attempts
}

func (j *job) hash(t dag.TaskID, more uint64) uint64 {
	return xxhash.Sum64String(fmt.Sprint(j.salt, t.Stage, t.Index, more))
}

func (j *job) behaviour(t dag.TaskID) (b behaviour) {
	h := j.hash(t, 0)
	if h%5 == 0 {
		b.failures = uint32(h / 5 % 3)
	}
	b.fatal = h/100%150 == 0
	return b
}

// value is what a task puts out, which depends on all it reads.
func (j *job) value(t dag.TaskID, generation uint32, inputs []dag.Input) []byte {
	h := xxhash.New()
	if !j.volatile {
		generation = 0
	}
	fmt.Fprint(h, j.hash(t, 1), generation)
	for _, in := range inputs {
		fmt.Fprint(h, in.Task, in.Output.GetBytes().GetDigest())
	}
	return binary.BigEndian.AppendUint64(nil, h.Sum64())
}

// functions resolves the names that plans are made of here.
type functions struct{}

func (functions) ResolveFunction(ref string) (*storev1.PlanFunction, error) {
	kind := map[string]wattlev1.FunctionKind{
		"s/call": wattlev1.FunctionKind_FUNCTION_KIND_CALL, "s/map": wattlev1.FunctionKind_FUNCTION_KIND_MAP, "s/reduce": wattlev1.FunctionKind_FUNCTION_KIND_REDUCE,
	}[ref]
	return &storev1.PlanFunction{Service: "s", Number: 1, Function: ref[2:], Kind: kind}, nil
}

type noBlobs struct{}

func (noBlobs) Put(context.Context, io.Reader) (digest.Digest, int64, error) {
	panic("plans are small here")
}

// newJob draws a job: stages that read each other in all ways there are.
func (w *world) newJob(key string) *job {
	spec := &wattlev1.JobSpec{Name: key}
	if w.chance(6) {
		spec.Timeout = durationpb.New(w.between(time.Second, 20*time.Second))
	}
	if w.chance(3) {
		spec.MaxParallel = uint32(1 + w.rng.IntN(3))
	}
	var calls, maps []string // stages that can be read: outputs, and records
	for i := range 1 + w.rng.IntN(4) {
		s := &wattlev1.StageSpec{
			Name: fmt.Sprintf("s%d", i), Function: "s/call",
			Retry: &wattlev1.RetryPolicy{Backoff: durationpb.New(50 * time.Millisecond), MaxBackoff: durationpb.New(time.Second)},
		}
		pick := func(of []string) string { return of[w.rng.IntN(len(of))] }
		switch kind := w.rng.IntN(4); {
		case kind == 1 && len(calls) > 0:
			s.Input = &wattlev1.StageSpec_Each{Each: &wattlev1.EachInput{Stage: pick(calls)}}
			calls = append(calls, s.Name)
		case kind == 2 && len(calls) > 0:
			s.Function = ""
			s.Input = &wattlev1.StageSpec_Collect{Collect: &wattlev1.CollectInput{Stage: pick(calls)}}
			calls = append(calls, s.Name)
		case kind == 3 && len(maps) > 0:
			s.Function = "s/reduce"
			s.Input = &wattlev1.StageSpec_Reduce{Reduce: &wattlev1.ReduceInput{Stage: maps[0], Partitions: uint32(1 + w.rng.IntN(3))}}
			maps = maps[1:] // the records of a stage are shuffled for one other
			calls = append(calls, s.Name)
		default:
			items := make([]string, 1+w.rng.IntN(5))
			if s.Input = (&wattlev1.StageSpec_Items{Items: &wattlev1.ItemsInput{Items: items}}); w.chance(2) {
				s.Function = "s/map"
				maps = append(maps, s.Name)
			} else {
				calls = append(calls, s.Name)
			}
		}
		if s.Function == "s/call" && w.chance(3) {
			s.Function, s.External = "", true
		}
		if i > 0 && w.chance(4) {
			s.After = []string{fmt.Sprintf("s%d", w.rng.IntN(i))}
		}
		spec.Stages = append(spec.Stages, s)
	}
	plan, err := (&dag.Planner{Resolver: functions{}, Blobs: noBlobs{}, Partitions: func() uint32 { return 2 }}).Plan(context.Background(), spec)
	w.must(err)
	return &job{id: dag.NewJobID(dag.DefaultNamespace, key), plan: plan, salt: w.rng.Uint64(), volatile: w.chance(2), book: book{
		least: map[dag.TaskID]mark{}, outputs: map[dag.TaskID]map[uint32]string{}, sent: map[dag.TaskID]bool{}, begun: map[dag.AttemptID]shard.NodeID{},
	}}
}

// submitter is a client that has one job after the other done.
type submitter struct {
	client
	jobs int
	job  *job
	// then is what it does with the job before it waits for its end.
	then []*storev1.JobCommand
}

func (s *submitter) next() {
	switch {
	case len(s.then) > 0:
		c := s.then[0]
		s.then = s.then[1:]
		s.command(c, s.next)
	case s.job != nil:
		s.watch()
	case s.w.now >= s.w.cfg.Faults:
		s.idle = true
	default:
		s.submit()
	}
}

func (s *submitter) submit() {
	s.jobs++
	s.job = s.w.newJob(fmt.Sprintf("job %d of client %d", s.jobs, s.id))
	s.w.audit.jobs[s.job.id] = s.job
	submit := &storev1.JobCommand{Change: &storev1.JobCommand_Submit{Submit: &storev1.Submit{Plan: s.job.plan}}}
	pause := &storev1.JobCommand{Change: &storev1.JobCommand_Pause{Pause: &storev1.Pause{}}}
	resume := &storev1.JobCommand{Change: &storev1.JobCommand_Resume{Resume: &storev1.Resume{}}}
	cancel := &storev1.JobCommand{Change: &storev1.JobCommand_Cancel{Cancel: &storev1.Cancel{}}}
	switch s.w.rng.IntN(8) {
	case 0:
		s.then = []*storev1.JobCommand{cancel}
		s.job.canceling = true
	case 1:
		s.then = []*storev1.JobCommand{pause, resume}
	case 2:
		// Whoever sends a key again gets the job there is, whatever else it says.
		s.then = []*storev1.JobCommand{{Change: &storev1.JobCommand_Submit{Submit: &storev1.Submit{Plan: s.w.newJob("other").plan}}}}
	}
	s.command(submit, s.next)
}

// command sends one until it is answered.
func (s *submitter) command(c *storev1.JobCommand, next func()) {
	job := s.job
	c.Job = string(job.id)
	body, err := proto.Marshal(c)
	s.w.must(err)
	what := fmt.Sprintf("client %d: %T", s.id, c.Change)
	s.ask(what, next, func(n *node, done func(error)) {
		p := shard.Proposal{Slot: slotOf(job.id), Machine: machine.Jobs, Body: body, Admit: c.GetSubmit() != nil}
		n.drive.Propose(p, func(r machine.Result, err error) {
			if err == nil {
				s.w.audit.answered(job, c, r)
			}
			done(err)
		})
	})
}

// watch looks until the job is over, and now and then deletes it then.
func (s *submitter) watch() {
	job := s.job
	var got *wattlev1.Job
	var broken error
	s.ask(fmt.Sprintf("client %d looks at %s", s.id, job.id), func() {
		if broken != nil {
			s.w.find("job %s was acknowledged: %w", job.id, broken)
		}
		if !dag.Final(got.GetState()) {
			s.w.after(s.w.between(50*time.Millisecond, time.Second), "look again", s.next)
			return
		}
		s.w.audit.over(job, got)
		if s.w.chance(4) {
			s.command(&storev1.JobCommand{Change: &storev1.JobCommand_Delete{Delete: &storev1.Delete{}}}, func() { s.job = nil; s.next() })
			return
		}
		s.job = nil
		s.next()
	}, func(n *node, done func(error)) {
		n.drive.Read(slotOf(job.id), machine.Jobs, func(r machine.Reader) error {
			got, broken = dag.ReadJob(r, job.id)
			return nil
		}, done)
	})
}
