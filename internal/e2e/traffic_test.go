package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/dag"
	"github.com/wattlehq/wattle/testdata"
)

// traffic are clients of every protocol that call, push and submit at nodes in turn, and go to the next one only where a connection
// was refused. Everything else that goes wrong is a failed call.
type traffic struct {
	t       *testing.T
	addrs   []string
	stop    context.CancelFunc
	wg      sync.WaitGroup
	done    atomic.Int64 // requests that were answered
	refused atomic.Int64

	mu     sync.Mutex
	failed []string
	jobs   []string
	pushed []string
}

// speaker is one client's way to speak with the nodes.
type speaker struct {
	name    string
	clients []*client.Client
	plain   *http.Client // where calls are plain HTTP
}

func over(p func(*http.Protocols)) *http.Client {
	protocols := new(http.Protocols)
	p(protocols)
	return &http.Client{Transport: &http.Transport{Protocols: protocols, MaxIdleConnsPerHost: 4}}
}

// beginTraffic has two clients of each protocol begin.
func beginTraffic(t *testing.T, nodes ...*target) *traffic {
	f := &traffic{t: t}
	for _, n := range nodes {
		f.addrs = append(f.addrs, n.addr)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	t.Cleanup(func() { cancel(); f.wg.Wait() })
	h1 := func(p *http.Protocols) { p.SetHTTP1(true) }
	h2 := func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }
	for i := range 2 {
		f.run(ctx, i, "plain HTTP/1.1", over(h1), true)
		f.run(ctx, i, "Connect over HTTP/1.1", over(h1), false)
		f.run(ctx, i, "Connect over h2c", over(h2), false)
		f.run(ctx, i, "gRPC", over(h2), false, client.WithGRPC())
	}
	return f
}

func (f *traffic) fail(who string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = append(f.failed, fmt.Sprintf("%s %s: %v", time.Now().Format("05.000"), who, err))
}

func (f *traffic) run(ctx context.Context, number int, name string, h *http.Client, plain bool, opts ...client.Option) {
	s := &speaker{name: fmt.Sprint(name, " ", number)}
	if plain {
		s.plain = h
	}
	opts = append(opts, client.WithHTTPClient(h), client.WithRetries(func(err error) { f.fail(s.name+" again", err) }))
	for _, a := range f.addrs {
		s.clients = append(s.clients, client.Dial(a, opts...))
	}
	f.wg.Go(func() {
		defer h.CloseIdleConnections()
		// Not as fast as they can: a connection that is idle for a moment is what a stop has to get right.
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		at := number
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			for try := 0; ; try++ {
				at = (at + 1) % len(f.addrs)
				err := f.ask(context.WithoutCancel(ctx), s, at, i)
				if err == nil {
					f.done.Add(1)
					break
				}
				if !errors.Is(err, syscall.ECONNREFUSED) || try > 100 {
					f.fail(fmt.Sprintf("%s request %d at node %d", s.name, i, at), err)
					break
				}
				f.refused.Add(1)
			}
		}
	})
}

// ask makes one request: mostly a call, sometimes a job, rarely a push.
func (f *traffic) ask(ctx context.Context, s *speaker, at, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	c, text := s.clients[at], fmt.Sprintf("%s %d", s.name, i)
	switch {
	case i%40 == 39:
		service := fmt.Sprintf("s%d-%d", time.Now().UnixNano(), i)
		if _, _, err := c.Push(ctx, service, testdata.Wasm("echo"), client.PushOptions{}); err != nil {
			return fmt.Errorf("push: %w", err)
		}
		f.mu.Lock()
		f.pushed = append(f.pushed, service)
		f.mu.Unlock()
		return nil
	case i%10 == 9:
		spec, err := dag.ParseSpec([]byte("{name: j, stages: [{name: a, function: echo/echo, items: [one, two, three]}]}"), nil)
		if err != nil {
			return err
		}
		job, err := c.Submit(ctx, spec, "")
		if err != nil {
			return fmt.Errorf("submit: %w", err)
		}
		f.mu.Lock()
		f.jobs = append(f.jobs, job.Id)
		f.mu.Unlock()
		return nil
	case s.plain != nil:
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.addrs[at]+"/fn/echo/echo", bytes.NewReader([]byte(text)))
		if err != nil {
			return err
		}
		req.GetBody = nil // its client must not make a request again by itself
		res, err := s.plain.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err == nil && (res.StatusCode != http.StatusOK || string(b) != text) {
			err = fmt.Errorf("status %d: %.200s", res.StatusCode, b)
		}
		return err
	}
	got, err := c.Invoke(ctx, "echo/echo", []byte(text))
	if err == nil && string(got) != text {
		err = fmt.Errorf("answered %q", got)
	}
	return err
}

// flows waits until so many more requests were answered.
func (f *traffic) flows(more int64) {
	f.t.Helper()
	from := f.done.Load()
	eventually(f.t, "requests are answered", func() bool { return f.done.Load() >= from+more })
}

// end stops the clients: none of their requests failed, and everything acknowledged was done, once.
func (f *traffic) end(n *target) {
	f.t.Helper()
	f.stop()
	f.wg.Wait()
	f.t.Logf("%d requests answered, %d connections refused, %d jobs, %d pushes, %d failed", f.done.Load(), f.refused.Load(), len(f.jobs), len(f.pushed), len(f.failed))
	for i, e := range f.failed {
		if i < 20 {
			f.t.Error("failed: ", e)
		}
	}
	if len(f.jobs) == 0 || len(f.pushed) == 0 {
		f.t.Error("nothing was submitted or pushed")
	}
	for _, id := range f.jobs {
		n.complete(id)
		if got := n.output(f.t, id, "a", -1); got != "onetwothree" {
			f.t.Errorf("job %s: %q", id, got)
		}
	}
	for _, s := range f.pushed {
		if got, err := n.Invoke(f.t.Context(), s+"/echo", []byte("x")); err != nil || string(got) != "x" {
			f.t.Errorf("what was pushed as %s: %q, %v", s, got, err)
		}
	}
}
