package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// working is "wattle job work" at work.
type working struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

func (n *target) work(t *testing.T, args ...string) *working {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	w := &working{t: t, cmd: exec.Command(bin, append([]string{"--addr", n.addr, "--output", "json", "job", "work"}, args...)...)}
	w.cmd.Stdout, w.cmd.Stderr = &w.stdout, &w.stderr
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.cmd.Process.Kill() })
	return w
}

// interrupt ends it, once what runs is finished.
func (w *working) interrupt() {
	w.t.Helper()
	if err := w.cmd.Process.Signal(os.Interrupt); err != nil {
		w.t.Fatal(err)
	}
	if err := w.cmd.Wait(); err != nil {
		w.t.Errorf("wattle job work: %v: %s", err, w.stderr.String())
	}
}

// A command runs the tasks of an external stage: input, output, environment and failures are what the manual says.
func TestJobWork(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		dir := t.TempDir()
		job := n.submit(`stages: [{name: s, external: true, pool: shell, items: [a, b, c], params: {color: green}, retry: {backoff: 0.01s}}]`, nil)
		script := `read -r line || true; read -r more || true; if [ "$line$WATTLE_ATTEMPT" = b1 ]; then echo first >&2; echo "not yet" >&2; exit 3; fi
			printf '%s' "$line $WATTLE_JOB $WATTLE_STAGE $WATTLE_TASK $WATTLE_ATTEMPT $WATTLE_PARAMS"`
		w := n.work(t, "--pool", "shell", "--max", "2", "--name", "sh", "--", "sh", "-c", script)
		n.complete(job.Id)
		for i, want := range []string{"a %s s 0 1", "b %s s 1 2", "c %s s 2 1"} {
			if got, want := n.output(t, job.Id, "s", i), fmt.Sprintf(want, job.Id)+` {"color":"green"}`; got != want {
				t.Errorf("output %q, want %q", got, want)
			}
		}
		b := n.tasks(t, job.Id, "s")[1]
		if len(b.Errors) != 1 || b.Errors[0].Message != "not yet" || b.Node != "client/sh" || b.Errors[0].Reason != "client_error" {
			t.Errorf("the task that failed once: %v", b)
		}
		// What runs when it is interrupted is finished; what comes later stays.
		begun, release := filepath.Join(dir, "begun"), filepath.Join(dir, "release")
		last := n.submit(`stages: [{name: s, external: true, pool: slow, value: x}]`, nil)
		slow := n.work(t, "--pool", "slow", "--lease", "1s", "--", "sh", "-c", `: > "$0"; while [ ! -e "$1" ]; do sleep 0.05; done; echo done`, begun, release)
		eventually(t, "the command runs", func() bool { _, err := os.Stat(begun); return err == nil })
		if err := slow.cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		late := n.submit(`stages: [{name: s, external: true, pool: slow, value: x}]`, nil)
		// Longer than the lease, which it goes on to extend.
		eventually(t, "the lease would be over", func() bool {
			x := n.tasks(t, last.Id, "s")[0]
			return time.Since(n.get(t, last.Id).CreatedAt.AsTime()) > 2500*time.Millisecond && x.Attempt == 1 && x.State == wattlev1.TaskState_TASK_STATE_RUNNING
		})
		if err := os.WriteFile(release, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := slow.cmd.Wait(); err != nil {
			t.Errorf("interrupted: %v: %s", err, slow.stderr.String())
		}
		n.complete(last.Id)
		if s := n.get(t, late.Id).Stages[0]; s.Running != 0 || s.Completed != 0 {
			t.Errorf("a task that came after the interrupt: %v", s)
		}
		w.interrupt()
		if !strings.Contains(w.stdout.String(), `"error":"not yet"`) {
			t.Errorf("it said %s", w.stdout.String())
		}
	})
}

// A command whose job is canceled, or whose attempt takes too long, is stopped; one whose job is paused goes on.
func TestJobWorkStops(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		dir := t.TempDir()
		command := func(name string) []string {
			return []string{"--lease", "1s", "--pool", name, "--", "sh", "-c", `echo $$ > "$0.new"; mv "$0.new" "$0"; sleep 600`, filepath.Join(dir, name)}
		}
		alive := func(name string) (pid int) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return 0
			}
			fmt.Sscan(string(b), &pid)
			if syscall.Kill(pid, 0) != nil {
				return 0
			}
			return pid
		}
		canceled := n.submit(`stages: [{name: s, external: true, pool: canceled, value: x}]`, nil)
		n.work(t, command("canceled")...)
		eventually(t, "the command runs", func() bool { return alive("canceled") != 0 })
		if _, err := n.pause(t, canceled.Id); err != nil {
			t.Fatal(err)
		}
		slow := n.submit(`stages: [{name: s, external: true, pool: slow, value: x, timeout: 1s, retry: {max_attempts: 1}}]`, nil)
		n.work(t, command("slow")...)
		failed := n.wait(slow.Id)
		if failed.State != wattlev1.JobState_JOB_STATE_FAILED || failed.Error.Reason != "time_limit" {
			t.Errorf("an attempt that takes too long: %v", failed.Error)
		}
		eventually(t, "the slow command is stopped", func() bool { return alive("slow") == 0 })
		if alive("canceled") == 0 || n.tasks(t, canceled.Id, "s")[0].Attempt != 1 {
			t.Error("a command ended because its job was paused")
		}
		n.cancel(t, canceled.Id)
		eventually(t, "the command is stopped", func() bool { return alive("canceled") == 0 })
	})
}

// Nobody gets a task, or ends one, by a request that cannot be meant.
func TestBadTaskRequests(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.pushFixture("sleep")
		const invalid, precondition = connect.CodeInvalidArgument, connect.CodeFailedPrecondition
		for _, c := range []struct {
			q      *wattlev1.AcquireTasksRequest
			reason string
		}{
			{&wattlev1.AcquireTasksRequest{Pool: "No Pool"}, "bad_pool"},
			{&wattlev1.AcquireTasksRequest{MaxTasks: 1001}, "bad_max_tasks"},
			{&wattlev1.AcquireTasksRequest{Wait: durationpb.New(-1)}, "bad_wait"},
			{&wattlev1.AcquireTasksRequest{Wait: durationpb.New(61 * time.Second)}, "bad_wait"},
			{&wattlev1.AcquireTasksRequest{Lease: durationpb.New(time.Second - 1)}, "bad_lease"},
			{&wattlev1.AcquireTasksRequest{Lease: durationpb.New(time.Hour + 1)}, "bad_lease"},
			{&wattlev1.AcquireTasksRequest{Lease: &durationpb.Duration{Seconds: 1, Nanos: -5}}, "bad_lease"},
			{&wattlev1.AcquireTasksRequest{Client: "two\nlines"}, "bad_client"},
			{&wattlev1.AcquireTasksRequest{Client: strings.Repeat("c", 65)}, "bad_client"},
		} {
			_, err := n.Jobs.AcquireTasks(t.Context(), connect.NewRequest(c.q))
			wantRefused(t, fmt.Sprint(c.q), err, invalid, c.reason)
		}
		job := n.submit(`stages: [{name: s, external: true, value: x}, {name: w, function: sleep/sleep, value: x}]`, nil)
		task := n.acquire(t, &wattlev1.AcquireTasksRequest{})
		n.runs(t, job.Id, 1, 1)
		// A token as the node would make it, of another attempt.
		token := func(job string, stage, task, attempt byte) string {
			b := append([]byte{0x0a, byte(len(job))}, job...)
			return base64.RawURLEncoding.EncodeToString(append(b, 0x10, stage, 0x18, task, 0x28, attempt))
		}
		if err := n.extend(t.Context(), token(job.Id, 0, 0, 1), time.Minute); err != nil {
			t.Fatal("the token of the test is not what it should be:", err)
		}
		for _, c := range []struct {
			name, token, reason string
			code                connect.Code
		}{
			{"none", "", "bad_token", invalid},
			{"garbage", "%%%", "bad_token", invalid},
			{"more", task.Token + "EAE_", "bad_token", invalid},
			{"random", base64.RawURLEncoding.EncodeToString([]byte("nonsense")), "bad_token", invalid},
			{"no job's", token("x", 0, 0, 1), "bad_token", invalid},
			{"an unknown job's", token(strings.Repeat("0", 26), 0, 0, 1), "unknown_job", connect.CodeNotFound},
			{"an unknown stage's", token(job.Id, 9, 0, 1), "unknown_task", connect.CodeNotFound},
			{"an unknown task's", token(job.Id, 0, 9, 1), "unknown_task", connect.CodeNotFound},
			{"a later attempt's", token(job.Id, 0, 0, 2), "stale_attempt", precondition},
			{"a node's attempt's", token(job.Id, 1, 0, 1), "stale_attempt", precondition},
		} {
			for what, err := range map[string]error{
				"extend": n.extend(t.Context(), c.token, time.Minute), "finish": n.finish(t.Context(), c.token, "x"),
				"finish with much": n.finish(t.Context(), c.token, strings.Repeat("x", 100_000)), "input": n.readInput(t, c.token),
			} {
				if connect.CodeOf(err) != c.code || client.Reason(err) != c.reason {
					t.Errorf("%s, the token is %s: %v (%s)", what, c.name, err, client.Reason(err))
				}
			}
		}
		wantRefused(t, "a short lease", n.extend(t.Context(), task.Token, time.Millisecond), invalid, "bad_lease")
		_, err := n.Jobs.FinishTask(t.Context(), connect.NewRequest(&wattlev1.FinishTaskRequest{Token: task.Token}))
		wantRefused(t, "no outcome", err, invalid, "no_outcome")
		_, err = n.Jobs.FinishTask(t.Context(), connect.NewRequest(&wattlev1.FinishTaskRequest{Token: task.Token, Outcome: &wattlev1.FinishTaskRequest_OutputDigest{OutputDigest: "x"}}))
		wantRefused(t, "a bad digest", err, invalid, "bad_digest")
		_, err = n.Jobs.FinishTask(t.Context(), connect.NewRequest(&wattlev1.FinishTaskRequest{
			Token: task.Token, Outcome: &wattlev1.FinishTaskRequest_OutputDigest{OutputDigest: "sha256-" + strings.Repeat("0", 64)},
		}))
		if err == nil || client.Hint(err) == "" {
			t.Errorf("a digest of nothing: %v (%s)", err, client.Hint(err))
		}
		wantRefused(t, "too much output", n.finish(t.Context(), task.Token, strings.Repeat("x", 16<<20+1)), connect.CodeResourceExhausted, "output_limit")
		if err := n.finish(t.Context(), task.Token, strings.Repeat("x", 16<<20)); err != nil {
			t.Error("just enough output:", err)
		}
		if s := n.get(t, job.Id); s.State != wattlev1.JobState_JOB_STATE_RUNNING || s.Stages[0].Completed != 1 || s.Stages[1].Running != 1 {
			t.Errorf("in the end: %v", s)
		}
	})
}

func (n *target) readInput(t testing.TB, token string) error {
	s, err := n.Jobs.ReadTaskInput(t.Context(), connect.NewRequest(&wattlev1.ReadTaskInputRequest{Token: token}))
	if err != nil {
		return err
	}
	defer s.Close()
	for s.Receive() {
	}
	return s.Err()
}
