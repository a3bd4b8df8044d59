package e2e

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// resources are what a process may not take more and more of.
type resources struct {
	goroutines, files int
	heap              uint64
}

func measure(t testing.TB) resources {
	t.Helper()
	runtime.GC()
	runtime.GC() // what the first one found unreachable may have had finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("open files can be counted on Linux only")
	}
	return resources{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}

// churn makes calls and jobs, some of which fail, from several clients at once.
func (n *target) churn(t testing.TB, calls, jobs int) {
	t.Helper()
	const clients = 8
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for i := c; i < calls; i += clients {
				ref, want := "echo/echo", ""
				switch i % 20 {
				case 7:
					ref, want = "fail/fail", "function_error"
				case 13:
					ref, want = "unreachable/oob", "trap"
				case 19:
					ref, want = "nobody/any", "unknown_service"
				}
				got, err := n.Invoke(t.Context(), ref, []byte("hello"))
				if client.Reason(err) != want || want == "" && string(got) != "hello" {
					t.Errorf("%s: %q, %v", ref, got, err)
				}
			}
			for i := c; i < jobs; i += clients {
				fn, want := "echo/echo", wattlev1.JobState_JOB_STATE_COMPLETED
				if i%10 == 9 {
					fn, want = "fail/fail", wattlev1.JobState_JOB_STATE_FAILED
				}
				job := n.submit("{name: small, stages: [{name: a, function: "+fn+", items: [one, two], retry: {max_attempts: 2, backoff: 0s}}, {name: b, collect: a}]}", nil)
				// Not every client that watches waits for the end.
				if i%3 == 0 {
					stream, err := n.Jobs.WatchJob(t.Context(), connect.NewRequest(&wattlev1.WatchJobRequest{Id: job.Id}))
					if err != nil {
						t.Error(err)
						return
					}
					stream.Receive()
					stream.Close()
				}
				if job, err := n.Watch(t.Context(), job.Id, nil); err != nil || job.State != want {
					t.Errorf("%v, %v", job, err)
				}
				if _, err := n.Jobs.DeleteJob(t.Context(), connect.NewRequest(&wattlev1.DeleteJobRequest{Id: job.Id})); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Thousands of calls and jobs leave nothing behind in the process. It runs by itself, since it counts what the process has.
func TestLeaks(t *testing.T) {
	calls, jobs := 10_000, 1000
	if testing.Short() {
		calls, jobs = 2000, 100
	}
	n := inProcess(t, node.Config{Slots: 2, CollectInterval: 100 * time.Millisecond, PinTTL: 100 * time.Millisecond, TrimEntries: 20, Shards: 8})
	for _, f := range []string{"echo", "fail", "unreachable"} {
		n.pushFixture(f)
	}
	// Everything that is made once and kept, such as compiled modules, connections, the store's own caches and pools, is there after this.
	n.churn(t, calls/5, jobs/5)
	before := measure(t)
	n.churn(t, calls, jobs)
	eventually(t, "nothing runs", func() bool { return n.idle(t) })
	var after resources
	var stacks string
	// A closed connection's goroutines end a moment after the answer; the store's flushes and the collection go on by themselves.
	settled := func() bool {
		after = measure(t)
		// Goroutines: those of the store's compactions and of HTTP connections come and go. Files: the store has a few more or fewer
		// tables. Heap: the store's memtable is not on the heap; calls that each kept 300 bytes would be seen.
		return after.goroutines <= before.goroutines+8 && after.files <= before.files+8 && after.heap <= before.heap+3<<20
	}
	deadline := time.Now().Add(15 * time.Second)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !settled() {
		if time.Now().After(deadline) {
			b := make([]byte, 1<<20)
			stacks = string(b[:runtime.Stack(b, true)])
			break
		}
		<-tick.C
	}
	t.Logf("before %+v, after %+v", before, after)
	if stacks != "" {
		t.Errorf("before %+v, after %+v\n%s", before, after, summary(stacks))
	}
}

// summary counts goroutines by where they were made.
func summary(stacks string) string {
	count := map[string]int{}
	for _, s := range strings.Split(stacks, "\n\n") {
		_, made, _ := strings.Cut(s, "created by ")
		made, _, _ = strings.Cut(made, " in goroutine")
		count[made]++
	}
	var b strings.Builder
	for made, n := range count {
		fmt.Fprintf(&b, "%4d %s\n", n, made)
	}
	return b.String()
}
