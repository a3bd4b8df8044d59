package node

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// server is an HTTP server that can be stopped without failing a request. What net/http lacks for that: it closes connections that
// are idle at once, and a request may be on its way on any of them.
type server struct {
	http.Server
	closing atomic.Bool // answers ask for another connection

	mu       sync.Mutex
	conns    map[*conn]bool
	sparing  bool          // connections that are idle are not closed yet
	quiet    chan struct{} // closed when there are no connections and sparing is set
	spareFor time.Duration
}

func newServer(h http.Handler) *server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &server{conns: map[*conn]bool{}, quiet: make(chan struct{})}
	s.Server = http.Server{
		Protocols: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ConnState: s.note,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s.closing.Load() {
				w.Header().Set("Connection", "close") // over HTTP/2 a GOAWAY
			}
			h.ServeHTTP(w, r)
		}),
	}
	return s
}

// Serve is http.Server.Serve.
func (s *server) Serve(l net.Listener) error { return s.Server.Serve(listening{l, s}) }

// stop ends in good order: those whose connection is idle may use it once more for a while, what is under way is waited for until ctx
// ends. The caller has set closing a moment before, so that no answer promises that its connection goes on.
func (s *server) stop(ctx context.Context, spareFor time.Duration) {
	s.closing.Store(true)
	s.mu.Lock()
	s.sparing, s.spareFor = true, spareFor
	s.settle()
	s.mu.Unlock()
	err := s.Shutdown(ctx)
	if err == nil {
		select {
		case <-s.quiet:
			return
		case <-ctx.Done():
		}
	}
	s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Conn.Close()
	}
}

// settle is called with mu.
func (s *server) settle() {
	if s.sparing && len(s.conns) == 0 {
		select {
		case <-s.quiet:
		default:
			close(s.quiet)
		}
	}
}

// note is told what becomes of connections.
func (s *server) note(nc net.Conn, state http.ConnState) {
	if c, ok := nc.(*conn); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.idle = state == http.StateIdle || state == http.StateNew
	}
}

// listening hands out connections that the server knows.
type listening struct {
	net.Listener
	s *server
}

func (l listening) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, s: l.s, idle: true}
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	l.s.conns[c] = true
	return c, nil
}

// conn is a connection that is not closed while a request may be on its way.
type conn struct {
	net.Conn
	s    *server
	read bool // something

	// Guarded by s.mu.
	idle, spared, http2 bool
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.read {
		c.read = true
		if bytes.HasPrefix(p[:n], []byte("PRI")) { // which is told to go by itself
			c.s.mu.Lock()
			c.http2 = true
			c.s.mu.Unlock()
		}
	}
	return n, err
}

// Close closes the connection, unless it is idle and the server stops: then it waits for a request for a while.
func (c *conn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.s.sparing && c.idle && !c.http2 && !c.spared {
		c.spared = true
		time.AfterFunc(c.s.spareFor, func() {
			c.s.mu.Lock()
			defer c.s.mu.Unlock()
			if c.idle {
				c.end()
			}
		})
		return nil
	}
	return c.end()
}

// end is called with s.mu.
func (c *conn) end() error {
	delete(c.s.conns, c)
	c.s.settle()
	return c.Conn.Close()
}

// CloseWrite lets the server tell the other side that an answer was the last, before it closes.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}
