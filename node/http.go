package node

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/node/rpc"
)

// stopGrace is how long requests may go on once the node stops.
const stopGrace = 10 * time.Second

func newServer(h http.Handler) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: p, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
}

// serve answers requests. When ctx ends no new ones are taken, streams that would go on for ever are ended, and the
// rest is waited for.
func (n *Node) serve(ctx context.Context) error {
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer n.stop()
	n.server.BaseContext = func(net.Listener) context.Context { return base }
	done := make(chan error, 1)
	go func() { done <- n.server.Serve(n.listener) }()
	n.isReady.Store(true)
	close(n.ready)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	n.isReady.Store(false)
	grace, stop := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer stop()
	n.stop()
	if err := n.server.Shutdown(grace); err != nil {
		n.server.Close()
	}
	n.calls.Idle(grace) // those that run for other nodes as well
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// lent is a listener that others can use and close, and that is there again after take back.
type lent struct{ *net.TCPListener }

func (l lent) Close() error    { return l.SetDeadline(time.Unix(1, 0)) }
func (l lent) takeBack() error { return l.SetDeadline(time.Time{}) }

// meanwhileGrace is how long the answers may take that are under way when the time comes for others.
const meanwhileGrace = time.Second

// meanwhile answers requests that come before this node can take any, until stop is called.
func (n *Node) meanwhile(why *fault.Error) (stop func() error) {
	tcp, ok := n.listener.(*net.TCPListener)
	if !ok {
		return func() error { return nil }
	}
	l, server := lent{tcp}, newServer(rpc.Unready(why, n.cfg.Hosts))
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	return func() error {
		grace, cancel := context.WithTimeout(context.Background(), meanwhileGrace)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
		<-done
		return l.takeBack()
	}
}
