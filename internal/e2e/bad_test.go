package e2e

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// refused checks everything a client learns from an error: a code for programs, a stable word, text for people, and what to do next.
func refused(t testing.TB, what string, err error, code connect.Code, reason, hint string) {
	t.Helper()
	d := client.Detail(err)
	switch {
	case err == nil:
		t.Errorf("%s: no error, want %s", what, reason)
		return
	case d == nil:
		t.Errorf("%s: an error without detail: %v", what, err)
		return
	case connect.CodeOf(err) != code || d.Reason != reason:
		t.Errorf("%s: code %v, reason %s, want %v, %s: %v", what, connect.CodeOf(err), d.Reason, code, reason, err)
	case d.Hint == "" || !strings.Contains(d.Hint, hint):
		t.Errorf("%s: the hint %q does not say %q", what, d.Hint, hint)
	}
	clean(t, what, err.Error()+d.Hint)
}

// clean checks that a text is one for people: no stack traces, no half-formatted values, no paths of the source.
func clean(t testing.TB, what, text string) {
	t.Helper()
	for _, bad := range []string{"goroutine ", "%!", ".go:", "panic:", "<nil>", "runtime error", "0xc0"} {
		if strings.Contains(text, bad) {
			t.Errorf("%s: %q in an error: %s", what, bad, text)
		}
	}
}

// bystander is a service that does nothing wrong; disturbed is what happened to it.
func (n *target) bystander() {
	n.t.Helper()
	n.pushFixture("echo")
	n.complete(n.submit("{name: bystander, stages: [{name: a, function: echo/echo, value: before}]}", nil).Id)
}

// undisturbed checks that the node works as before: what was there is there, no less and no more.
func (n *target) undisturbed(t testing.TB, jobs int, services ...string) {
	t.Helper()
	if got, err := n.Invoke(t.Context(), "echo/echo", []byte("still")); err != nil || string(got) != "still" {
		t.Errorf("the bystander answers %q, %v", got, err)
	}
	res, err := n.Registry.ListServices(t.Context(), connect.NewRequest(&wattlev1.ListServicesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range res.Msg.Services {
		names = append(names, s.Name)
	}
	if got, want := strings.Join(names, " "), strings.Join(append(services, "echo"), " "); len(names) != len(services)+1 {
		t.Errorf("services %s, want %s", got, want)
	}
	all, err := n.Jobs.ListJobs(t.Context(), connect.NewRequest(&wattlev1.ListJobsRequest{Limit: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	if len(all.Msg.Jobs) != jobs+1 {
		t.Errorf("%d jobs, want %d and the bystander's", len(all.Msg.Jobs), jobs)
	}
	b := all.Msg.Jobs[len(all.Msg.Jobs)-1]
	if b.Name != "bystander" || b.State != wattlev1.JobState_JOB_STATE_COMPLETED {
		t.Errorf("the bystander's job: %v", b)
	}
	if got := n.output(t, b.Id, "", -1); got != "before" {
		t.Errorf("the bystander's result: %q", got)
	}
	nodes, err := n.Nodes.ListNodes(t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
	if err != nil || nodes.Msg.Nodes[0].Running != 0 {
		t.Errorf("something still runs: %v, %v", nodes, err)
	}
	get, err := http.Get(n.url("/readyz"))
	if err != nil || get.StatusCode != http.StatusOK {
		t.Errorf("not ready: %v, %v", get, err)
		return
	}
	body(t, get)
}

// trySubmit submits a spec that may be refused here or there.
func (n *target) trySubmit(ctx context.Context, spec string, vars map[string]string) (*wattlev1.Job, error) {
	s, err := dag.ParseSpec([]byte(spec), vars)
	if err != nil {
		return nil, err
	}
	return n.Submit(ctx, s, "")
}
