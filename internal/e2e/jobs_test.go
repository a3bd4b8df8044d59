package e2e

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// output reads what a stage put out, of all its tasks or of one.
func (n *target) output(t testing.TB, id, stage string, task int) string {
	t.Helper()
	var b bytes.Buffer
	if err := n.Result(t.Context(), id, stage, task, func(*wattlev1.ResultHeader) (io.Writer, error) { return &b, nil }); err != nil {
		t.Fatalf("result of %s: %v", stage, err)
	}
	return b.String()
}

// eventually waits for what comes by itself, and fails the test when it does not.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	eventuallyWithin(t, time.Minute, what, is)
}

func eventuallyWithin(t testing.TB, limit time.Duration, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	late := time.After(limit)
	for !is() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("never happened: " + what)
		}
	}
}

func (n *target) get(t testing.TB, id string) *wattlev1.Job {
	t.Helper()
	res, err := n.Jobs.GetJob(t.Context(), connect.NewRequest(&wattlev1.GetJobRequest{Id: id}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.Job
}

func (n *target) cancel(t testing.TB, id string) {
	t.Helper()
	if _, err := n.Jobs.CancelJob(t.Context(), connect.NewRequest(&wattlev1.CancelJobRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
}

func (n *target) pause(t testing.TB, id string) (*wattlev1.Job, error) {
	res, err := n.Jobs.PauseJob(t.Context(), connect.NewRequest(&wattlev1.PauseJobRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Job, nil
}

func (n *target) resume(t testing.TB, id string) (*wattlev1.Job, error) {
	res, err := n.Jobs.ResumeJob(t.Context(), connect.NewRequest(&wattlev1.ResumeJobRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Job, nil
}

// runs waits until so many tasks of a job's stage run.
func (n *target) runs(t testing.TB, id string, stage int, tasks uint32) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d tasks run", tasks), func() bool { return n.get(t, id).Stages[stage].Running == tasks })
}

// hog takes a slot with a task that sleeps, so that on a node with one slot nothing else starts until it is released. It needs the
// fixture sleep.
func (n *target) hog(t testing.TB) (release func()) {
	t.Helper()
	job := n.submit("{name: hog, stages: [{name: hog, function: sleep/sleep, value: x}]}", nil)
	n.runs(t, job.Id, 0, 1)
	return func() { n.cancel(t, job.Id) }
}

func (n *target) tasks(t testing.TB, id, stage string) []*wattlev1.Task {
	t.Helper()
	res, err := n.Jobs.ListTasks(t.Context(), connect.NewRequest(&wattlev1.ListTasksRequest{Id: id, Stage: stage}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.Tasks
}
