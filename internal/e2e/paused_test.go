package e2e

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// A node that is paused for longer than a lease is replaced. When it wakes it does nothing any more of what it had begun: its task,
// which makes two requests, was stopped between them, and makes no second one.
func TestPausedNodeDoesNoHarm(t *testing.T) {
	t.Parallel()
	for name, led := range map[string]bool{"that leads": true, "that helps": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			begun, goOn := make(chan struct{}), make(chan struct{})
			web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) == 1 {
					close(begun)
					<-goOn
				}
			}))
			t.Cleanup(web.Close)
			c := newTrio(t, asBinary, node.Config{Shards: 1, Slots: 2})
			leader := c.nodes[c.leads(t)]
			leader.push("twice", testdata.Wasm("asktwice"), client.PushOptions{Capabilities: &wattlev1.Capabilities{
				Http: []*wattlev1.HTTPGrant{{Host: strings.TrimPrefix(web.URL, "http://"), Private: true}},
			}})
			leader.pushFixture("nap")
			if !led {
				// It has no slot free, so another node takes the task.
				t.Cleanup(leader.kill) // it need not wait for them
				leader.submit(naps(2, time.Minute), nil)
				eventually(t, "the leader is busy", func() bool { return leader.metric("wattle_tasks_running") == 2 })
			}
			item, err := json.Marshal("\x07" + withHead(`{"url":"`+web.URL+`"}`, ""))
			if err != nil {
				t.Fatal(err)
			}
			job := leader.submit(`{name: twice, stages: [{name: ask, function: twice/ask, items: [`+string(item)+`]}]}`, nil)
			eventually(t, "the first request", func() bool {
				select {
				case <-begun:
					return true
				default:
				}
				if now := leader.get(t, job.Id); now.State != wattlev1.JobState_JOB_STATE_RUNNING {
					t.Fatal(now)
				}
				return false
			})
			at := slices.IndexFunc(c.nodes[:], func(n *target) bool { return n.metric("wattle_tasks_running") == 1 })
			if at < 0 || (c.nodes[at] == leader) != led {
				t.Fatalf("it runs on %d", at)
			}
			paused, other := c.nodes[at], c.nodes[(at+1)%3]
			if err := paused.signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = paused.signal(syscall.SIGCONT) })
			other.complete(job.Id)
			if n := requests.Load(); n != 3 {
				t.Errorf("%d requests, want one of the attempt that hangs and two of the next", n)
			}
			close(goOn)
			if err := paused.signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it has stopped what counts no more", func() bool { return paused.metric("wattle_tasks_running") == 0 })
			if n := requests.Load(); n != 3 {
				t.Errorf("%d requests: it went on when it woke", n)
			}
		})
	}
}
