package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

const outsideSpec = `
name: outside
stages:
  - {name: first, function: echo/echo, items: [a, b, c, d, e]}
  - {name: outside, external: true, each: first, pool: "${pool}", params: {color: green}}
  - {name: last, function: echo/echo, collect: outside}
`

// acquire gets one task, and waits for it.
func (n *target) acquire(t testing.TB, q *wattlev1.AcquireTasksRequest) *wattlev1.AcquiredTask {
	t.Helper()
	var task *wattlev1.AcquiredTask
	eventually(t, "there is a task", func() bool {
		res, err := n.Jobs.AcquireTasks(t.Context(), connect.NewRequest(q))
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Msg.Tasks) > 0 {
			task = res.Msg.Tasks[0]
		}
		return task != nil
	})
	return task
}

func (n *target) extend(ctx context.Context, token string, lease time.Duration) error {
	_, err := n.Jobs.ExtendTask(ctx, connect.NewRequest(&wattlev1.ExtendTaskRequest{Token: token, Lease: durationpb.New(lease)}))
	return err
}

func (n *target) finish(ctx context.Context, token, output string) error {
	_, err := n.Jobs.FinishTask(ctx, connect.NewRequest(&wattlev1.FinishTaskRequest{Token: token, Outcome: &wattlev1.FinishTaskRequest_Output{Output: []byte(output)}}))
	return err
}

// refused tells that an error of the API has a code and a reason, and says what to do.
func wantRefused(t testing.TB, what string, err error, code connect.Code, reason string) {
	t.Helper()
	if connect.CodeOf(err) != code || client.Reason(err) != reason || client.Hint(err) == "" {
		t.Errorf("%s: %v (%s; %s), want %s, %s with a hint", what, err, client.Reason(err), client.Hint(err), code, reason)
	}
}

// A client runs the middle one of three stages, with inputs and outputs of all sizes, and with failures that are tried again.
func TestExternalStage(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.pushFixture("echo")
		job := n.submit(outsideSpec, map[string]string{"pool": "gpu"})
		eventually(t, "the job says what it waits for", func() bool {
			s := n.get(t, job.Id).Stages[1]
			return s.External && s.Pool == "gpu" && strings.Contains(s.Waiting, "wattle job work --pool gpu")
		})
		if res, err := n.Jobs.AcquireTasks(t.Context(), connect.NewRequest(&wattlev1.AcquireTasksRequest{Pool: "other", MaxTasks: 10})); err != nil || len(res.Msg.Tasks) > 0 {
			t.Fatalf("a client of another pool got %v, %v", res, err)
		}
		large := strings.Repeat("0123456789", 1_000_000) // is uploaded
		second := n.submit(`stages: [{name: s, external: true, value: "`+strings.Repeat("y", 200_000)+`"}]`, nil)
		ctx, stop := context.WithCancel(t.Context())
		var tries atomic.Int32
		var running sync.WaitGroup
		running.Go(func() {
			err := n.Work(ctx, client.WorkOptions{Pool: "gpu", Parallel: 3, Name: "tester"}, func(_ context.Context, x *client.ExternalTask) ([]byte, error) {
				in, err := io.ReadAll(x.Input)
				switch {
				case err != nil:
					return nil, err
				case x.Job == second.Id:
					return append(in, large...), nil
				case x.Params["color"] != "green" || x.Stage != "outside":
					return nil, client.Permanent(fmt.Errorf("a wrong task: %v", x))
				case string(in) == "b" && tries.Add(1) == 1:
					return nil, errors.New("try again")
				}
				return []byte(strings.ToUpper(string(in))), nil
			})
			if err != nil {
				t.Error(err)
			}
		})
		n.complete(job.Id)
		n.complete(second.Id)
		stop()
		running.Wait()
		var got strings.Builder
		for i := range 5 {
			got.WriteString(n.output(t, job.Id, "outside", i))
		}
		if got.String() != "ABCDE" || tries.Load() != 2 {
			t.Errorf("outputs %q after %d tries", got.String(), tries.Load())
		}
		if out := n.output(t, second.Id, "s", 0); out != strings.Repeat("y", 200_000)+large {
			t.Errorf("a large output has %d bytes", len(out))
		}
		b := n.tasks(t, job.Id, "outside")[1]
		if b.Node != "client/tester" || b.Attempt != 2 || len(b.Errors) != 1 || !strings.Contains(b.Errors[0].Message, "try again") {
			t.Errorf("the task that failed once: %v", b)
		}
	})
}

// A client that goes silent loses its task, which runs once more, and can neither extend nor finish it then.
func TestExternalLeaseEnds(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		job := n.submit(`stages: [{name: s, external: true, value: x, retry: {max_attempts: 1}}]`, nil)
		q := &wattlev1.AcquireTasksRequest{Lease: durationpb.New(time.Second), Client: "dying", Wait: durationpb.New(10 * time.Second)}
		first := n.acquire(t, q)
		if s := n.get(t, job.Id).Stages[0]; s.Running != 1 || s.Waiting != "" {
			t.Errorf("while a client has its task: %v", s)
		}
		if x := n.tasks(t, job.Id, "s")[0]; x.State != wattlev1.TaskState_TASK_STATE_RUNNING || x.Node != "client/dying" {
			t.Errorf("the task: %v", x)
		}
		if err := n.extend(t.Context(), first.Token, time.Second); err != nil {
			t.Fatal(err)
		}
		second := n.acquire(t, &wattlev1.AcquireTasksRequest{Client: "heir"})
		if string(second.Input) != "x" || second.Attempt != 2 {
			t.Errorf("the second attempt: %v", second)
		}
		wantRefused(t, "a late extension", n.extend(t.Context(), first.Token, time.Minute), connect.CodeFailedPrecondition, "stale_attempt")
		wantRefused(t, "a late finish", n.finish(t.Context(), first.Token, "late"), connect.CodeFailedPrecondition, "stale_attempt")
		wantRefused(t, "a late finish with much", n.finish(t.Context(), first.Token, strings.Repeat("late", 100_000)), connect.CodeFailedPrecondition, "stale_attempt")
		for range 2 { // the answer may be lost
			if err := n.finish(t.Context(), second.Token, "in time"); err != nil {
				t.Fatal(err)
			}
		}
		wantRefused(t, "another output", n.finish(t.Context(), second.Token, "other"), connect.CodeFailedPrecondition, "job_final")
		n.complete(job.Id)
		if out := n.output(t, job.Id, "s", 0); out != "in time" {
			t.Errorf("output %q", out)
		}
		if e := n.tasks(t, job.Id, "s")[0].Errors; len(e) != 1 || e[0].Reason != "lease_lost" || !strings.Contains(e[0].Message, "client/dying") {
			t.Errorf("errors: %v", e)
		}
	})
}

// A node that stops does not wait for clients that wait for tasks.
func TestStopWhileClientsWait(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		const clients = 5
		errs := make(chan error, clients)
		for range clients {
			go func() {
				_, err := n.Jobs.AcquireTasks(t.Context(), connect.NewRequest(&wattlev1.AcquireTasksRequest{Wait: durationpb.New(time.Minute)}))
				errs <- err
			}()
		}
		// Somebody else is served meanwhile, so that they are on their way.
		job := n.submit(`stages: [{name: s, external: true, pool: other, value: x}]`, nil)
		task := n.acquire(t, &wattlev1.AcquireTasksRequest{Pool: "other"})
		if err := n.finish(t.Context(), task.Token, "done"); err != nil {
			t.Fatal(err)
		}
		n.complete(job.Id)
		n.stop()
		for range clients {
			if err := <-errs; connect.CodeOf(err) != connect.CodeUnavailable {
				t.Errorf("one that waited: %v", err)
			}
		}
	})
}

// Clients get whole files. One that changed since it was planned fails its task as it would in a function, and nobody gets it.
func TestExternalFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	large := strings.Repeat("large file ", 1_000_000)
	for name, text := range map[string]string{"process/a": "a", "process/b": large, "binary/a": "a", "binary/b": large} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	both(t, node.Config{AllowDirs: []string{dir}}, func(t *testing.T, n *target) {
		files := filepath.Join(dir, map[bool]string{false: "process", true: "binary"}[n.bin])
		job := n.submit(`stages: [{name: s, external: true, files: "${dir}", retry: {max_attempts: 1}}]`, map[string]string{"dir": files})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		worked := make(chan error, 1)
		go func() {
			worked <- n.Work(ctx, client.WorkOptions{}, func(_ context.Context, x *client.ExternalTask) ([]byte, error) { return io.ReadAll(x.Input) })
		}()
		n.complete(job.Id)
		stop()
		if err := <-worked; err != nil {
			t.Error(err)
		}
		if a, b := n.output(t, job.Id, "s", 0), n.output(t, job.Id, "s", 1); a != "a" || b != large {
			t.Errorf("%.20q, and %d bytes", a, len(b))
		}
		changed := n.submit(`stages: [{name: s, external: true, files: "${dir}", retry: {max_attempts: 1}}]`, map[string]string{"dir": files})
		if err := os.WriteFile(filepath.Join(files, "a"), []byte("another"), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the job fails", func() bool {
			res, err := n.Jobs.AcquireTasks(t.Context(), connect.NewRequest(&wattlev1.AcquireTasksRequest{MaxTasks: 2}))
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range res.Msg.Tasks {
				if x.Task == 0 {
					t.Error("a client got the task of the file that changed")
				}
			}
			return n.get(t, changed.Id).State == wattlev1.JobState_JOB_STATE_FAILED
		})
		if e := n.get(t, changed.Id).Error; e.Reason != "input_changed" {
			t.Errorf("it failed: %v", e)
		}
	})
}
