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
	conns   map[net.Conn]*conn
	changed chan struct{} // holds a word when connections changed
}

// conn is a connection as the server sees it.
type conn struct {
	idle  bool
	http2 atomic.Bool
}

type connKey struct{}

func newServer(h http.Handler) *server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &server{conns: map[net.Conn]*conn{}, changed: make(chan struct{}, 1)}
	s.Server = http.Server{
		Protocols: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ConnState: s.note,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			known := &conn{idle: true}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conns[c] = known
			return context.WithValue(ctx, connKey{}, known)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if c, ok := r.Context().Value(connKey{}).(*conn); ok && r.ProtoMajor > 1 {
				c.http2.Store(true)
			}
			if s.closing.Load() {
				w.Header().Set("Connection", "close") // over HTTP/2 a GOAWAY
			}
			h.ServeHTTP(w, r)
		}),
	}
	return s
}

// note is told what becomes of connections.
func (s *server) note(nc net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(s.conns, nc)
	} else if c := s.conns[nc]; c != nil {
		c.idle = state == http.StateIdle || state == http.StateNew
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
	// What is left speaks HTTP/2, and can be told to go.
	if s.Shutdown(ctx) != nil {
		s.Close()
	}
}

// http1 counts connections that cannot be told to go, and closes them if they are idle and that is over.
func (s *server) http1(over bool) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for nc, c := range s.conns {
		switch {
		case c.http2.Load():
		case over && c.idle:
			nc.Close()
		default:
			n++
		}
	}
	return n
}
