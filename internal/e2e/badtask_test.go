package e2e

import (
	"fmt"
	"strings"
	"testing"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// What a guest does to a task fails the job with the reason, as often tried as the reason and the stage's policy say.
func TestBadGuestsInJobs(t *testing.T) {
	t.Parallel()
	both(t, node.Config{Slots: 4}, func(t *testing.T, n *target) {
		n.bystander()
		services := n.pushIllMannered()
		jobs := 0
		for _, g := range illMannered {
			for _, traps := range []bool{false, true} {
				attempts := 1
				switch {
				case g.fixture == "fail" && g.function != "odd", g.reason == "time_limit":
					attempts = 3
				case g.reason != "function_error" && traps:
					attempts = 3
				}
				ref := g.fixture + "/" + g.function
				what := fmt.Sprintf("%s, retry_traps %v", ref, traps)
				job := n.wait(n.submit(fmt.Sprintf(`
name: bad
stages:
  - {name: bad, function: %s, items: [x], retry: {max_attempts: 3, backoff: 0.001s, retry_traps: %v}}
  - {name: after, function: echo/echo, each: bad}
`, ref, traps), nil).Id)
				jobs++
				e := job.Error
				if job.State != wattlev1.JobState_JOB_STATE_FAILED || e.GetReason() != g.reason || !strings.Contains(e.GetMessage(), g.text) ||
					e.Stage != "bad" || e.Task != 0 || int(e.Attempt) != attempts {
					t.Errorf("%s: %v, want %s in attempt %d: %v", what, job.State, g.reason, attempts, e)
				}
				task := n.tasks(t, job.Id, "bad")[0]
				if task.State != wattlev1.TaskState_TASK_STATE_DISCARDED || int(task.Attempt) != attempts || len(task.Errors) != attempts || int(job.Stages[0].Failures) != attempts {
					t.Errorf("%s: %v", what, task)
				}
				for i, e := range task.Errors {
					if int(e.Attempt) != i+1 || e.Reason != g.reason || !strings.Contains(e.Message, g.text) || !e.At.IsValid() {
						t.Errorf("%s: attempt %d: %v", what, i+1, e)
					}
					clean(t, what, strings.ReplaceAll(e.Message, "panic: boom", ""))
				}
				if after := n.tasks(t, job.Id, "after")[0]; after.State != wattlev1.TaskState_TASK_STATE_CANCELED || after.Attempt > 1 {
					t.Errorf("%s: the next stage: %v", what, after)
				}
			}
		}
		n.undisturbed(t, jobs, services...)
	})
}

// The pauses between attempts double and are kept.
func TestRetryBackoff(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.pushFixture("fail")
		job := n.wait(n.submit("{name: r, stages: [{name: a, function: fail/fail, value: x, retry: {max_attempts: 4, backoff: 0.1s, max_backoff: 0.2s}}]}", nil).Id)
		errs := n.tasks(t, job.Id, "a")[0].Errors
		if len(errs) != 4 {
			t.Fatalf("%d attempts: %v", len(errs), errs)
		}
		for i, least := range []float64{0.08, 0.16, 0.16} { // a fifth may be missing
			if got := errs[i+1].At.AsTime().Sub(errs[i].At.AsTime()).Seconds(); got < least {
				t.Errorf("%v s between attempts %d and %d, want at least %v", got, i+1, i+2, least)
			}
		}
	})
}
