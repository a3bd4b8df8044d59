package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

// pipes is a listener whose connections are made in memory, so that time can be skipped.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) dial(context.Context, string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-p.closed:
		return nil, errors.New("nobody listens")
	}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (n *Network) known() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.peers)
}

// What is kept for a node ends once there was nothing to send to it for a while, whether it can be reached or not; with
// the next message it begins anew, and nothing is lost.
func TestIdle(t *testing.T) {
	t.Parallel()
	for name, there := range map[string]bool{"there": true, "gone": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				// The bubble ends only if all goroutines have.
				defer wg.Wait()
				defer cancel()
				at, got := newPipes(), make(chan int, 1000)
				run := func(self shard.NodeID, l *pipes) *Network {
					n := New(Config{
						Cluster: "c", Self: self, Listener: l, Dial: at.dial, Addr: func(shard.NodeID) (string, bool) { return "somewhere", there },
						Receive: func(_ shard.NodeID, ms []*peerv1.ShardMessage) {
							for _, m := range ms {
								got <- int(m.Shard)
							}
						},
					})
					wg.Go(func() {
						if err := n.Run(ctx); err != nil {
							t.Error(err)
						}
					})
					return n
				}
				run("b", at)
				a := run("a", newPipes())
				sent := 0
				send := func(wait time.Duration) {
					a.Send("b", []*peerv1.ShardMessage{message(sent, 1)})
					sent++
					time.Sleep(wait)
					synctest.Wait()
				}
				for range 10 {
					send(idleTimeout - time.Second)
					if a.known() != 1 {
						t.Fatal("forgotten while there was something to send")
					}
				}
				for range 3 {
					time.Sleep(2 * idleTimeout)
					if synctest.Wait(); a.known() != 0 {
						t.Fatal("not forgotten")
					}
					send(0)
				}
				// Just when it ends.
				for range 100 {
					send(idleTimeout)
				}
				if !there {
					if a.Dropped() != uint64(sent) {
						t.Errorf("%d of %d dropped", a.Dropped(), sent)
					}
					return
				}
				for i := range sent {
					if m := <-got; m != i {
						t.Fatalf("message %d came in place of %d", m, i)
					}
				}
			})
		})
	}
}

// What was not sent to a node that left is not kept, and it can come back.
func TestForget(t *testing.T) {
	t.Parallel()
	w := &town{addrs: map[shard.NodeID]string{}}
	a, _, _ := w.node(t, "a", "c", "127.0.0.1:0")
	_, got, _ := w.node(t, "b", "c", "127.0.0.1:0")
	sendUntil(t, a, "b", got)
	a.Forget("b")
	if a.known() != 0 {
		t.Error("still known")
	}
	sendUntil(t, a, "b", got)
}

// A node that refuses is tried again soon, so that who waits to hear that its process is gone does; one that does not answer is not.
func TestTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err         error
		least, most int // times in ten seconds
	}{
		"refused":   {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, 50, 101},
		"no answer": {errors.New("no route"), 10, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				defer wg.Wait()
				defer cancel()
				tries, gone := 0, 0
				a := New(Config{
					Cluster: "c", Self: "a", Listener: newPipes(), Addr: func(shard.NodeID) (string, bool) { return "somewhere", true },
					Dial: func(context.Context, string) (net.Conn, error) { tries++; return nil, c.err },
					Gone: func(shard.NodeID) { gone++ },
				})
				wg.Go(func() {
					if err := a.Run(ctx); err != nil {
						t.Error(err)
					}
				})
				for range 1000 {
					a.Send("b", []*peerv1.ShardMessage{message(0, 1)})
					time.Sleep(10 * time.Millisecond)
				}
				synctest.Wait()
				if tries < c.least || tries > c.most {
					t.Errorf("tried %d times, want %d to %d", tries, c.least, c.most)
				}
				if refused := errors.Is(c.err, syscall.ECONNREFUSED); refused && gone != tries || !refused && gone > 0 {
					t.Errorf("%d of %d times it was taken for gone", gone, tries)
				}
			})
		})
	}
}
