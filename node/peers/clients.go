package peers

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/gen/wattle/peer/v1/peerv1connect"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
)

// Clients ask other nodes. They may be used concurrently.
type Clients struct {
	// addr returns where a node answers others, if it is known.
	addr func(shard.NodeID) (string, bool)
	http *http.Client

	mu    sync.Mutex
	known map[string]peerv1connect.PeerServiceClient // by address and whom is meant
}

// NewClients returns Clients that look addresses up when they need them.
func NewClients(addr func(shard.NodeID) (string, bool)) *Clients {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &Clients{
		addr: addr, known: map[string]peerv1connect.PeerServiceClient{},
		http: &http.Client{Transport: addressed{&http.Transport{
			Protocols: p, DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
			// One that went silent without a word is noticed.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second},
		}}},
	}
}

// addressed tells a request that another node got from one whose fate is not known.
type addressed struct{ *http.Transport }

var errOtherNode = errors.New("another node has its address now")

func (a addressed) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := a.Transport.RoundTrip(r)
	if err == nil && res.StatusCode == http.StatusMisdirectedRequest {
		res.Body.Close()
		return nil, errOtherNode
	}
	return res, err
}

// Close ends idle connections.
func (c *Clients) Close() { c.http.CloseIdleConnections() }

// at returns the client of an address. With an id, only that node answers: another may have taken its place there.
func (c *Clients) at(addr string, id shard.NodeID) peerv1connect.PeerServiceClient {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := addr + " " + string(id)
	p := c.known[key]
	if p == nil {
		// Answers of functions have bounds of their own. Nothing is compressed: that takes longer than sending it.
		p = peerv1connect.NewPeerServiceClient(c.http, "http://"+addr, connect.WithAcceptCompression("gzip", nil, nil), connect.WithInterceptors(addressee{id}))
		c.known[key] = p
	}
	return p
}

// forNode is the header that says which node a request is for.
const forNode = "Wattle-Node"

// addressee writes it.
type addressee struct{ id shard.NodeID }

func (a addressee) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		if req.Spec().IsClient && a.id != "" {
			req.Header().Set(forNode, string(a.id))
		}
		return next(ctx, req)
	}
}

func (a addressee) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		if a.id != "" {
			conn.RequestHeader().Set(forNode, string(a.id))
		}
		return conn
	}
}

func (addressee) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// Of returns the client of a node.
func (c *Clients) Of(id shard.NodeID) (peerv1connect.PeerServiceClient, error) {
	addr, ok := c.addr(id)
	if !ok {
		return nil, fault.New(fault.Unavailable, "unknown_node", "node %s is not known here", id).Hint("try again in a moment")
	}
	return c.at(addr, id), nil
}

// Dismiss tells a node that it was removed from the cluster.
func (c *Clients) Dismiss(ctx context.Context, id shard.NodeID) error {
	p, err := c.Of(id)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err = p.Dismiss(ctx, connect.NewRequest(&peerv1.DismissRequest{}))
	return err
}

// each asks nodes at once, and returns when all have answered or failed.
func each(ctx context.Context, nodes []shard.NodeID, timeout time.Duration, ask func(context.Context, int, shard.NodeID)) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() { ask(ctx, i, n) })
	}
	wg.Wait()
}
