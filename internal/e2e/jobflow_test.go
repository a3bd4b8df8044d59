package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// Every kind of input hands over what the ABI says, in the order of the tasks.
func TestJobInputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{"b.txt": "bb", "a.txt": "a", "c/d.txt": "ccc"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	long := strings.Repeat("x", 200_000) // becomes a blob
	both(t, node.Config{AllowDirs: []string{dir}}, func(t *testing.T, n *target) {
		n.pushFixture("echo")
		n.pushFixture("context")
		n.pushPlugin("wordcount")
		job := n.complete(n.submit(`
name: inputs
stages:
  - {name: value, function: echo/echo, value: hello}
  - {name: data, function: echo/echo, value: {data: AAEC}}
  - {name: empty, function: echo/echo, value: ""}
  - {name: items, function: echo/echo, items: [one, "", "`+long+`", four]}
  - {name: files, function: echo/echo, files: "${dir}"}
  - {name: each, function: echo/echo, each: items}
  - {name: joined, collect: each}
  - {name: collected, function: echo/echo, collect: files}
  - {name: params, function: context/context, value: x, params: {color: green, "": empty}, after: joined}
  - {name: split, function: wordcount/map, items: [a b, b]}
  - {name: deep, function: wordcount/map, each: joined, after: [params, empty]}
  - {name: sum, function: wordcount/reduce, reduce: {stage: split, partitions: 2}}
  - {name: again, function: wordcount/reduce, reduce: sum}
`, map[string]string{"dir": dir}).Id)
		for stage, want := range map[string]string{
			"value": "hello", "data": "\x00\x01\x02", "empty": "", "items": "one" + long + "four", "each": "one" + long + "four", "joined": "one" + long + "four",
			"files": "a" + "bb" + "ccc",
			// Parts as the ABI describes them: name, offset, header, data.
			"collected": "\x010\x00\x00\x01a" + "\x011\x00\x00\x02bb" + "\x012\x00\x00\x03ccc",
		} {
			if got := n.output(t, job.Id, stage, -1); got != want {
				t.Errorf("%s: %.80q, want %.80q", stage, got, want)
			}
		}
		if got := n.output(t, job.Id, "items", 3); got != "four" {
			t.Errorf("one task: %q", got)
		}
		var ctx struct {
			Job, Stage, Function, Input string
			Task, Attempt, Version      int
			Params                      map[string]string
		}
		if err := json.Unmarshal([]byte(n.output(t, job.Id, "params", 0)), &ctx); err != nil {
			t.Fatal(err)
		}
		if ctx.Job != job.Id || ctx.Stage != "params" || ctx.Attempt != 1 || ctx.Version != 1 || ctx.Input != "bytes" || ctx.Params["color"] != "green" || ctx.Params[""] != "empty" {
			t.Errorf("context: %+v", ctx)
		}
		sameCounts(t, n.counts(job.Id, "again"), map[string]int{"a": 1, "b": 2})
		sameCounts(t, n.counts(job.Id, "deep"), map[string]int{"one" + long + "four": 1})
		for _, s := range job.Stages {
			if s.Completed != s.Tasks || s.Running != 0 || s.Failures != 0 || s.State != wattlev1.StageState_STAGE_STATE_COMPLETED {
				t.Errorf("%v", s)
			}
		}
		err := n.Records(t.Context(), job.Id, "split", func(k, v []byte) error { return nil })
		refused(t, "records that were shuffled", err, connect.CodeFailedPrecondition, "shuffled", "stage")
	})
}

// Neither a job nor a stage runs more tasks at once than it may, and what it may is used.
func TestMaxParallel(t *testing.T) {
	t.Parallel()
	both(t, node.Config{Slots: 8}, func(t *testing.T, n *target) {
		n.pushFixture("sleep")
		n.pushFixture("echo")
		job := n.submit(`
name: bounded
max_parallel: 5
stages:
  - {name: two, function: sleep/sleep, items: [a, b, c, d], max_parallel: 2}
  - {name: rest, function: sleep/sleep, items: [a, b, c, d, e, f, g, h]}
`, nil)
		running := func() [2]uint32 {
			j := n.get(t, job.Id)
			return [2]uint32{j.Stages[0].Running, j.Stages[1].Running}
		}
		eventually(t, "five tasks run", func() bool { r := running(); return r[0]+r[1] == 5 })
		// Other jobs get the slots that are left, and while they do, nothing more of this one starts.
		for range 3 {
			n.complete(n.submit("{name: other, stages: [{name: a, function: echo/echo, items: [a, b, c, d, e, f]}]}", nil).Id)
			if r := running(); r[0] > 2 || r[0]+r[1] != 5 {
				t.Errorf("%v tasks run", r)
			}
		}
		n.cancel(t, job.Id)
		// Freed slots are taken by what waited, still within the bounds.
		naps := n.submit("{name: naps, stages: [{name: nap, function: echo/echo, items: ["+strings.Repeat("x, ", 200)+"x], max_parallel: 3}]}", nil)
		most := uint32(0)
		_, err := n.Watch(t.Context(), naps.Id, func(j *wattlev1.Job) { most = max(most, j.Stages[0].Running) })
		if err != nil || most > 3 {
			t.Errorf("%d ran at once, %v", most, err)
		}
	})
}

// Time limits of attempts and of jobs end what takes too long, and only that.
func TestJobTimeouts(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.bystander()
		n.pushFixture("spin")
		n.pushFixture("sleep")
		for _, fn := range []string{"spin/spin", "sleep/sleep"} {
			job := n.wait(n.submit("{name: t, stages: [{name: a, function: "+fn+", value: x, timeout: 0.05s, retry: {max_attempts: 2, backoff: 0s}}]}", nil).Id)
			if e := job.Error; job.State != wattlev1.JobState_JOB_STATE_FAILED || e.Reason != "time_limit" || e.Attempt != 2 || !strings.Contains(e.Message, "50ms") {
				t.Errorf("%s: %v, %v", fn, job.State, e)
			}
			job = n.wait(n.submit("{name: t, timeout: 0.2s, stages: [{name: a, function: "+fn+", items: [p, q, r]}]}", nil).Id)
			if e := job.Error; job.State != wattlev1.JobState_JOB_STATE_FAILED || e.Reason != "job_timeout" || e.Stage != "" || !strings.Contains(e.Message, "200ms") {
				t.Errorf("%s: %v, %v", fn, job.State, e)
			}
			if took := job.FinalizedAt.AsTime().Sub(job.CreatedAt.AsTime()); took < 200*time.Millisecond || took > 30*time.Second {
				t.Errorf("%s: ended after %v", fn, took)
			}
		}
		eventually(t, "nothing runs", func() bool { return n.idle(t) })
		n.undisturbed(t, 4, "spin", "sleep")
	})
}

// idle tells whether no task runs.
func (n *target) idle(t testing.TB) bool {
	t.Helper()
	res, err := n.Nodes.ListNodes(t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.Nodes[0].Running == 0
}

// Canceling stops even a task that never looks up, and its slot is free for others.
func TestCancel(t *testing.T) {
	t.Parallel()
	both(t, node.Config{Slots: 1}, func(t *testing.T, n *target) {
		n.bystander()
		n.pushFixture("spin")
		n.pushFixture("sleep")
		for _, fn := range []string{"spin/spin", "sleep/sleep"} {
			job := n.submit("{name: c, stages: [{name: a, function: "+fn+", items: [p, q]}, {name: b, function: echo/echo, each: a}]}", nil)
			n.runs(t, job.Id, 0, 1)
			behind := n.submit("{name: behind, stages: [{name: a, function: echo/echo, value: x}]}", nil)
			res, err := n.Jobs.CancelJob(t.Context(), connect.NewRequest(&wattlev1.CancelJobRequest{Id: job.Id}))
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range res.Msg.Job.Stages {
				if s.State != wattlev1.StageState_STAGE_STATE_CANCELED || s.Running != 0 {
					t.Errorf("%s: what was canceled goes on: %v", fn, s)
				}
			}
			n.complete(behind.Id)
			job = n.wait(job.Id)
			if job.State != wattlev1.JobState_JOB_STATE_CANCELED || job.Error != nil || job.FinalizedAt == nil {
				t.Errorf("%s: %v", fn, job)
			}
			for args, want := range map[string]string{
				"job get " + job.Id:                 "a " + strings.Replace(fn, "/", "@1/", 1) + " canceled 0/2 0",
				"job tasks --stage a " + job.Id:     "a/1 canceled 1 ",
				"job graph " + job.Id:               "s1[\"b<br/>canceled 0/2\"]",
				"--output json job get " + job.Id:   `"state":"STAGE_STATE_CANCELED"`,
				"--output json job tasks " + job.Id: `"state":"TASK_STATE_CANCELED"`,
			} {
				out, _, _ := n.wattle("", strings.Fields(args)...)
				if out = strings.Join(strings.Fields(out), " "); !strings.Contains(out, want) || strings.Contains(out, "STATE_PENDING") {
					t.Errorf("wattle %s: %s", args, out)
				}
			}
			n.cancel(t, job.Id) // harmless
			for name, do := range map[string]func() error{
				"pause":  func() error { _, err := n.pause(t, job.Id); return err },
				"resume": func() error { _, err := n.resume(t, job.Id); return err },
			} {
				refused(t, name, do(), connect.CodeFailedPrecondition, "job_final", "wattle job get")
			}
			err = n.Result(t.Context(), job.Id, "", -1, nil)
			refused(t, "result of a canceled job", err, connect.CodeFailedPrecondition, "not_finished", "wattle job get")
		}
		n.undisturbed(t, 4, "spin", "sleep")
	})
}

// A paused job starts nothing, what ran is kept, and it goes on where it was, however often.
func TestPause(t *testing.T) {
	t.Parallel()
	both(t, node.Config{Slots: 2}, func(t *testing.T, n *target) {
		n.pushFixture("nap")
		n.pushFixture("echo")
		items := make([]string, 40)
		for i := range items {
			items[i] = fmt.Sprintf("'2 #%d'", i)
		}
		job := n.submit("{name: p, stages: [{name: a, function: nap/nap, items: ["+strings.Join(items, ", ")+"]}, {name: b, function: echo/echo, each: a}, {name: c, collect: b}]}", nil)
		for range 8 {
			paused, err := n.pause(t, job.Id)
			if client.Reason(err) == "job_final" || err == nil && paused.State == wattlev1.JobState_JOB_STATE_COMPLETED {
				break // it was quicker than this test, or what ran was all that was left
			}
			if err != nil || paused.State != wattlev1.JobState_JOB_STATE_PAUSED {
				t.Fatalf("%v, %v", paused, err)
			}
			eventually(t, "nothing runs", func() bool { return n.idle(t) })
			before := n.metric("wattle_tasks_started_total")
			// A whole other job runs meanwhile.
			n.complete(n.submit("{name: o, stages: [{name: a, function: echo/echo, items: [a, b, c, d]}]}", nil).Id)
			after := n.get(t, job.Id)
			if after.State == wattlev1.JobState_JOB_STATE_COMPLETED {
				break
			}
			// What ended may be recorded a moment later, but nothing can have begun.
			if begun := n.metric("wattle_tasks_started_total") - before; begun != 4 || after.State != wattlev1.JobState_JOB_STATE_PAUSED {
				t.Errorf("%v tasks began beside another job's 4: %v", begun-4, after)
			}
			if resumed, err := n.resume(t, job.Id); err != nil || resumed.State == wattlev1.JobState_JOB_STATE_PAUSED {
				t.Fatalf("%v, %v", resumed, err)
			}
		}
		n.complete(job.Id)
		var want strings.Builder
		for i := range items {
			fmt.Fprintf(&want, "2 #%d", i)
		}
		if got := n.output(t, job.Id, "", -1); got != want.String() {
			t.Errorf("%q", got)
		}
		for _, stage := range []string{"a", "b"} {
			for _, task := range n.tasks(t, job.Id, stage) {
				if task.Attempt != 1 || len(task.Errors) > 0 || task.State != wattlev1.TaskState_TASK_STATE_COMPLETED {
					t.Errorf("%v", task)
				}
			}
		}
	})
}

// Jobs are submitted once, listed, and forgotten when they are over.
func TestJobsOnceListedAndDeleted(t *testing.T) {
	t.Parallel()
	const invalid, notFound, precondition = connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodeFailedPrecondition
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.bystander()
		n.pushFixture("sleep")
		spec := func(fn string) *wattlev1.JobSpec {
			return &wattlev1.JobSpec{Name: fn, Stages: []*wattlev1.StageSpec{{Name: "a", Function: fn, Input: &wattlev1.StageSpec_Value{Value: &wattlev1.ValueInput{Text: "x"}}}}}
		}
		ids := make(chan string, 10)
		for range cap(ids) {
			go func() {
				job, err := n.Submit(t.Context(), spec("sleep/sleep"), "one key")
				if err != nil {
					t.Error(err)
				}
				ids <- job.GetId()
			}()
		}
		id := <-ids
		for range cap(ids) - 1 {
			if other := <-ids; other != id {
				t.Errorf("jobs %s and %s for one key", id, other)
			}
		}
		res, err := n.Jobs.SubmitJob(t.Context(), connect.NewRequest(&wattlev1.SubmitJobRequest{Spec: spec("nobody/any"), IdempotencyKey: "one key"}))
		if err != nil || res.Msg.Created || res.Msg.Job.Id != id || res.Msg.Job.Name != "sleep/sleep" {
			t.Errorf("the same key with another spec: %v, %v", res, err)
		}
		remove := func(id string) error {
			_, err := n.Jobs.DeleteJob(t.Context(), connect.NewRequest(&wattlev1.DeleteJobRequest{Id: id}))
			return err
		}
		refused(t, "delete what runs", remove(id), precondition, "job_running", "wattle job cancel "+id)
		refused(t, "result of what runs", n.Result(t.Context(), id, "", -1, nil), precondition, "not_finished", "wattle job watch")
		refused(t, "result of an unknown stage", n.Result(t.Context(), id, "zz", -1, nil), notFound, "unknown_stage", "a")
		refused(t, "result of an unknown task", n.Result(t.Context(), id, "a", 1, nil), notFound, "unknown_task", "from 0")
		_, err = n.Jobs.ListTasks(t.Context(), connect.NewRequest(&wattlev1.ListTasksRequest{Id: id, Stage: "zz"}))
		refused(t, "tasks of an unknown stage", err, notFound, "unknown_stage", "a")
		second := n.complete(n.submit("{name: second, stages: [{name: a, function: echo/echo, value: z}]}", nil).Id)
		list, err := n.Jobs.ListJobs(t.Context(), connect.NewRequest(&wattlev1.ListJobsRequest{Limit: 2}))
		if err != nil || len(list.Msg.Jobs) != 2 || list.Msg.Jobs[0].Id != second.Id || list.Msg.Jobs[1].Id != id {
			t.Errorf("the newest two: %v, %v", list, err)
		}
		n.cancel(t, id)
		if err := remove(id); err != nil {
			t.Error(err)
		}
		unknown := strings.Repeat("0", 26)
		for _, id := range []string{id, unknown} {
			_, err := n.Jobs.GetJob(t.Context(), connect.NewRequest(&wattlev1.GetJobRequest{Id: id}))
			refused(t, "get", err, notFound, "unknown_job", "wattle job ls")
			_, err = n.Watch(t.Context(), id, nil)
			refused(t, "watch", err, notFound, "unknown_job", "wattle job ls")
			refused(t, "result", n.Result(t.Context(), id, "", -1, nil), notFound, "unknown_job", "wattle job ls")
			refused(t, "delete", remove(id), notFound, "unknown_job", "wattle job ls")
			_, err = n.pause(t, id)
			refused(t, "pause", err, notFound, "unknown_job", "wattle job ls")
		}
		for _, id := range []string{"", "x", unknown[:25], unknown + "0", strings.ToUpper(second.Id), "../../etc"} {
			_, err := n.Jobs.GetJob(t.Context(), connect.NewRequest(&wattlev1.GetJobRequest{Id: id}))
			refused(t, "get "+id, err, invalid, "bad_job_id", "wattle job ls")
		}
		// A key is free again once its job is forgotten.
		if job, err := n.Submit(t.Context(), spec("echo/echo"), "one key"); err != nil || job.Id != id || n.complete(job.Id).Name != "echo/echo" {
			t.Errorf("%v, %v", job, err)
		}
		eventually(t, "nothing runs", func() bool { return n.idle(t) })
		n.undisturbed(t, 2, "sleep")
		tasks := n.tasks(t, second.Id, "")
		if !slices.ContainsFunc(tasks, func(t *wattlev1.Task) bool {
			return t.State == wattlev1.TaskState_TASK_STATE_COMPLETED && t.Usage.Duration.AsDuration() > 0
		}) {
			t.Errorf("%v", tasks)
		}
	})
}
