// Package cluster knows who is there: the nodes that gossip with each other, how they are reached, and what they told all
// others lately. It is the only place that imports Serf.
//
// What it says is a view, not the truth: two nodes may see different members for a while, and one that is said to have failed
// may be alive behind a bad link. So nothing here decides who keeps what; it tells where to ask.
//
// The caller runs Run until it returns. Members may be asked, and events sent, while it runs.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/wattlehq/wattle/internal/fault"
)

// Status is what gossip says of a member.
type Status string

// The statuses. Left is a member that said goodbye, Failed one that is silent.
const (
	Alive   Status = "alive"
	Leaving Status = "leaving"
	Left    Status = "left"
	Failed  Status = "failed"
)

// Member is a node as gossip sees it.
type Member struct {
	// ID is the node's.
	ID string
	// API, Peer and Gossip are where it listens, as HOST:PORT.
	API, Peer, Gossip string
	// Pools are the worker pools it belongs to.
	Pools []string
	// Zone is what its operator said fails together; may be empty.
	Zone string
	// Version is the release it runs.
	Version string
	// Worker tells that it keeps no replicas.
	Worker bool
	// Replaces are nodes that it was before its data was put aside: they will not come back.
	Replaces []string
	Status   Status
	// Since is when this node learned of the status.
	Since time.Time
}

// Config is what a Cluster needs. Fields without a default must be set.
type Config struct {
	// ID of the cluster: nodes of another one are not heard.
	ID string
	// Self is this node. Status, Since and Gossip are filled in; API and Peer may lack the host, which is then the one that
	// gossip uses.
	Self Member
	// Bind is where gossip listens, over TCP and UDP; port 0 takes any.
	Bind netip.AddrPort
	// Advertise is how others reach this node, where that is not Bind: behind NAT, for example. An unspecified Bind advertises
	// a private address of the machine by default.
	Advertise netip.AddrPort
	// Join are gossip addresses of members to meet: those the operator named, and those met before the last stop, which the caller
	// remembers. (Serf would remember them itself, but keeps the last ones in a buffer that a kill takes away.)
	Join []string
	// Changed is told of every change of a member's status or addresses, one at a time. It must not block.
	Changed func(Member)
	// Heard is told of what Tell told, on every node, more or less soon and perhaps never. It must not block.
	Heard func(topic string, body []byte)
	// Quick shortens all intervals, for tests on one machine.
	Quick bool
}

// Cluster is this node's view. Its methods may be called concurrently.
type Cluster struct {
	cfg    Config
	events chan serf.Event
	ready  chan struct{}

	mu      sync.RWMutex
	serf    *serf.Serf // nil before Run
	members map[string]Member
}

// New makes a Cluster and starts nothing.
func New(cfg Config) *Cluster {
	return &Cluster{cfg: cfg, events: make(chan serf.Event, 1024), ready: make(chan struct{}), members: map[string]Member{}}
}

// Ready is closed once this node listens to gossip. It may not have met anybody yet.
func (c *Cluster) Ready() <-chan struct{} { return c.ready }

// Tags of members. They are in every message about a member, so they are short.
const (
	tagAPI, tagPeer, tagZone, tagVersion, tagWorker = "a", "p", "z", "v", "w"
	tagCluster, tagReplaces, tagPools               = "c", "r", "l"
)

func (c *Cluster) config() *serf.Config {
	s := serf.DefaultConfig()
	m := memberlist.DefaultLANConfig()
	if c.cfg.Quick {
		m = memberlist.DefaultLocalConfig()
		m.ProbeInterval, m.ProbeTimeout, m.GossipInterval = 100*time.Millisecond, 50*time.Millisecond, 20*time.Millisecond
		m.SuspicionMult = 2
		s.ReconnectInterval, s.ReapInterval, s.LeavePropagateDelay = 200*time.Millisecond, 200*time.Millisecond, 100*time.Millisecond
		s.BroadcastTimeout = time.Second
	}
	m.Logger, m.LogOutput, s.Logger, s.LogOutput = quiet, nil, quiet, nil
	m.Label = c.cfg.ID
	m.DeadNodeReclaimTime = m.ProbeInterval // a node may come back at another address
	m.BindAddr, m.BindPort = c.cfg.Bind.Addr().String(), int(c.cfg.Bind.Port())
	if a := c.cfg.Advertise; a.IsValid() {
		m.AdvertiseAddr, m.AdvertisePort = a.Addr().String(), int(a.Port())
	} else {
		m.AdvertisePort = m.BindPort
	}
	s.Init()
	s.MemberlistConfig, s.EventCh, s.NodeName = m, c.events, c.cfg.Self.ID
	s.EnableNameConflictResolution = false // names are drawn, not given
	s.Tags = map[string]string{
		tagAPI: c.cfg.Self.API, tagPeer: c.cfg.Self.Peer, tagZone: c.cfg.Self.Zone, tagVersion: c.cfg.Self.Version, tagCluster: c.cfg.ID,
	}
	if c.cfg.Self.Worker {
		s.Tags[tagWorker] = "1"
	}
	if p := c.cfg.Self.Pools; len(p) > 0 {
		s.Tags[tagPools] = strings.Join(p, " ")
	}
	if r := c.cfg.Self.Replaces; len(r) > 0 {
		s.Tags[tagReplaces] = strings.Join(r, " ")
	}
	return s
}

// Run gossips until ctx ends. It says no goodbye: a node that is stopped is expected back, unless Leave was called.
func (c *Cluster) Run(ctx context.Context) error {
	s, err := serf.Create(c.config())
	if err != nil {
		return fault.New(fault.Precondition, "gossip", "cannot gossip on %s: %w", c.cfg.Bind, err).
			Hint("another program may have the port: choose one with --gossip-addr")
	}
	c.mu.Lock()
	c.serf = s
	c.mu.Unlock()
	defer func() {
		_ = s.Shutdown()
		<-s.ShutdownCh()
	}()
	pumped := make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); <-pumped }()
	go func() {
		defer close(pumped)
		c.pump(ctx)
	}()
	close(c.ready)
	c.join(ctx, s)
	<-ctx.Done()
	return nil
}

// join meets the first members, for as long as it takes: they may be starting as well.
func (c *Cluster) join(ctx context.Context, s *serf.Serf) {
	if len(c.cfg.Join) == 0 {
		return
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		if n, _ := s.Join(c.cfg.Join, true); n > 0 || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (c *Cluster) pump(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-c.events:
			switch e := e.(type) {
			case serf.MemberEvent:
				for _, m := range e.Members {
					c.note(m, e.Type == serf.EventMemberReap)
				}
			case serf.UserEvent:
				if c.cfg.Heard != nil {
					c.cfg.Heard(e.Name, e.Payload)
				}
			}
		}
	}
}

// note takes what gossip says of a member.
func (c *Cluster) note(sm serf.Member, reaped bool) {
	m := memberOf(sm)
	m.Since = time.Now()
	c.mu.Lock()
	if reaped {
		delete(c.members, m.ID)
	} else {
		if old, ok := c.members[m.ID]; ok && old.Status == m.Status {
			m.Since = old.Since
		}
		c.members[m.ID] = m
	}
	c.mu.Unlock()
	if c.cfg.Changed != nil {
		c.cfg.Changed(m)
	}
}

func memberOf(sm serf.Member) Member {
	host := sm.Addr.String()
	full := func(addr string) string {
		if h, port, err := net.SplitHostPort(addr); err == nil && h == "" {
			return net.JoinHostPort(host, port)
		}
		return addr
	}
	m := Member{
		ID: sm.Name, API: full(sm.Tags[tagAPI]), Peer: full(sm.Tags[tagPeer]), Gossip: net.JoinHostPort(host, strconv.Itoa(int(sm.Port))),
		Zone: sm.Tags[tagZone], Version: sm.Tags[tagVersion], Worker: sm.Tags[tagWorker] != "", Replaces: strings.Fields(sm.Tags[tagReplaces]),
		Pools: strings.Fields(sm.Tags[tagPools]), Status: Failed,
	}
	switch sm.Status {
	case serf.StatusAlive:
		m.Status = Alive
	case serf.StatusLeaving:
		m.Status = Leaving
	case serf.StatusLeft:
		m.Status = Left
	}
	return m
}

// Members returns everybody this node knows of, itself included, sorted by ID.
func (c *Cluster) Members() []Member {
	c.mu.RLock()
	defer c.mu.RUnlock()
	all := make([]Member, 0, len(c.members))
	for _, m := range c.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Member returns one by its ID.
func (c *Cluster) Member(id string) (Member, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	m, ok := c.members[id]
	return m, ok
}

// Tell spreads a few hundred bytes to all nodes. Those told of the same topic in quick succession may hear the last one only.
func (c *Cluster) Tell(topic string, body []byte) error {
	c.mu.RLock()
	s := c.serf
	c.mu.RUnlock()
	if s == nil {
		return errors.New("gossip has not begun")
	}
	return s.UserEvent(topic, body, true)
}

// Leave says goodbye, so that nobody waits for this node. Run goes on until its context ends.
func (c *Cluster) Leave() error {
	c.mu.RLock()
	s := c.serf
	c.mu.RUnlock()
	if s == nil {
		return nil
	}
	return s.Leave()
}

// Remove makes everybody forget a member that failed.
func (c *Cluster) Remove(id string) error {
	c.mu.RLock()
	s := c.serf
	c.mu.RUnlock()
	if m, ok := c.Member(id); !ok || m.Status != Failed || s == nil {
		return fault.New(fault.Precondition, "not_failed", "%s is no member that failed", id).Hint("see: wattle node ls")
	}
	if err := s.RemoveFailedNodePrune(id); err != nil {
		return fmt.Errorf("remove %s: %w", id, err)
	}
	return nil
}
