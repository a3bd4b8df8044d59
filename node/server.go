package node

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// server is an HTTP server that can be stopped without failing a request. http.Server alone closes connections that are idle at once, and
// drops requests that are being read.
type server struct {
	http.Server
	closing atomic.Bool // every answer is its connection's last

	mu      sync.Mutex
	conns   map[*conn]bool
	changed chan struct{} // holds a word when connections changed
}

type connKey struct{}

func newServer(h http.Handler) *server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &server{conns: map[*conn]bool{}, changed: make(chan struct{}, 1)}
	s.Server = http.Server{
		Protocols: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ConnState: s.note,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(connKey{}).(*conn); ok {
				c.heard(r)
			}
			a := &answer{w, s, false}
			h.ServeHTTP(a, r)
			a.head() // if it has no body
		}),
	}
	return s
}

// answer says of itself that it is its connection's last, if the server is closing by the time it begins. Nothing else may close the
// connection: after an answer that did not say so, the next request may be on its way. Over HTTP/2 it becomes a GOAWAY.
type answer struct {
	http.ResponseWriter
	s     *server
	begun bool
}

func (a *answer) head() {
	if !a.begun && a.s.closing.Load() {
		a.Header().Set("Connection", "close")
	}
	a.begun = true
}

func (a *answer) WriteHeader(status int) {
	if status >= 200 {
		a.head()
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(p []byte) (int, error) {
	a.head()
	return a.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (a *answer) Flush() {
	a.head()
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap lets http.ResponseController have what it wraps.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Serve is http.Server.Serve.
func (s *server) Serve(l net.Listener) error { return s.Server.Serve(listening{l, s}) }

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
	s     *server
	http2 atomic.Bool
	// Whether there were requests that only read, which clients make again by themselves, and others.
	reads, writes atomic.Bool
	idle          bool // guarded by s.mu
}

// heard notes what came over a connection.
func (c *conn) heard(r *http.Request) {
	switch {
	case r.ProtoMajor > 1:
		c.http2.Store(true)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		c.reads.Store(true)
	default:
		c.writes.Store(true)
	}
}

// Close closes the connection, unless it is idle and the server is about to stop: drain decides when that goes.
func (c *conn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if c.idle && c.s.closing.Load() && !c.http2.Load() {
		return nil
	}
	return c.Conn.Close()
}

// CloseWrite lets the server end an answer before it closes.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// note is told what becomes of connections.
func (s *server) note(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.idle = state == http.StateIdle || state == http.StateNew; state == http.StateClosed {
		c.Conn.Close()
		delete(s.conns, c)
	}
	poke(s.changed)
}

// shut takes no further connections, and has each of those there are go with its next answer.
func (s *server) shut(l net.Listener) {
	s.closing.Store(true)
	turnAway(l)
	l.Close()
}

// drain ends in good order after shut. Connections that are idle have a while for the request that may be on its way; what is under way is
// waited for, until ctx ends.
func (s *server) drain(ctx context.Context, idle time.Duration) {
	end := time.NewTimer(idle)
	defer end.Stop()
	over := false
	for ctx.Err() == nil && s.http1(over) > 0 {
		select {
		case <-s.changed:
		case <-end.C:
			over = true
		case <-ctx.Done():
		}
	}
	s.http1(true)
	// What is left speaks HTTP/2, and can be told to go.
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
}

// http1 counts connections that cannot be told to go, and closes those that are idle if they need no sparing, or that is over.
func (s *server) http1(over bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		switch {
		case c.http2.Load():
		case c.idle && (over || c.reads.Load() && !c.writes.Load()):
			c.Conn.Close()
		default:
			n++
		}
	}
	return n
}
