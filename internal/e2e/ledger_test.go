package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/store"
	"github.com/wattlehq/wattle/testdata"
)

// ledger is what a client was told: each fact under a name, with how to find out whether it still holds.
type ledger struct {
	mu      sync.Mutex
	facts   map[string]fact
	changes int
	// Jobs that may exist, and those seen complete.
	begun, completed int
}

type fact func(ctx context.Context, c *client.Client) error

func newLedger() *ledger { return &ledger{facts: map[string]fact{}} }

func (l *ledger) learn(name string, f fact) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.facts[name] = f
	l.changes++
}

// version counts the changes so far.
func (l *ledger) version() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes
}

// forget must be called before something is asked for that would make a fact untrue.
func (l *ledger) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.facts, name)
	l.changes++
}

func (l *ledger) count(begun, completed int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun += begun
	l.completed += completed
}

// promise is what must hold after a crash at one moment.
type promise struct {
	facts map[string]fact
	// idle says that every job there can be is complete, so that nothing may run.
	idle bool
}

// around returns what was promised before and still is after do ran: a fact that came or went meanwhile may hold or not.
func (l *ledger) around(do func()) promise {
	l.mu.Lock()
	before, completed := maps.Clone(l.facts), l.completed
	l.mu.Unlock()
	do()
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(before, func(name string, _ fact) bool { return l.facts[name] == nil })
	return promise{before, l.begun == completed}
}

// crashConfig is a node that trims and flushes all the time.
func crashConfig(fsys store.FS) node.Config {
	return node.Config{Data: crashData, FS: fsys, Addr: "127.0.0.1:0", Shards: 2, TrimEntries: 8, Slots: 2}
}

const crashData = "/srv/wattle/data"

// lifetime is a node in process whose end is an error, not a failed test.
type lifetime struct {
	*client.Client
	addr string
	stop func() error
	// died ends when the node gives up.
	died context.Context
}

func begin(cfg node.Config) (*lifetime, error) {
	ended := make(chan error, 9)
	told := cfg.Fatal
	died, die := context.WithCancelCause(context.Background())
	cfg.Fatal = func(err error) {
		ended <- err
		if told != nil {
			told(err)
		}
		die(err)
		select {} // must not return; what called it is stuck for good, as a process would be gone
	}
	ctx, cancelRun := context.WithCancel(context.Background())
	cancel := func() {
		// What died is not taken down in good order: a part of it is stuck with what it holds.
		if died.Err() == nil {
			cancelRun()
		}
	}
	opened := make(chan *node.Node, 1)
	go func() {
		cfg.Cache = sharedCache
		n, err := node.New(ctx, cfg)
		if err != nil {
			ended <- err
			return
		}
		opened <- n
		ended <- n.Run(ctx)
	}()
	var n *node.Node
	var ready <-chan struct{}
	for timeout := time.After(time.Minute); ; {
		select {
		case n = <-opened:
			ready = n.Ready()
			continue
		case <-ready:
			c := client.Dial(n.Addr())
			return &lifetime{c, n.Addr(), sync.OnceValue(func() error {
				c.Close()
				cancel()
				return <-ended
			}), died}, nil
		case err := <-ended:
			cancel()
			return nil, errors.Join(errors.New("the node does not start"), err)
		case <-timeout:
			cancel()
			return nil, errors.New("the node is not ready after a minute")
		}
	}
}

// inspect starts a node on what a crash left and tells what of the promise it breaks.
func inspect(fsys store.FS, p promise) (err error) {
	n, err := begin(crashConfig(fsys))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.stop()) }()
	ctx, cancel := context.WithTimeout(n.died, time.Minute)
	defer cancel()
	for _, name := range slices.Sorted(maps.Keys(p.facts)) {
		if err := p.facts[name](ctx, n.Client); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if started, err := scrape(n.addr, "wattle_tasks_started_total"); err != nil || p.idle && started != "0" {
		return fmt.Errorf("attempts started although every job was complete: %s, %w", started, err)
	}
	// A node that came back takes new work.
	if _, _, err := n.Push(ctx, "afterwards", testdata.Wasm("echo"), client.PushOptions{}); err != nil {
		return fmt.Errorf("push after the crash: %w", err)
	}
	return answers("afterwards/echo", "yes")(ctx, n.Client)
}

func scrape(addr, metric string) (string, error) {
	res, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, metric+" "); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", errors.Join(err, errors.New("no metric "+metric))
}

// answers is the fact that a function can be called.
func answers(ref, text string) fact {
	return func(ctx context.Context, c *client.Client) error {
		got, err := c.Invoke(ctx, ref, []byte(text))
		if err == nil && string(got) != text {
			err = fmt.Errorf("answered %q", got)
		}
		return err
	}
}

// refuses is the fact that a call fails for a reason.
func refuses(ref, reason string) fact {
	return func(ctx context.Context, c *client.Client) error {
		if _, err := c.Invoke(ctx, ref, nil); client.Reason(err) != reason {
			return fmt.Errorf("want %s, got %w", reason, err)
		}
		return nil
	}
}

// runs is the fact that a job was taken: it comes to its end by itself, with this result.
func runs(id string, want func([]byte) error) fact {
	return func(ctx context.Context, c *client.Client) error {
		job, err := c.Watch(ctx, id, nil)
		if err != nil {
			return err
		}
		if job.State != wattlev1.JobState_JOB_STATE_COMPLETED {
			return fmt.Errorf("%v: %v", job.State, job.Error)
		}
		var out bytes.Buffer
		if err := c.Result(ctx, id, "", -1, func(*wattlev1.ResultHeader) (io.Writer, error) { return &out, nil }); err != nil {
			return err
		}
		return want(out.Bytes())
	}
}

// stays is the fact that these tasks were seen finished: they are, as they were, and did not run again.
func stays(id string, seen map[string]string) fact {
	return func(ctx context.Context, c *client.Client) error {
		now, err := finished(ctx, c, id)
		if err != nil {
			return err
		}
		for task, record := range seen {
			if now[task] != record {
				return fmt.Errorf("task %s was %s, now it is %q", task, record, now[task])
			}
		}
		return nil
	}
}

// isOver is the fact that a job was seen complete: it is, at once.
func isOver(id string) fact {
	return func(ctx context.Context, c *client.Client) error {
		res, err := c.Jobs.GetJob(ctx, connect.NewRequest(&wattlev1.GetJobRequest{Id: id}))
		if err == nil && res.Msg.Job.State != wattlev1.JobState_JOB_STATE_COMPLETED {
			err = fmt.Errorf("is %v", res.Msg.Job.State)
		}
		return err
	}
}

// finished returns what is recorded of a job's finished tasks. How long an attempt took is as good as its fingerprint.
func finished(ctx context.Context, c *client.Client, id string) (map[string]string, error) {
	res, err := c.Jobs.GetJob(ctx, connect.NewRequest(&wattlev1.GetJobRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, s := range res.Msg.Job.Stages {
		for at := uint32(0); at < s.Tasks; {
			res, err := c.Jobs.ListTasks(ctx, connect.NewRequest(&wattlev1.ListTasksRequest{Id: id, Stage: s.Name, Offset: at}))
			if err != nil {
				return nil, err
			}
			for _, t := range res.Msg.Tasks {
				if at++; t.State == wattlev1.TaskState_TASK_STATE_COMPLETED {
					all[filepath.Join(s.Name, fmt.Sprint(t.Index))] = fmt.Sprintf("generation %d attempt %d %s %d bytes in %s",
						t.Generation, t.Attempt, t.OutputDigest, t.OutputBytes, t.Usage.GetDuration().AsDuration())
				}
			}
			if len(res.Msg.Tasks) == 0 {
				return nil, errors.New("a stage lists fewer tasks than it has")
			}
		}
	}
	return all, nil
}
