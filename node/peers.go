package node

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wattlehq/wattle/cluster"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/node/controller"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/link"
	"github.com/wattlehq/wattle/store"
)

// besides returns the address a number of ports further on, unless one is given.
func besides(addr, given string, further int) (string, error) {
	if given != "" {
		return given, nil
	}
	h, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	port, err := net.LookupPort("tcp", p)
	if err != nil {
		return "", err
	}
	if port != 0 {
		port += further
	}
	return net.JoinHostPort(h, strconv.Itoa(port)), nil
}

// gossipAddr turns an address into what Serf binds to.
func gossipAddr(addr string, insecure bool) (netip.AddrPort, error) {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return netip.AddrPort{}, fault.New(fault.Invalid, "bad_addr", "--gossip-addr %s: %w", addr, err).Hint("want HOST:PORT, for example 127.0.0.1:7071")
	}
	if loopback := a.IP != nil && a.IP.IsLoopback(); !loopback && !insecure {
		return netip.AddrPort{}, errInsecure(addr)
	}
	ip := a.AddrPort()
	if !ip.Addr().IsValid() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), ip.Port()), nil
	}
	return netip.AddrPortFrom(ip.Addr().Unmap(), ip.Port()), nil
}

// told is an address as members are told of it: without a host where that is whatever they reach gossip by.
func told(l net.Listener, advertise string) string {
	h, p, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return l.Addr().String()
	}
	if ip, err := netip.ParseAddr(h); advertise != "" || err == nil && ip.IsUnspecified() {
		return ":" + p
	}
	return net.JoinHostPort(h, p)
}

// settle reads who this node is, or makes it a member: of the cluster it is to join, or of one of its own.
func (n *Node) settle(ctx context.Context) (*shard.Table, error) {
	founded, err := shard.Founded(n.store)
	if err != nil {
		return nil, err
	}
	join := n.cfg.Join
	if !founded {
		known, err := n.met()
		if err != nil {
			return nil, err
		}
		join = append(slices.Clone(join), known.apis...)
	}
	self := newID("n")
	f := shard.Founding{Identity: &storev1.Identity{NodeId: self, CreatedAt: n.startedAt.UnixNano()}}
	switch {
	case founded:
		if known, err := n.met(); n.cfg.Worker && (err != nil || len(known.apis)+len(join) == 0 && !n.cfg.Discover) {
			return nil, errors.Join(err, errAlone(n.cfg.Data))
		}
	case len(join) > 0 || n.cfg.Discover:
		r, err := n.askToJoin(ctx, join)
		if err != nil {
			return nil, err
		}
		f.Identity.ClusterId, n.gossips = r.Cluster, r.Gossip
		if f.Table, err = shard.DecodeTable(r.Table); err != nil {
			return nil, err
		}
	default:
		if how, err := n.begunToJoin(); err != nil {
			return nil, err
		} else if how != "" {
			return nil, fault.New(fault.Precondition, "not_joined", "the node whose data is in %s was to join a cluster (%s), and has not yet", n.cfg.Data, how).
				Hint("start it with %s again; or empty the directory, so that it founds a cluster of its own", how)
		}
		if n.cfg.Worker {
			return nil, errAlone(n.cfg.Data)
		}
		f.Identity.ClusterId, f.Nodes = newID("c"), []shard.NodeID{shard.NodeID(self)}
		if f.Table, err = shard.NewTable(n.cfg.Shards); err != nil {
			return nil, err
		}
	}
	id, table, err := shard.Found(n.store, f)
	if err != nil {
		return nil, err
	}
	n.identity = id
	switch {
	case founded:
		n.began = "as before"
		return table, n.rejoin(ctx)
	case len(f.Nodes) > 0:
		n.began = "founded"
	default:
		n.began = "joined"
	}
	if err := n.cfg.FS.Remove(n.joiningFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		slog.Warn("not removed, although the node has joined", "file", n.joiningFile(), "error", err)
	}
	return table, nil
}

func errAlone(data string) error {
	return fault.New(fault.Precondition, "worker_alone", "a worker keeps nothing of its own, and the node whose data is in %s knows of no cluster", data).
		Hint("give it the address of a member with --join, or --discover; or start it without --worker")
}

// askToJoin waits until a member tells what a new one has to know, and first writes down that it does. Whoever asks this node for
// something meanwhile is told that it waits.
func (n *Node) askToJoin(ctx context.Context, join []string) (_ *peerv1.JoinResponse, err error) {
	if err := store.WritePrivate(n.cfg.FS, n.joiningFile(), joinFlags(join, n.cfg.Discover)+"\n"); err != nil {
		return nil, err
	}
	whom := slices.Clone(join)
	if n.cfg.Discover {
		whom = append(whom, "what it finds on the network")
	}
	stop := n.meanwhile(fault.New(fault.Unavailable, "joining", "the node at %s takes no requests yet: it waits to join a cluster, and tries %s", n.Addr(), strings.Join(whom, ", ")).
		Hint("start one of them, or stop this node and give it the address of a member with --join"))
	defer func() { err = errors.Join(err, stop()) }()
	r, err := n.clients.Admission(ctx, func(ctx context.Context) []string { return n.joinable(ctx, join) })
	if err != nil {
		return nil, fault.New(fault.Unavailable, "not_joined", "not joined: no member answers: %v", err).
			Hint("start one, or give the address of another with --join")
	}
	return r, nil
}

// joinable adds what is found on the network to the addresses that may be members'.
func (n *Node) joinable(ctx context.Context, addrs []string) []string {
	if !n.cfg.Discover {
		return addrs
	}
	found, err := cluster.Discover(ctx, n.apiAddr().Addr(), discoverTime)
	if err != nil {
		slog.Warn("looking for members on the network", "error", err)
	}
	self := n.apiAddr().String()
	return append(slices.Clone(addrs), slices.DeleteFunc(found, func(a string) bool { return a == self })...)
}

// discoverTime is how long members may take to answer on the network.
const discoverTime = time.Second

// apiAddr is where the API listens.
func (n *Node) apiAddr() netip.AddrPort {
	a, _ := netip.ParseAddrPort(n.Addr())
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// announce lets others on the network find this node, where they can reach it.
func (n *Node) announce(ctx context.Context) error {
	if n.apiAddr().Addr().IsLoopback() {
		<-ctx.Done()
		return nil
	}
	return cluster.Announce(ctx, n.identity.NodeId, n.apiAddr())
}

// rejoin looks at the cluster that a node with data is told to join: it must be its own. A cluster that does not answer now is met
// later, by gossip.
func (n *Node) rejoin(ctx context.Context) error {
	answers := make([]*peerv1.JoinResponse, len(n.cfg.Join))
	var asked sync.WaitGroup
	for i, addr := range n.cfg.Join {
		asked.Go(func() { answers[i], _ = n.clients.AskAdmission(ctx, addr) }) // it may be starting as well
	}
	asked.Wait()
	for i, addr := range n.cfg.Join {
		r := answers[i]
		if r == nil {
			continue
		}
		if r.Cluster != n.identity.ClusterId {
			return fault.New(fault.Precondition, "other_cluster", "the data in %s belongs to cluster %s, %s to %s", n.cfg.Data, n.identity.ClusterId, addr, r.Cluster).
				Hint("give this node an empty directory with --data, or leave --join out")
		}
		n.gossips = append(n.gossips, r.Gossip...)
	}
	if len(n.cfg.Join) > 0 && len(n.gossips) == 0 {
		slog.Warn("no member answers where it is to join; it goes on with those it has met before", "cluster", n.identity.ClusterId, "join", n.cfg.Join)
	}
	return nil
}

// admit is what a new node is told.
func (n *Node) admit() (*peerv1.JoinResponse, error) {
	table, err := n.engine.Table().Encode()
	if err != nil {
		return nil, err
	}
	r := &peerv1.JoinResponse{Cluster: n.identity.ClusterId, Table: table}
	for _, m := range n.cluster.Members() {
		if m.Status == cluster.Alive {
			r.Gossip = append(r.Gossip, m.Gossip)
		}
	}
	return r, nil
}

// knows tells whether gossip knows of a node.
func (n *Node) knows(id shard.NodeID) bool {
	_, ok := n.cluster.Member(string(id))
	return ok
}

func (n *Node) peerAddr(id shard.NodeID) (string, bool) {
	m, ok := n.cluster.Member(string(id))
	return m.Peer, ok && m.Peer != ""
}

// handed is a listener of connections that another one has accepted.
type handed struct {
	addr   net.Addr
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newHanded(addr net.Addr) *handed {
	return &handed{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handed) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *handed) give(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		c.Close()
	}
}

func (h *handed) Close() error   { h.once.Do(func() { close(h.closed) }); return nil }
func (h *handed) Addr() net.Addr { return h.addr }

// begun is a connection whose first bytes were looked at.
type begun struct {
	net.Conn
	r *bufio.Reader
}

func (b *begun) Read(p []byte) (int, error) { return b.r.Read(p) }

// helloTimeout is how long a connection may take to say what it is for.
const helloTimeout = 5 * time.Second

// peersGrace is how long other nodes' requests may go on once everything else has stopped.
const peersGrace = 2 * time.Second

// servePeers answers other nodes: requests and shards' messages come to one port. A request begins with a word in capitals, a
// frame with its length.
func (n *Node) servePeers(ctx context.Context) error {
	path, h := n.peerServer.Handler()
	mux := http.NewServeMux()
	mux.Handle(path, h)
	server := newServer(mux)
	requests := newHanded(n.peerListener.Addr())
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer context.AfterFunc(ctx, func() {
		n.peerListener.Close()
		// Nothing is decided here any more, but others have a right to their answers.
		grace, stop := context.WithTimeout(context.WithoutCancel(ctx), peersGrace)
		defer stop()
		server.shut(requests)
		server.drain(grace, 0)
	})()
	wg.Go(func() { _ = server.Serve(requests) })
	for {
		c, err := n.peerListener.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				cancel()
				return nil
			}
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		wg.Go(func() {
			stop := context.AfterFunc(ctx, func() { c.Close() })
			_ = c.SetReadDeadline(time.Now().Add(helloTimeout))
			b := &begun{c, bufio.NewReader(c)}
			first, err := b.r.Peek(4)
			if stop(); err != nil || c.SetReadDeadline(time.Time{}) != nil {
				c.Close()
				return
			}
			if first[0] >= 'A' && first[0] <= 'Z' && first[3] != 0 {
				requests.give(b)
			} else {
				n.frames.give(b)
			}
		})
	}
}

// listenPeers opens the port for other nodes.
func (n *Node) listenPeers() (err error) {
	if n.cfg.PeerAddr, err = besides(n.cfg.Addr, n.cfg.PeerAddr, 2); err != nil {
		return fault.New(fault.Invalid, "bad_addr", "--peer-addr: %w", err).Hint("want HOST:PORT, for example 127.0.0.1:7072")
	}
	if n.cfg.GossipAddr, err = besides(n.cfg.Addr, n.cfg.GossipAddr, 1); err != nil {
		return fault.New(fault.Invalid, "bad_addr", "--gossip-addr: %w", err).Hint("want HOST:PORT, for example 127.0.0.1:7071")
	}
	if n.peerListener, err = listen("--peer-addr", n.cfg.PeerAddr, n.cfg.Insecure); err != nil {
		return err
	}
	n.frames = newHanded(n.peerListener.Addr())
	// Gossip begins when this node is a member, or has founded a cluster: too late to find out that its port is taken.
	l, err := listen("--gossip-addr", n.cfg.GossipAddr, n.cfg.Insecure)
	if err != nil {
		return err
	}
	return l.Close()
}

// connect makes the parts that speak to other nodes.
func (n *Node) connect() error {
	bind, err := gossipAddr(n.cfg.GossipAddr, n.cfg.Insecure)
	if err != nil {
		return err
	}
	known, err := n.met()
	if err != nil {
		slog.Warn("whom this node met is not known", "error", err)
	}
	n.gossips = append(n.gossips, known.gossips...)
	known.become(n.identity.NodeId)
	n.replaced = known.replaced
	self := shard.NodeID(n.identity.NodeId)
	cfg := cluster.Config{
		ID: n.identity.ClusterId, Bind: bind, Join: n.gossips, Changed: n.memberChanged, Heard: n.heard,
		Self: cluster.Member{
			ID: n.identity.NodeId, API: told(n.listener, n.cfg.Advertise), Peer: told(n.peerListener, n.cfg.Advertise), Zone: n.cfg.Zone, Version: n.cfg.Version,
			Worker: n.cfg.Worker, Replaces: n.replaced, Pools: n.cfg.Pools,
		},
	}
	if n.cfg.Advertise != "" {
		ip, err := netip.ParseAddr(n.cfg.Advertise)
		if err != nil {
			return fault.New(fault.Invalid, "bad_advertise", "--advertise %s: %w", n.cfg.Advertise, err).Hint("want the IP address by which other nodes reach this one")
		}
		cfg.Advertise = netip.AddrPortFrom(ip, bind.Port())
	}
	n.cluster = cluster.New(cfg)
	n.link = link.New(link.Config{
		Cluster: n.identity.ClusterId, Self: self, Listener: n.frames, Addr: n.peerAddr, Receive: n.engine.Step,
		Work: func(from shard.NodeID, ms []*peerv1.WorkMessage) { n.sched.Heard(string(from), ms) },
		Gone: func(id shard.NodeID) { n.sched.Gone(string(id)) },
	})
	n.hands = &peers.Hands{Self: self, Engine: n.engine, Peers: n.clients, Lacks: n.watch.All, Stopping: n.stops.Load}
	n.router = &peers.Router{Hands: n.hands, Alive: n.likely}
	n.peerServer = &peers.Server{Hands: n.hands, Admission: n.admit, Node: n.self, Dismissed: n.dismissed, Tasks: n.sched}
	n.controller = controller.New(controller.Config{
		Nodes: n.hands, Members: n.nodes, Removed: n.members.Removed, Grace: n.cfg.Grace, Acts: n.leadsFirst,
		Watch: &n.watch, Shards: n.engine.Table().Shards,
	})
	return nil
}

func (n *Node) membersFile() string { return n.cfg.FS.PathJoin(n.cfg.Data, "members") }

// memberChanged is told of others by gossip. Those who are there are written down, to be met again after the next start.
func (n *Node) memberChanged(m cluster.Member) {
	known := acquaintances{self: n.identity.NodeId, replaced: n.replaced}
	for _, o := range n.nodes() {
		if o.ID != n.identity.NodeId && o.Status != cluster.Left && !o.Worker {
			known.gossips, known.apis = append(known.gossips, o.Gossip), append(known.apis, o.API)
		}
	}
	if text := known.String(); len(known.apis) > 0 && text != n.remembered { // alone, it keeps to those it knew
		n.remembered = text
		if err := store.WritePrivate(n.cfg.FS, n.membersFile(), text); err != nil {
			slog.Warn("members not written down", "error", err)
		}
	}
	if m.ID != n.identity.NodeId {
		slog.Info("member", "node", m.ID, "status", m.Status, "addr", m.API)
	}
	if m.Status == cluster.Left {
		n.link.Forget(shard.NodeID(m.ID))
	}
}

// leadsFirst tells whether this node leads the first shard, whose leader places all others.
func (n *Node) leadsFirst() bool {
	for _, s := range n.engine.Status() {
		return s.ID == 0 && s.Leading
	}
	return false
}
