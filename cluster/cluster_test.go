package cluster

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testNode is a Cluster that runs.
type testNode struct {
	*Cluster
	changes chan Member
	heard   chan string
	stop    func()
}

func run(t *testing.T, id string, tune func(*Config)) *testNode {
	t.Helper()
	n := &testNode{changes: make(chan Member, 1000), heard: make(chan string, 1000)}
	cfg := Config{
		ID: "c-test", Self: Member{ID: id, API: ":7070", Peer: "192.0.2.1:7072", Zone: "z-" + id, Version: "1", Pools: []string{"gpu", id}}, Quick: true,
		Bind:    netip.MustParseAddrPort("127.0.0.1:0"),
		Changed: func(m Member) { n.changes <- m },
		Heard:   func(topic string, body []byte) { n.heard <- topic + " " + string(body) },
	}
	if tune != nil {
		tune(&cfg)
	}
	n.Cluster = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(n.stop)
	select {
	case <-n.Ready():
	case <-t.Context().Done():
		t.Fatal("not ready")
	}
	n.wait(t, id, Alive)
	return n
}

// wait waits until the node sees a member in a status.
func (n *testNode) wait(t *testing.T, id string, s Status) Member {
	t.Helper()
	for {
		if m, ok := n.Member(id); ok && m.Status == s {
			return m
		}
		select {
		case <-n.changes:
		case <-t.Context().Done():
			t.Fatalf("%s does not see %s %s: %v", n.cfg.Self.ID, id, s, n.Members())
		}
	}
}

func (n *testNode) gossip() string {
	m, _ := n.Member(n.cfg.Self.ID)
	return m.Gossip
}

func joins(others ...*testNode) func(*Config) {
	return func(c *Config) {
		for _, o := range others {
			c.Join = append(c.Join, o.gossip())
		}
	}
}

func TestJoinFailLeave(t *testing.T) {
	t.Parallel()
	a := run(t, "a", nil)
	b := run(t, "b", joins(a))
	c := run(t, "c", joins(b))
	for _, n := range []*testNode{a, b, c} {
		for _, id := range []string{"a", "b", "c"} {
			m := n.wait(t, id, Alive)
			if m.API != "127.0.0.1:7070" || m.Peer != "192.0.2.1:7072" || m.Zone != "z-"+id || m.Version != "1" || !slices.Equal(m.Pools, []string{"gpu", id}) || m.Since.IsZero() {
				t.Errorf("%s sees %+v", n.cfg.Self.ID, m)
			}
		}
	}
	if err := b.Tell("registry", []byte("7")); err != nil {
		t.Error(err)
	}
	for _, n := range []*testNode{a, b, c} {
		if got := <-n.heard; got != "registry 7" {
			t.Errorf("%s heard %q", n.cfg.Self.ID, got)
		}
	}
	c.stop()
	a.wait(t, "c", Failed)
	if err := a.Remove("b"); err == nil {
		t.Error("removed a member that is alive")
	}
	if err := b.Leave(); err != nil {
		t.Error(err)
	}
	a.wait(t, "b", Left)
	b.stop()
}

// A node that is back is the same to all.
func TestRejoin(t *testing.T) {
	t.Parallel()
	a := run(t, "a", nil)
	b := run(t, "b", joins(a))
	a.wait(t, "b", Alive)
	b.wait(t, "a", Alive)
	b.stop()
	a.wait(t, "b", Failed)
	again := run(t, "b", func(c *Config) {
		joins(b, a)(c) // its own address may be among them
		c.Bind = netip.MustParseAddrPort(b.gossip())
	})
	again.wait(t, "a", Alive)
	a.wait(t, "b", Alive)
}

// Nodes of two clusters do not hear each other, whatever they were told to join.
func TestStrangers(t *testing.T) {
	t.Parallel()
	a := run(t, "a", nil)
	stranger := New(Config{
		ID: "c-other", Self: Member{ID: "x"}, Quick: true, Bind: netip.MustParseAddrPort("127.0.0.1:0"), Join: []string{a.gossip()},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- stranger.Run(ctx) }()
	b := run(t, "b", joins(a))
	a.wait(t, "b", Alive)
	b.wait(t, "a", Alive)
	if n := len(b.Members()); n != 2 || slices.ContainsFunc(a.Members(), func(m Member) bool { return m.ID == "x" }) {
		t.Errorf("members: %v, %v", a.Members(), b.Members())
	}
	if all := stranger.Members(); slices.ContainsFunc(all, func(m Member) bool { return m.ID != "x" }) {
		t.Errorf("a stranger sees %v", all)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
