// Package link carries messages between nodes, those of the shards and those about work, over TCP connections of its own: one to each node, on which
// only this one sends. Messages that were queued together travel in one frame, with one write.
//
// It promises little, since raft needs little: what is sent arrives in order and unchanged, or not at all. What cannot be sent
// soon is dropped, and a node to which there is nothing to send is forgotten, so that one that is gone costs nothing. It does not
// know who the members are: Config.Addr does. It notices when a node's process ends.
// Whoever can reach the port can speak: it proves nothing about either side yet.
//
// The caller runs Run, and may Send before and after.
package link

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

// Config is what a Network needs. Fields without a default must be set.
type Config struct {
	Cluster string
	Self    shard.NodeID
	// Listener is where others connect. Run closes it.
	Listener net.Listener
	// Addr returns where a node listens, if that is known.
	Addr func(shard.NodeID) (string, bool)
	// Receive takes what came from a node, Work what is not for a shard. They must not block for long: the connection waits for them.
	Receive func(from shard.NodeID, ms []*peerv1.ShardMessage)
	Work    func(from shard.NodeID, ms []*peerv1.WorkMessage)
	// Gone is told of nodes whose process is no more: its connection ended, and nobody listens where it was. It must not block.
	Gone func(shard.NodeID)
	// Dial connects; by TCP by default.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// MaxQueued bounds the bytes that wait for one node; what comes on top is dropped. 64 MiB by default.
	MaxQueued int
}

// How long things may take.
const (
	dialTimeout  = 2 * time.Second
	helloTimeout = 5 * time.Second
	writeTimeout = 10 * time.Second
	probeTime    = 100 * time.Millisecond
	probes       = 10
	leastBackoff = 50 * time.Millisecond
	mostBackoff  = time.Second
	// A refusal costs next to nothing, and tells that the process is gone: leaders wait to hear so.
	mostRefused = 100 * time.Millisecond
	// A node to which there was nothing to send for so long is forgotten, until there is: it may be gone for good.
	idleTimeout = time.Minute
)

// Network is this node's connections to all others.
type Network struct {
	cfg Config

	mu    sync.Mutex
	peers map[shard.NodeID]*peer
	ctx   context.Context // of Run; nil before
	wg    sync.WaitGroup

	dropped atomic.Uint64
}

// New makes a Network and starts nothing.
func New(cfg Config) *Network {
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", addr)
		}
	}
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = 64 << 20
	}
	return &Network{cfg: cfg, peers: map[shard.NodeID]*peer{}}
}

// Dropped returns how many messages were not sent.
func (n *Network) Dropped() uint64 { return n.dropped.Load() }

// Send queues messages of shards for a node. It does not block.
func (n *Network) Send(to shard.NodeID, ms []*peerv1.ShardMessage) {
	n.put(to, &peerv1.PeerMessages{Shards: ms}, false)
}

// SendWork queues messages about work for a node. It does not block.
func (n *Network) SendWork(to shard.NodeID, ms ...*peerv1.WorkMessage) {
	n.put(to, &peerv1.PeerMessages{Work: ms}, false)
}

func (n *Network) put(to shard.NodeID, ms *peerv1.PeerMessages, anew bool) {
	for !n.peer(to).put(ms, anew) { // it ended at this very moment
	}
}

// peer returns the other end of the connection to a node.
func (n *Network) peer(to shard.NodeID) *peer {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[to]
	if p == nil {
		p = &peer{n: n, id: to, wake: make(chan struct{}, 1)}
		n.peers[to] = p
		if n.ctx != nil {
			n.wg.Go(p.run)
		}
	}
	return p
}

// Forget ends the connection to a node that is no member any more.
func (n *Network) Forget(id shard.NodeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.peers[id]; p != nil {
		delete(n.peers, id)
		p.end(true)
		p.rouse()
	}
}

// forgetIdle forgets a node unless something waits to be sent to it.
func (n *Network) forgetIdle(p *peer) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !p.end(false) {
		return false
	}
	if n.peers[p.id] == p {
		delete(n.peers, p.id)
	}
	return true
}

// Run accepts connections and makes those that are needed until ctx ends.
func (n *Network) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer n.wg.Wait()
	defer cancel()
	n.mu.Lock()
	n.ctx = ctx
	for _, p := range n.peers {
		n.wg.Go(p.run)
	}
	n.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { n.cfg.Listener.Close() })
	defer stop()
	for {
		c, err := n.cfg.Listener.Accept()
		if ctx.Err() != nil {
			if c != nil {
				c.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			// Too many open files, for example: it may pass.
			select {
			case <-time.After(leastBackoff):
			case <-ctx.Done():
			}
			continue
		}
		n.wg.Go(func() { n.serve(ctx, c) })
	}
}

// serve receives what one other node sends.
func (n *Network) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	f := newFrames(c)
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	var hello peerv1.Hello
	if f.read(&hello, maxHello) != nil {
		return
	}
	refused := ""
	switch {
	case hello.Cluster != n.cfg.Cluster:
		refused = "this node belongs to another cluster"
	case hello.To != string(n.cfg.Self):
		refused = "another node is here now"
	case hello.From == "" || hello.From == string(n.cfg.Self):
		refused = "that is no other node's name"
	}
	if f.write(&peerv1.Welcome{Refused: refused}) != nil || refused != "" {
		return
	}
	_ = c.SetDeadline(time.Time{})
	from := shard.NodeID(hello.From)
	for {
		var ms peerv1.PeerMessages
		if f.read(&ms, maxFrame) != nil {
			break
		}
		if len(ms.Shards) > 0 {
			n.cfg.Receive(from, ms.Shards)
		}
		if len(ms.Work) > 0 && n.cfg.Work != nil {
			n.cfg.Work(from, ms.Work)
		}
	}
	// Whether its process is no more shows when it is called.
	if ctx.Err() == nil {
		n.put(from, &peerv1.PeerMessages{}, true)
	}
}

// peer is the other end of the connection to one node.
type peer struct {
	n    *Network
	id   shard.NodeID
	wake chan struct{}

	mu    sync.Mutex
	queue *peerv1.PeerMessages
	bytes int
	anew  bool // the connection is to be made again
	ended bool
}

// put queues messages, unless the peer has ended.
func (p *peer) put(ms *peerv1.PeerMessages, anew bool) bool {
	size := proto.Size(ms)
	p.mu.Lock()
	switch {
	case p.ended:
		p.mu.Unlock()
		return false
	case p.bytes+size > p.n.cfg.MaxQueued:
		p.mu.Unlock()
		p.n.dropped.Add(uint64(count(ms)))
		return true
	}
	if p.queue == nil {
		p.queue = &peerv1.PeerMessages{}
	}
	p.queue.Shards, p.queue.Work = append(p.queue.Shards, ms.Shards...), append(p.queue.Work, ms.Work...)
	p.bytes += size
	p.anew = p.anew || anew
	p.mu.Unlock()
	p.rouse()
	return true
}

func count(ms *peerv1.PeerMessages) int { return len(ms.GetShards()) + len(ms.GetWork()) }

func (p *peer) rouse() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *peer) take() (ms *peerv1.PeerMessages, anew, ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ms, anew = p.queue, p.anew
	p.queue, p.bytes, p.anew = nil, 0, false
	return ms, anew, p.ended
}

// end has it take nothing any more, whatever is queued or only if nothing is.
func (p *peer) end(whatever bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = p.ended || whatever || p.queue == nil
	return p.ended
}

// run sends what is queued. Whatever is queued while there is no connection is dropped: by the time there is one, raft has
// newer things to say.
func (p *peer) run() {
	var c *conn
	defer func() { c.close() }()
	ctx := p.n.ctx
	backoff := time.Duration(0)
	var retry time.Time
	idle := time.NewTimer(idleTimeout)
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-idle.C:
			if p.n.forgetIdle(p) {
				return
			}
		}
		idle.Reset(idleTimeout)
		ms, anew, ended := p.take()
		if ended {
			return
		}
		if anew {
			c.close()
			c, retry = nil, time.Time{}
			if count(ms) == 0 {
				p.probe(ctx)
				continue
			}
		}
		if c == nil && !time.Now().Before(retry) {
			var err error
			if c, err = p.connect(ctx); err != nil {
				most := mostBackoff
				if errors.Is(err, syscall.ECONNREFUSED) {
					most = mostRefused
				}
				backoff = min(max(2*backoff, leastBackoff), most)
				retry = time.Now().Add(backoff)
			} else {
				backoff = 0
			}
		}
		if c == nil {
			p.n.dropped.Add(uint64(count(ms)))
			continue
		}
		if err := c.send(ms); err != nil {
			c.close()
			c = nil
		}
	}
}

// conn is a connection on which this node sends.
type conn struct {
	net.Conn
	f    *frames
	stop func() bool
}

// close ends it; there may be none.
func (c *conn) close() {
	if c != nil {
		c.stop()
		c.Conn.Close()
	}
}

func (c *conn) send(ms *peerv1.PeerMessages) error {
	shards, work := ms.GetShards(), ms.GetWork()
	for len(shards)+len(work) > 0 {
		room := fullFrame
		frame := &peerv1.PeerMessages{Shards: cut(&shards, &room), Work: cut(&work, &room)}
		_ = c.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err := c.f.write(frame); err != nil {
			return err
		}
	}
	return nil
}

// cut takes messages off for as long as there is room, or one if nothing was put into the frame yet.
func cut[M proto.Message](ms *[]M, room *int) []M {
	n := 0
	for n < len(*ms) {
		size := proto.Size((*ms)[n])
		if size > *room && *room < fullFrame {
			break
		}
		*room -= size
		n++
	}
	head := (*ms)[:n]
	*ms = (*ms)[n:]
	return head
}

// probe finds out whether anybody listens. A process that ends may still be called for a moment, and is gone before it answers.
func (p *peer) probe(ctx context.Context) {
	for range probes {
		c, err := p.dial(ctx)
		if errors.Is(err, syscall.ECONNREFUSED) || ctx.Err() != nil {
			return
		}
		if err == nil {
			stop := context.AfterFunc(ctx, func() { c.Close() })
			_ = c.SetReadDeadline(time.Now().Add(probeTime))
			_, err = c.Read(make([]byte, 1))
			stop()
			c.Close()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // it waits for what we have to say
		}
	}
}

func (p *peer) dial(ctx context.Context) (net.Conn, error) {
	addr, ok := p.n.cfg.Addr(p.id)
	if !ok {
		return nil, errors.New("no address")
	}
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := p.n.cfg.Dial(dial, addr)
	if errors.Is(err, syscall.ECONNREFUSED) && p.n.cfg.Gone != nil {
		p.n.cfg.Gone(p.id)
	}
	return nc, err
}

func (p *peer) connect(ctx context.Context) (*conn, error) {
	nc, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	// Whatever the other end does, this one ends when it is told to.
	c := &conn{Conn: nc, f: newFrames(nc), stop: context.AfterFunc(ctx, func() { nc.Close() })}
	_ = c.SetDeadline(time.Now().Add(helloTimeout))
	var w peerv1.Welcome
	err = c.f.write(&peerv1.Hello{Cluster: p.n.cfg.Cluster, From: string(p.n.cfg.Self), To: string(p.id)})
	if err == nil {
		err = c.f.read(&w, maxHello)
	}
	if err == nil && w.Refused != "" {
		err = errors.New(w.Refused)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, c.SetDeadline(time.Time{})
}
