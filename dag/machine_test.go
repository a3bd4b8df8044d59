package dag

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/internal/machine/machinetest"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// TestScenarios runs the scripts in testdata against the state machine. Run with -rewrite to take over what comes out, and
// read the difference before committing it.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata/machine", func(t *testing.T, path string) {
		s := &scenario{tx: &machinetest.Tx{}, id: NewJobID(DefaultNamespace, "k")}
		datadriven.RunTest(t, path, s.run)
	})
}

type scenario struct {
	tx    *machinetest.Tx
	id    JobID
	index uint64
}

func (s *scenario) run(t *testing.T, d *datadriven.TestData) string {
	term, seconds := uint64(1), 0
	d.MaybeScanArgs(t, "term", &term)
	d.MaybeScanArgs(t, "at", &seconds)
	c := &storev1.JobCommand{Job: string(s.id)}
	var stage, task, generation uint32
	attempt := uint32(1)
	d.MaybeScanArgs(t, "stage", &stage)
	d.MaybeScanArgs(t, "task", &task)
	d.MaybeScanArgs(t, "gen", &generation)
	d.MaybeScanArgs(t, "attempt", &attempt)
	var leader uint64
	d.MaybeScanArgs(t, "leader", &leader)
	switch d.Cmd {
	case "submit":
		c.Change = &storev1.JobCommand_Submit{Submit: &storev1.Submit{Plan: parsePlan(t, d)}}
	case "finish":
		f := &storev1.Finish{Stage: stage, Task: task, Generation: generation, Attempt: attempt, External: d.HasArg("external")}
		var ok, fail string
		d.MaybeScanArgs(t, "ok", &ok)
		d.MaybeScanArgs(t, "fail", &fail)
		switch {
		case ok != "":
			out := &storev1.Output{Bytes: &storev1.Bytes{Digest: digest.Of([]byte(ok)).String(), Size: 10}}
			d.MaybeScanArgs(t, "node", &out.Node)
			f.Outcome = &storev1.Finish_Completed{Completed: out}
		case d.HasArg("inline"):
			f.Outcome = &storev1.Finish_Completed{Completed: &storev1.Output{Bytes: &storev1.Bytes{Inline: []byte("x"), Size: 1}, Node: "x"}}
		case d.HasArg("trouble"):
			f.Outcome = &storev1.Finish_Failed{Failed: &storev1.Failure{Reason: "disk_full", Message: "no space", Trouble: true}}
		case fail != "":
			f.Outcome = &storev1.Finish_Failed{Failed: &storev1.Failure{Reason: fail, Message: "it " + fail, Retryable: fail != "final"}}
		default:
			f.Outcome = &storev1.Finish_Released{Released: &storev1.Release{}}
		}
		c.Change = &storev1.JobCommand_Finish{Finish: f}
	case "start":
		c.Change = &storev1.JobCommand_Start{Start: &storev1.Start{Stage: stage, Task: task, Generation: generation, Attempt: attempt, Alone: d.HasArg("alone"), Silent: d.HasArg("silent"), Term: leader}}
	case "acquire":
		var client string
		d.ScanArgs(t, "client", &client)
		c.Change = &storev1.JobCommand_Start{Start: &storev1.Start{
			Stage: stage, Task: task, Generation: generation, Attempt: attempt, Term: leader, Client: client, Lease: int64(30 * time.Second),
		}}
	case "extend":
		c.Change = &storev1.JobCommand_Extend{Extend: &storev1.Extend{Stage: stage, Task: task, Generation: generation, Attempt: attempt, Lease: int64(time.Minute)}}
	case "lose":
		c.Change = &storev1.JobCommand_Lose{Lose: &storev1.Lose{Stage: stage, Task: task, Generation: generation}}
	case "cancel":
		c.Change = &storev1.JobCommand_Cancel{Cancel: &storev1.Cancel{}}
	case "pause":
		c.Change = &storev1.JobCommand_Pause{Pause: &storev1.Pause{}}
	case "unpause":
		c.Change = &storev1.JobCommand_Resume{Resume: &storev1.Resume{}}
	case "expire":
		c.Change = &storev1.JobCommand_Expire{Expire: &storev1.Expire{}}
	case "delete":
		c.Change = &storev1.JobCommand_Delete{Delete: &storev1.Delete{}}
	case "resume":
		return describe(Machine{}.Resume(s.tx))
	case "refs":
		n := 0
		Machine{}.Refs(s.tx, func(digest.Digest, bool) { n++ })
		return fmt.Sprintf("%d\n", n)
	case "show":
		return s.show(t)
	case "keys":
		n := 0
		for range s.tx.Scan(nil, nil) {
			n++
		}
		return fmt.Sprintf("%d\n", n)
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
	body, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	s.index++
	res, effects := s.tx.Apply(Machine{}, machine.Command{Index: s.index, Term: term, Time: epoch.Add(time.Duration(seconds) * time.Second), Body: body})
	if res.Err != nil {
		return fmt.Sprintf("refused: %s: %s\n", res.Err.Reason, strings.ReplaceAll(res.Err.Message, string(s.id), "JOB"))
	}
	var r storev1.JobResult
	if err := proto.Unmarshal(res.Value, &r); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(stateWord(r.Job.State.String()))
	if r.Job.Error != nil {
		fmt.Fprintf(&b, " (%s: %s)", r.Job.Error.Reason, r.Job.Error.Message)
	}
	if r.Attempt != 0 {
		fmt.Fprintf(&b, " attempt %d", r.Attempt)
	}
	b.WriteByte('\n')
	return b.String() + describe(effects)
}

// show prints what readers see of the job: its stages, and how many of their tasks are in which state.
func (s *scenario) show(t *testing.T) string {
	job, err := ReadJob(s.tx, s.id)
	if err != nil {
		return fmt.Sprintf("refused: %s\n", fault.Reason(err))
	}
	var b strings.Builder
	fmt.Fprintln(&b, stateWord(job.State.String()))
	for n, st := range job.Stages {
		tasks, err := ReadTasks(s.tx, s.id, uint32(n), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "  %s: %s %d/%d:", st.Name, stateWord(st.State.String()), st.Completed, st.Tasks)
		if st.External {
			fmt.Fprintf(&b, " %d running:", st.Running)
		}
		counts := map[wattlev1.TaskState]uint32{}
		for _, task := range tasks {
			counts[task.State]++
			fmt.Fprintf(&b, " %s", stateWord(task.State.String()))
			if st.External && task.Node != "" {
				fmt.Fprintf(&b, " (%s)", task.Node)
			}
		}
		b.WriteByte('\n')
		if len(tasks) != int(st.Tasks) || counts[wattlev1.TaskState_TASK_STATE_COMPLETED] != st.Completed {
			t.Errorf("stage %v does not add up with its tasks: %v", st, counts)
		}
		if failed := counts[wattlev1.TaskState_TASK_STATE_DISCARDED] > 0; failed != (st.State == wattlev1.StageState_STAGE_STATE_FAILED) {
			t.Errorf("stage %v: its tasks: %v", st, counts)
		}
	}
	return b.String()
}

func stateWord(s string) string {
	_, word, _ := strings.Cut(s, "STATE_")
	return strings.ToLower(word)
}

func describe(effects []machine.Effect) string {
	var b strings.Builder
	for _, e := range effects {
		switch e := e.(type) {
		case Run:
			fmt.Fprintf(&b, "  run stage %d task %d", e.Task.Stage, e.Task.Index)
			if e.Count > 1 {
				fmt.Fprintf(&b, "..%d", e.Task.Index+e.Count-1)
			}
			fmt.Fprintf(&b, " gen %d attempt %d term %d", e.Generation, e.Attempt, e.Term)
			if !e.NotBefore.IsZero() {
				fmt.Fprintf(&b, " at %s", e.NotBefore.Sub(epoch).Round(10*time.Millisecond))
			}
			if e.Alone {
				b.WriteString(" alone")
			}
			if e.External {
				b.WriteString(" external")
			}
			if h := e.Tenure; h.Client != "" {
				fmt.Fprintf(&b, ", which %s has since %s for %s", h.Client, h.Since.Sub(epoch), h.Lease)
			}
			b.WriteByte('\n')
		case Hold:
			if e.All {
				b.WriteString("  hold all\n")
			} else {
				fmt.Fprintf(&b, "  hold stage %d\n", e.Stage)
			}
		case Stop:
			b.WriteString("  stop\n")
		case Deadline:
			fmt.Fprintf(&b, "  deadline at %s\n", e.At.Sub(epoch))
		case Ended:
			fmt.Fprintf(&b, "  ended stage %d task %d gen %d attempt %d", e.Task.Stage, e.Task.Index, e.Generation, e.Attempt)
			if e.At != "" {
				fmt.Fprintf(&b, ", its output at %s", e.At)
			}
			b.WriteByte('\n')
		case Extended:
			fmt.Fprintf(&b, "  extended stage %d task %d gen %d attempt %d for %s\n", e.Task.Stage, e.Task.Index, e.Generation, e.Attempt, e.Lease)
		case Changed:
		default:
			fmt.Fprintf(&b, "  %T\n", e)
		}
	}
	return b.String()
}

// parsePlan reads a stage a line: NAME tasks=N [reduce=I|each=I|collect=I] [after=I] [attempts=N].
func parsePlan(t *testing.T, d *datadriven.TestData) *storev1.Plan {
	p := &storev1.Plan{Name: "test"}
	timeout := 0
	d.MaybeScanArgs(t, "timeout", &timeout)
	p.Timeout = int64(timeout) * int64(time.Second)
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		if line == "" {
			continue
		}
		f := strings.Fields(line)
		s := &storev1.PlanStage{Name: f[0], Input: storev1.InputKind_INPUT_KIND_ITEMS, Retry: &storev1.Retry{MaxAttempts: 3, Backoff: int64(time.Second), MaxBackoff: int64(time.Minute)}}
		for _, kv := range f[1:] {
			var n uint32
			k, v, _ := strings.Cut(kv, "=")
			if _, err := fmt.Sscan(v, &n); err != nil {
				t.Fatal(err)
			}
			kind := map[string]storev1.InputKind{"reduce": storev1.InputKind_INPUT_KIND_REDUCE, "each": storev1.InputKind_INPUT_KIND_EACH, "collect": storev1.InputKind_INPUT_KIND_COLLECT}[k]
			switch {
			case kind != 0:
				s.Input, s.From, s.After = kind, n, append(s.After, n)
			case k == "external":
				s.External = true
			case k == "after":
				s.After = append(s.After, n)
			case k == "tasks":
				s.Tasks = n
			case k == "attempts":
				s.Retry.MaxAttempts = n
			default:
				t.Fatalf("unknown word %s", kv)
			}
		}
		p.Stages = append(p.Stages, s)
	}
	for i, s := range p.Stages {
		s.Result = true
		for _, o := range p.Stages {
			if reads(o, uint32(i)) {
				s.Result = false
			}
		}
	}
	return p
}
