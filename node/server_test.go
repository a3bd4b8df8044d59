package node

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"
)

// served runs a server until the test ends, and answers where.
func served(t *testing.T, h http.HandlerFunc) (*server, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(h)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		<-done
	})
	return s, l
}

type wire struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, l net.Listener) *wire {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &wire{t, c, bufio.NewReader(c)}
}

func (w *wire) ask() {
	w.t.Helper()
	if _, err := io.WriteString(w, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
		w.t.Fatal(err)
	}
}

// answer reads one answer, and tells whether it is the connection's last.
func (w *wire) answer() (last bool) {
	w.t.Helper()
	res, err := http.ReadResponse(w.r, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		w.t.Errorf("status %d, %v", res.StatusCode, err)
	}
	return res.Close
}

// Whoever has a connection when the server stops has a last request answered on it, also one who has not asked anything yet; nobody gets
// another; and one that stays idle does not hold the end up.
func TestDrain(t *testing.T) {
	t.Parallel()
	begun, finish := make(chan struct{}, 10), make(chan struct{})
	s, l := served(t, func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		if s := r.Context().Done(); s == nil {
			t.Error("no context")
		}
		<-finish
	})
	used, fresh, idle, busy := dial(t, l), dial(t, l), dial(t, l), dial(t, l)
	for _, w := range []*wire{used, idle} {
		w.ask()
		<-begun
		finish <- struct{}{}
		if w.answer() {
			t.Error("closed before it stops")
		}
	}
	busy.ask()
	<-begun
	s.shut(l)
	if _, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new connection: %v", err)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		s.drain(t.Context(), time.Second)
	}()
	used.ask()
	fresh.ask()
	<-begun
	<-begun
	close(finish)
	for _, w := range []*wire{used, fresh, busy} {
		if !w.answer() {
			t.Error("the answer does not say that it is the last")
		}
	}
	<-drained
	if _, err := idle.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the idle connection: %v", err)
	}
}

// What does not end is not waited for any longer than the caller wants.
func TestDrainGivesUp(t *testing.T) {
	t.Parallel()
	begun := make(chan struct{})
	s, l := served(t, func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})
	dial(t, l).ask()
	<-begun
	s.shut(l)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	s.drain(ctx, 0)
	if n := s.http1(false); n > 1 {
		t.Errorf("%d connections are left", n)
	}
}

// A connection over which only things were read, as by who collects metrics, is not waited for.
func TestDrainDoesNotWaitForReaders(t *testing.T) {
	t.Parallel()
	s, l := served(t, func(http.ResponseWriter, *http.Request) {})
	w := dial(t, l)
	if _, err := io.WriteString(w, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	w.answer()
	s.shut(l)
	s.drain(t.Context(), time.Hour)
	if _, err := w.r.ReadByte(); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
