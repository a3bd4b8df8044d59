package node

import (
	"context"
	"net"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/node/rpc"
)

// How long requests may go on once the node stops, which is as long as calls may take unless more is allowed, and how long an
// idle connection is kept for the request that may be on its way.
const stopGrace, idleGrace = 30 * time.Second, 2 * time.Second

// serve answers requests. When ctx ends it goes in steps, so that no request fails: it says that it is not ready, has others lead what
// this node leads, takes no new connections, ends streams that would go on for ever, and waits for the rest.
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
	n.stops.Store(true)
	// Until now requests waited for no election: they need not later, either.
	grace, stop := context.WithTimeout(base, handOverTime)
	n.engine.HandOver(grace)
	stop()
	time.Sleep(n.cfg.Linger)
	n.server.shut(n.listener)
	n.stop()
	grace, stop = context.WithTimeout(base, stopGrace)
	defer stop()
	n.server.drain(grace, idleGrace)
	n.calls.Idle(grace) // those that run for other nodes as well
	<-done
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
