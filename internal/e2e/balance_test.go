package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
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

// id is the node's.
func (n *target) id() string {
	n.t.Helper()
	res, err := n.Nodes.Ping(n.t.Context(), connect.NewRequest(&wattlev1.PingRequest{}))
	if err != nil {
		n.t.Fatal(err)
	}
	return res.Msg.NodeId
}

// ranOn calls echo, and tells which node ran it.
func (n *target) ranOn(key string) (string, error) { return n.ranOnWithin(n.t.Context(), key) }

func (n *target) ranOnWithin(ctx context.Context, key string) (string, error) {
	res, err := n.Functions.Invoke(ctx, connect.NewRequest(&wattlev1.InvokeRequest{
		Service: "echo", Function: "echo", Payload: []byte(key), BalanceKey: key,
	}))
	if err != nil {
		return "", err
	}
	if got := string(res.Msg.Payload); got != key {
		return "", fmt.Errorf("got %q, want %q", got, key)
	}
	return res.Msg.Node, nil
}

// balance sets it at one node, and waits until all know.
func (c *trio) balance(at *target, args ...string) {
	c.t.Helper()
	out, stderr, status := at.wattle("", append([]string{"service", "balance", "echo"}, args...)...)
	if status != 0 {
		c.t.Fatalf("service balance %v: %d %s", args, status, stderr)
	}
	_, want, _ := strings.Cut(strings.TrimSpace(out), ": ")
	for _, n := range c.nodes {
		eventually(c.t, "every node knows of the balance", func() bool {
			out, _, _ := n.wattle("", "service", "get", "echo")
			return strings.Contains(out, want+"\n")
		})
	}
}

// The nodes that a service's balance names run its calls, whichever node is called; and where those are away, the others do, down to
// the last, which has no quorum any more.
func TestBalance(t *testing.T) {
	t.Parallel()
	clusters(t, node.Config{}, func(c *trio) {
		t := c.t
		c.nodes[0].pushFixture("echo")
		ids := map[string]int{}
		for i, n := range c.nodes {
			c.call(n, "hello")
			ids[n.id()] = i
			if on, err := n.ranOn(""); err != nil || on != n.id() {
				t.Errorf("by default %s had %s run a call: %v", n.id(), on, err)
			}
		}
		second := c.nodes[1].id()
		c.balance(c.nodes[0], "--mode", "random", "--weight", second+"=5", "--weight", c.nodes[0].id()+"=0", "--weight", c.nodes[2].id()+"=0")
		for _, n := range c.nodes {
			eventually(t, "the only node with a weight runs it", func() bool { on, err := n.ranOn("x"); return err == nil && on == second })
		}
		for _, mode := range []string{"round-robin", "least-active"} {
			c.balance(c.nodes[1], "--mode", mode)
			seen := map[string]bool{}
			eventually(t, mode+" uses all nodes", func() bool {
				on, err := c.nodes[2].ranOn("x")
				seen[on] = err == nil
				return len(seen) == 3
			})
		}
		c.balance(c.nodes[2], "--mode", "hash")
		at := map[string]string{} // by key
		used := map[string]bool{}
		for i := range 30 {
			key := fmt.Sprint("key ", i)
			at[key], _ = c.nodes[0].ranOn(key)
			used[at[key]] = true
			for _, n := range c.nodes {
				if on, err := n.ranOn(key); err != nil || on != at[key] {
					t.Errorf("%s: at %s by one node, at %s by another: %v", key, at[key], on, err)
				}
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.nodes[1].url("/fn/echo/echo"), strings.NewReader(key))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Wattle-Balance-Key", key)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if got := body(t, res); got != key || res.Header.Get("Wattle-Node") != at[key] {
				t.Errorf("%s over HTTP: %q from %s, want %s", key, got, res.Header.Get("Wattle-Node"), at[key])
			}
		}
		if len(used) != 3 {
			t.Errorf("30 keys are on %d nodes", len(used))
		}
		if out, stderr, status := c.nodes[0].wattle("", "--output", "json", "call", "echo/echo", "--data", "x", "--key", "key 1"); status != 0 || !strings.Contains(out, at["key 1"]) {
			t.Errorf("wattle call --key: %s %s, want %s", out, stderr, at["key 1"])
		}
		c.nodes[0].kill()
		c.nodes[1].kill()
		last := c.nodes[2]
		for key, before := range at {
			on, err := last.ranOn(key)
			if err != nil || on != last.id() {
				t.Errorf("%s, which %s ran before: on %s, %v", key, before, on, err)
			}
		}
		if on, err := last.ranOn(""); err != nil || on != last.id() {
			t.Errorf("alone: on %s, %v", on, err)
		}
	})
}

// What was just pushed to one node is callable at all of them, in whatever language it was written.
func TestCallableEverywhere(t *testing.T) {
	t.Parallel()
	clusters(t, node.Config{}, func(c *trio) {
		c.nodes[2].pushPlugin("echo")
		if _, err := c.nodes[2].ranOn("at once"); err != nil {
			c.t.Error("where it was pushed:", err)
		}
		for _, n := range c.nodes {
			c.call(n, "one")
		}
		c.nodes[1].pushFixture("echo")
		for i, n := range c.nodes {
			eventually(c.t, "the newest answers", func() bool {
				got, err := n.Functions.Invoke(c.t.Context(), connect.NewRequest(&wattlev1.InvokeRequest{Service: "echo", Function: "echo", Payload: []byte{byte(i)}}))
				return err == nil && got.Msg.Version == 2
			})
		}
	})
}

// A node that has as many calls under way as it may refuses more at once, says when to come back, and takes them again later.
func TestOverload(t *testing.T) {
	t.Parallel()
	both(t, node.Config{MaxCalls: 2}, func(t *testing.T, n *target) {
		n.pushFixture("sleep")
		n.pushFixture("echo")
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan struct{})
		for range 2 {
			go func() {
				_, _ = n.Functions.Invoke(ctx, connect.NewRequest(&wattlev1.InvokeRequest{Service: "sleep", Function: "sleep", Timeout: durationpb.New(0)}))
				done <- struct{}{}
			}()
		}
		eventually(t, "two calls are under way", func() bool { return n.metric("wattle_calls_under_way") == 2 })
		_, err := n.Invoke(t.Context(), "echo/echo", nil)
		if connect.CodeOf(err) != connect.CodeResourceExhausted || client.Reason(err) != "overloaded" || client.Hint(err) == "" || client.Detail(err).Fields["retry_after_ms"] == "" {
			t.Errorf("%v, %v", err, client.Detail(err))
		}
		res, err := http.Post(n.url("/fn/echo/echo"), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); res.StatusCode != http.StatusTooManyRequests || err != nil || s < 1 || !strings.Contains(body(t, res), "--max-calls") {
			t.Errorf("HTTP: %s, %v", res.Status, res.Header)
		}
		if out, _, status := n.wattle("", "node", "ls"); status != 0 || !strings.Contains(out, "2/2") {
			t.Errorf("node ls:\n%s", out)
		}
		if got := n.metric("wattle_calls_refused_total"); got != 2 {
			t.Errorf("%v calls refused", got)
		}
		cancel()
		<-done
		<-done
		eventually(t, "calls are taken again", func() bool { _, err := n.Invoke(t.Context(), "echo/echo", nil); return err == nil })
	})
}

// A balance that makes no sense is refused with a reason.
func TestBadBalance(t *testing.T) {
	t.Parallel()
	n := inProcess(t, node.Config{})
	n.pushFixture("echo")
	for args, want := range map[string]struct {
		status int
		says   string
	}{
		"echo":                               {2, "--mode"},
		"echo --mode always":                 {2, "least-active"},
		"echo --mode random --weight x":      {2, "NODE=N"},
		"echo --mode random --weight x=-1":   {2, "NODE=N"},
		"echo --mode random --weight nope=1": {1, "wattle node ls"},
		"echo --mode local --weight nope=1":  {1, "random or least-active"},
		"echo --mode hash --weight nope=2":   {1, "weight 0"},
		"nobody --mode hash":                 {1, "wattle service ls"},
	} {
		if _, stderr, status := n.wattle("", append([]string{"service", "balance"}, strings.Fields(args)...)...); status != want.status || !strings.Contains(stderr, want.says) {
			t.Errorf("%s: status %d: %s", args, status, stderr)
		}
	}
	_, err := n.Registry.SetBalance(t.Context(), connect.NewRequest(&wattlev1.SetBalanceRequest{Service: "echo"}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument || client.Reason(err) != "bad_balance" {
		t.Error(err)
	}
}

// A node that stops finishes what it runs for others.
func TestStopFinishes(t *testing.T) {
	t.Parallel()
	clusters(t, node.Config{}, func(c *trio) {
		t, a, b := c.t, c.nodes[0], c.nodes[1]
		a.pushFixture("echo")
		a.pushFixture("nap")
		for _, n := range c.nodes {
			c.call(n, "hello")
			eventually(t, "nap answers", func() bool {
				got, err := n.Invoke(t.Context(), "nap/nap", []byte("0"))
				return err == nil && string(got) == "0"
			})
		}
		_, stderr, status := a.wattle("", "service", "balance", "nap", "--mode", "random", "--weight", b.id()+"=1", "--weight", a.id()+"=0", "--weight", c.nodes[2].id()+"=0")
		if status != 0 {
			t.Fatal(stderr)
		}
		before, want := b.metric("wattle_calls_received_total"), b.id()
		done := make(chan error, 1)
		go func() {
			res, err := a.Functions.Invoke(t.Context(), connect.NewRequest(&wattlev1.InvokeRequest{Service: "nap", Function: "nap", Payload: []byte("1500")}))
			if err == nil && res.Msg.Node != want {
				err = fmt.Errorf("it ran on %s, not on %s", res.Msg.Node, want)
			}
			done <- err
		}()
		eventually(t, "the other node runs the call", func() bool { return b.metric("wattle_calls_received_total") > before })
		b.stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A node that hangs does not take the calls that it was to run with it.
func TestFrozenNode(t *testing.T) {
	t.Parallel()
	c := newTrio(t, asBinary, node.Config{Shards: 8})
	c.nodes[0].pushFixture("echo")
	for _, n := range c.nodes {
		c.call(n, "hello")
	}
	c.balance(c.nodes[0], "--mode", "hash")
	frozen, id := c.nodes[2], c.nodes[2].id()
	key := ""
	eventually(t, "a key of the node that will hang", func() bool {
		key += "k"
		on, err := c.nodes[0].ranOn(key)
		return err == nil && on == id
	})
	if err := frozen.signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = frozen.signal(syscall.SIGCONT) })
	// What it was sent in the moment before is lost to it.
	eventually(t, "another node runs it", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		on, err := c.nodes[0].ranOnWithin(ctx, key)
		return err == nil && on != id
	})
	for range 100 {
		if on, err := c.nodes[0].ranOn(key); err != nil || on == id {
			t.Errorf("on %s, %v", on, err)
		}
	}
	if err := frozen.signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has its key again", func() bool { on, err := c.nodes[0].ranOn(key); return err == nil && on == id })
}
