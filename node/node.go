// Package node assembles one process: it opens the data directory, wires the parts to each other, starts and stops them in
// order, and says when the node is ready. It is the only place that knows every part; none of the logic is here.
//
// The caller makes a Node with New, which takes the data directory and the port, and must then call Run, which gives both back.
package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wattlehq/wattle/cluster"
	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/host"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/internal/run"
	"github.com/wattlehq/wattle/member"
	"github.com/wattlehq/wattle/node/controller"
	"github.com/wattlehq/wattle/node/grants"
	"github.com/wattlehq/wattle/node/jobs"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/node/rpc"
	"github.com/wattlehq/wattle/node/secrets"
	"github.com/wattlehq/wattle/node/services"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/secret"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
	"github.com/wattlehq/wattle/shard/link"
	"github.com/wattlehq/wattle/store"
	"github.com/wattlehq/wattle/store/blob"
	"github.com/wattlehq/wattle/transfer"
	"github.com/wattlehq/wattle/worker"
)

// machines are what every shard hosts.
var machines = map[machine.ID]machine.Machine{machine.Registry: registry.Machine{}, machine.Jobs: dag.Machine{}, machine.Secrets: secret.Machine{}, machine.Members: member.Machine{}}

// Node is one process of the cluster.
type Node struct {
	cfg       Config
	identity  *storev1.Identity
	began     string // how it came to its cluster
	startedAt time.Time
	listener  net.Listener
	store     *store.Store
	blobs     *blob.Store
	transfer  *transfer.Fetcher
	remote    *peers.Blobs // those here, and those on other nodes
	host      *host.Host
	cacheDir  string // removed at the end if it is ours alone
	view      *registry.View
	secrets   *secrets.Secrets
	engine    *shard.Engine
	router    *peers.Router
	sched     *jobs.Scheduler
	jobs      *jobs.Service
	calls     *services.Calls
	services  *services.Services
	pool      *worker.Pool[*jobs.Attempt, jobs.Outcome]
	metrics   *metrics
	server    *server
	isReady   atomic.Bool
	stops     atomic.Bool     // it wants to lead nothing any more
	stopping  context.Context // done when no new requests are taken
	stop      context.CancelFunc
	ready     chan struct{}
	changed   chan struct{} // this node leads where something became new
	look      chan struct{} // there is something new elsewhere
	published chan struct{} // the registry that this node knows became another
	caughtUp  chan struct{}
	led       chan struct{}

	peerListener net.Listener
	peerServer   *peers.Server
	frames       *handed
	damaged      sync.Once
	clients      *peers.Clients
	cluster      *cluster.Cluster
	gossips      []string // of members, to begin with
	remembered   string   // what is written down of whom it met
	replaced     []string // the nodes this one was before its data was put aside
	link         *link.Network
	hands        *peers.Hands
	controller   *controller.Controller
	watch        directory.Watch
	members      member.View
	leave        chan struct{} // holds a word once this node is to leave
	drained      atomic.Bool
	end          context.CancelCauseFunc // ends Run
	ending       context.Context
}

// New opens the data directory and the port and makes every part. It starts nothing, but answers requests while it waits for a
// cluster to join. Errors say what to do.
func New(ctx context.Context, cfg Config) (_ *Node, err error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.defaults()
	n := &Node{
		cfg: cfg, startedAt: time.Now(), ready: make(chan struct{}), caughtUp: make(chan struct{}), led: make(chan struct{}),
		changed: make(chan struct{}, 1), look: make(chan struct{}, 1), published: make(chan struct{}, 1), leave: make(chan struct{}, 1),
		calls: services.NewCalls(cfg.MaxCalls),
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	n.stopping, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	n.ending, n.end = context.WithCancelCause(context.WithoutCancel(ctx))
	inputs, err := jobs.NewInputs(cfg.AllowDirs, cfg.WriteDirs)
	if err != nil {
		return nil, err
	}
	if n.listener, err = listen("--addr", cfg.Addr, cfg.Insecure); err != nil {
		return nil, err
	}
	n.clients = peers.NewClients(n.peerAddr)
	if err := n.listenPeers(); err != nil {
		return nil, err
	}
	n.view = registry.NewView()
	if err := n.openData(ctx); err != nil {
		return nil, err
	}
	n.sched = jobs.NewScheduler(jobs.Config{Node: n.ID(), Slots: cfg.Slots, Pools: cfg.Pools, Resting: func() bool { return n.members.Draining(n.ID()) }})
	if n.blobs, err = blob.Open(cfg.FS, cfg.FS.PathJoin(cfg.Data, "blobs"), blob.Options{PinTTL: cfg.PinTTL}); err != nil {
		return nil, err
	}
	if err := n.openHost(ctx); err != nil {
		return nil, err
	}
	if err := n.connect(); err != nil {
		return nil, err
	}
	files := &peers.Files{Self: n.ID(), Peers: n.clients, Others: n.others, Removed: n.members.Removed}
	inputs.Node, inputs.Elsewhere = n.ID(), func(ctx context.Context, p *storev1.FilePart, node string) (jobs.File, error) {
		return files.Open(ctx, p, node)
	}
	n.peerServer.File = func(p *storev1.FilePart) (peers.File, error) { return inputs.OpenHere(p) }
	n.transfer = transfer.New(transfer.Config{Store: n.blobs, Nodes: peers.Holders{Peers: n.clients}, Around: work{n}.Workers})
	n.remote = &peers.Blobs{Store: n.blobs, Self: n.ID(), Peers: n.clients, Transfer: n.transfer, Keepers: n.keepersOf}
	n.peerServer.Blobs, n.peerServer.Refs = n.remote, n.refs
	n.sched.Connect(n.router, work{n})
	n.metrics = newMetrics(n)
	keyFile := n.cfg.SecretKey
	if keyFile == "" {
		keyFile = cfg.FS.PathJoin(cfg.Data, "secret.key")
	}
	keys, err := secrets.OpenKeys(cfg.FS, keyFile, n.cfg.SecretKey != "")
	if err != nil {
		return nil, err
	}
	n.secrets = &secrets.Secrets{Shards: n.router, View: secret.NewView(), Keys: keys}
	granted := &grants.Grants{Cache: grants.NewCache(sharedMemory, time.Now), Secrets: n.secrets.Value, Folder: inputs.Folder}
	svc := &services.Services{
		Grants: granted,
		Shards: n.router, View: n.view, Host: n.host, Blobs: n.remote, MaxModule: maxModule, Observe: n.metrics.observe, Ready: n.isReady.Load,
		Calls: n.calls, Others: &services.Others{
			Self: shard.NodeID(n.ID()), Slots: cfg.Slots, Peers: &peers.Calls{Peers: n.clients, Alive: n.others}, Calls: n.calls, Known: n.knows, Stopping: n.stopping,
		},
	}
	n.services, granted.Invoke, n.peerServer.Invoke = svc, svc.InvokeFor, svc.Take
	executor := &jobs.Executor{
		Node: n.ID(), Host: n.host, Blobs: n.remote, Inputs: inputs, FS: cfg.FS, Scratch: n.store.Scratch(),
		ShuffleBytes: cfg.ShuffleBytes, Counters: &n.metrics.shuffle, Grants: granted, Counts: n.sched.Counts,
	}
	n.jobs = jobs.NewService(n.router, n.sched, &dag.Planner{
		Resolver: svc, Files: inputs, Blobs: n.remote, Node: n.ID(),
		Partitions: func() uint32 { return uint32(2 * cfg.Slots * (1 + len(n.others()))) },
	}, executor)
	n.pool = worker.New(cfg.Slots, n.sched, executor)
	handler, err := rpc.Handler(rpc.Config{
		Stopping: n.stopping, Services: svc, Jobs: n.jobs, Secrets: n.secrets, Node: info{n}, Memory: n.host, Metrics: n.metrics.handler(), Ready: n.isReady.Load, Hosts: cfg.Hosts, Origins: cfg.Origins,
	})
	if err != nil {
		return nil, err
	}
	n.server = newServer(handler)
	return n, nil
}

const maxModule = 64 << 20

// sharedMemory bounds what functions keep in the node's cache.
const sharedMemory = 64 << 20

// openHost keeps compiled code beside the data, or in a folder of its own where the data is not on the
// operating system's file system.
func (n *Node) openHost(ctx context.Context) (err error) {
	dir := n.cfg.Cache
	if dir == "" {
		dir = filepath.Join(n.cfg.Data, "cache")
	}
	if n.cfg.Cache == "" && n.cfg.FS != store.OS {
		if dir, err = os.MkdirTemp("", "wattle-cache-"); err != nil {
			return err
		}
		n.cacheDir = dir
	}
	n.host, err = host.New(ctx, host.Config{CacheDir: dir, MaxModuleBytes: maxModule, GuestMemory: n.cfg.GuestMemory, Processors: n.cfg.Processors})
	return err
}

func newID(kind string) string { return kind + "-" + strings.ToLower(rand.Text()[:16]) }

// listen opens the port. Beyond loopback there is no trust yet, so the operator has to say that they know.
func listen(flag, addr string, insecure bool) (net.Listener, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, fault.New(fault.Invalid, "bad_addr", "%s %s: %w", flag, addr, err).Hint("want HOST:PORT, for example 127.0.0.1:7070")
	}
	if !isLoopback(addr) && !insecure {
		return nil, errInsecure(addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fault.New(fault.Precondition, "addr_in_use", "cannot listen on %s: %w", addr, err).
			Hint("another program may have the port: choose one with %s", flag)
	}
	return l, nil
}

// isLoopback tells whether only this machine reaches an address.
func isLoopback(addr string) bool {
	h, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(h)
	return h == "localhost" || err == nil && ip.IsLoopback()
}

func errInsecure(addr string) error {
	return fault.New(fault.Denied, "insecure", "%s can be reached from other machines, and this node would let anybody in", addr).
		Hint("listen on 127.0.0.1, or add --insecure if you trust everyone who can reach it")
}

// Addr returns where the API listens.
func (n *Node) Addr() string { return n.listener.Addr().String() }

// ID returns the node's name.
func (n *Node) ID() string { return n.identity.NodeId }

// Cluster returns the name of the cluster, and how this node came to it: it "founded" or "joined" it now, or goes on "as before".
func (n *Node) Cluster() (id, how string) { return n.identity.ClusterId, n.began }

// Ready is closed once the node takes requests.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Run runs the node until ctx ends, or it has left the cluster, then stops it: tasks first, then requests, then the shards below
// them. It returns an error if the node was removed from its cluster.
func (n *Node) Run(ctx context.Context) error {
	defer n.close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.ending, cancel)()
	err := run.Ordered(ctx,
		run.Part{Name: "gossip", Run: n.cluster.Run, Ready: n.cluster.Ready()},
		run.Part{Name: "peers", Run: n.servePeers},
		run.Part{Name: "link", Run: n.link.Run},
		run.Part{Name: "shards", Run: n.runShards, Ready: n.led},
		// Everything acknowledged before the start is applied before anything above is begun.
		run.Part{Name: "catch-up", Run: n.catchUp, Ready: n.caughtUp},
		// Waits until every outcome is recorded, so it must outlive the worker.
		run.Part{Name: "scheduler", Run: n.sched.Run},
		run.Part{Name: "housekeeping", Run: n.keepHouse},
		run.Part{Name: "modules", Run: n.keepModules},
		run.Part{Name: "copies", Run: n.keepCopies},
		// Requests find everything they need, until the last of them is answered.
		run.Part{Name: "api", Run: n.serve, Ready: n.ready},
		// Tasks are given back while their shards are led here: the next leader would take them for lost.
		run.Part{Name: "worker", Run: n.pool.Run},
		run.Part{Name: "controller", Run: n.controller.Run},
		run.Part{Name: "announcement", Run: n.announce},
		run.Part{Name: "membership", Run: n.keepMembership},
	)
	if why := fault.As(context.Cause(n.ending)); why != nil && err == nil {
		return why
	}
	return err
}

func (n *Node) close() error {
	var errs []error
	if n.host != nil {
		errs = append(errs, n.host.Close(context.Background()))
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	for _, l := range []net.Listener{n.listener, n.peerListener} {
		if l != nil {
			l.Close() // closed already where it was served
		}
	}
	if n.clients != nil {
		n.clients.Close()
	}
	if n.cacheDir != "" {
		errs = append(errs, os.RemoveAll(n.cacheDir))
	}
	return errors.Join(errs...)
}

func (n *Node) String() string { return fmt.Sprintf("node %s at %s", n.ID(), n.Addr()) }
