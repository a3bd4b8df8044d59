package link

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"net"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// town is where the nodes of a test listen.
type town struct {
	mu    sync.Mutex
	addrs map[shard.NodeID]string
}

func (t *town) addr(id shard.NodeID) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	a, ok := t.addrs[id]
	return a, ok
}

type delivery struct {
	from shard.NodeID
	m    *peerv1.ShardMessage
	work *peerv1.WorkMessage
}

// node runs a Network until the test or stop ends it.
func (w *town) node(t *testing.T, id shard.NodeID, cluster, addr string) (n *Network, got chan delivery, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.addrs[id] = l.Addr().String()
	w.mu.Unlock()
	got = make(chan delivery)
	ctx, cancel := context.WithCancel(t.Context())
	n = New(Config{Cluster: cluster, Self: id, Listener: l, Addr: w.addr, MaxQueued: 1 << 20, Receive: func(from shard.NodeID, ms []*peerv1.ShardMessage) {
		for _, m := range ms {
			select {
			case got <- delivery{from: from, m: m}:
			case <-ctx.Done():
			}
		}
	}, Work: func(from shard.NodeID, ms []*peerv1.WorkMessage) {
		for _, m := range ms {
			select {
			case got <- delivery{from: from, work: m}:
			case <-ctx.Done():
			}
		}
	}, Gone: func(gone shard.NodeID) {
		select {
		case got <- delivery{from: gone}:
		case <-ctx.Done():
		}
	}})
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return n, got, stop
}

func message(i int, size int) *peerv1.ShardMessage {
	return &peerv1.ShardMessage{Shard: uint32(i), Body: &peerv1.ShardMessage_Raft{Raft: make([]byte, size)}}
}

func TestInOrder(t *testing.T) {
	t.Parallel()
	w := &town{addrs: map[shard.NodeID]string{}}
	a, gotA, _ := w.node(t, "a", "c", "127.0.0.1:0")
	b, gotB, _ := w.node(t, "b", "c", "127.0.0.1:0")
	const n = 1000
	go func() {
		for i := range n {
			a.Send("b", []*peerv1.ShardMessage{message(i, i)})
		}
	}()
	for i := range n {
		if d := <-gotB; d.from != "a" || int(d.m.Shard) != i || len(d.m.GetRaft()) != i {
			t.Fatalf("message %d of %s with %d bytes, want %d", d.m.Shard, d.from, len(d.m.GetRaft()), i)
		}
	}
	b.Send("a", []*peerv1.ShardMessage{message(7, 0), message(8, 0)})
	if x, y := <-gotA, <-gotA; x.m.Shard != 7 || y.m.Shard != 8 || x.from != "b" {
		t.Errorf("got %v and %v", x, y)
	}
}

// sendUntil sends until something arrives: what is sent while there is no connection is dropped.
func sendUntil(t *testing.T, n *Network, to shard.NodeID, got chan delivery) {
	t.Helper()
	for i := 0; ; i++ {
		n.Send(to, []*peerv1.ShardMessage{message(i, 1)})
		select {
		case <-got:
			return
		case <-t.Context().Done():
			t.Fatal("nothing arrives")
		default:
		}
	}
}

func TestComesBack(t *testing.T) {
	t.Parallel()
	w := &town{addrs: map[shard.NodeID]string{}}
	a, _, _ := w.node(t, "a", "c", "127.0.0.1:0")
	_, got, stop := w.node(t, "b", "c", "127.0.0.1:0")
	sendUntil(t, a, "b", got)
	stop()
	a.Send("b", []*peerv1.ShardMessage{message(1, 1)})
	_, got, _ = w.node(t, "b", "c", "127.0.0.1:0")
	sendUntil(t, a, "b", got)
}

// A reader that stands still holds up neither Send nor the end.
func TestFullQueue(t *testing.T) {
	t.Parallel()
	w := &town{addrs: map[shard.NodeID]string{}}
	a, _, stop := w.node(t, "a", "c", "127.0.0.1:0")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.addrs["b"] = l.Addr().String()
	for a.Dropped() == 0 {
		a.Send("b", []*peerv1.ShardMessage{message(0, 64<<10)})
	}
	stop()
}

func TestRefused(t *testing.T) {
	t.Parallel()
	w := &town{addrs: map[shard.NodeID]string{}}
	_, got, _ := w.node(t, "a", "c", "127.0.0.1:0")
	addr, _ := w.addr("a")
	for name, h := range map[string]*peerv1.Hello{
		"stranger":     {Cluster: "other", From: "x", To: "a"},
		"another here": {Cluster: "c", From: "x", To: "before"},
		"itself":       {Cluster: "c", From: "a", To: "a"},
		"nobody":       {Cluster: "c", To: "a"},
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		f := newFrames(c)
		var answer peerv1.Welcome
		if err := f.write(h); err != nil {
			t.Fatal(err)
		}
		if err := f.read(&answer, maxHello); err != nil || answer.Refused == "" {
			t.Errorf("%s: %q, %v", name, answer.Refused, err)
		}
		if f.read(&answer, maxHello) == nil {
			t.Errorf("%s: still connected", name)
		}
		c.Close()
	}
	select {
	case d := <-got:
		t.Errorf("received %v", d)
	default:
	}
}

// Garbage ends the connection it came on, and nothing else.
func TestGarbage(t *testing.T) {
	t.Parallel()
	w := &town{addrs: map[shard.NodeID]string{}}
	_, got, _ := w.node(t, "a", "c", "127.0.0.1:0")
	addr, _ := w.addr("a")
	for _, b := range []string{"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\x00\x00\x00\x00", "\x01\x00\x00\x00\x00\x00\x00\x00x"} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(b)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 10)); err == nil {
			t.Errorf("%q was answered with %d bytes", b, n)
		}
		c.Close()
	}
	b, _, _ := w.node(t, "b", "c", "127.0.0.1:0")
	sendUntil(t, b, "a", got)
}

// What is not for a shard arrives as well. When a node's process ends, those it was connected to are told, whether or not they have
// something to say to it.
func TestWorkAndGone(t *testing.T) {
	t.Parallel()
	w := &town{addrs: map[shard.NodeID]string{}}
	_, got, _ := w.node(t, "a", "c", "127.0.0.1:0")
	b, _, stop := w.node(t, "b", "c", "127.0.0.1:0")
	sendUntil(t, b, "a", got)
	b.SendWork("a", &peerv1.WorkMessage{Body: &peerv1.WorkMessage_Reply{Reply: &peerv1.WorkReply{Seq: 7}}})
	for {
		d := <-got
		if d.m != nil {
			continue
		}
		if d.from != "b" || d.work.GetReply().GetSeq() != 7 {
			t.Fatalf("got %v", d)
		}
		break
	}
	stop()
	for {
		if d := <-got; d.m == nil && d.work == nil {
			if d.from != "b" {
				t.Errorf("%s is gone, want b", d.from)
			}
			return
		}
	}
}

// buffer is a connection to itself.
type buffer struct{ bytes.Buffer }

func FuzzFrames(f *testing.F) {
	frame := func(m proto.Message) []byte {
		var b buffer
		if err := newFrames(&b).write(m); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	f.Add(frame(&peerv1.PeerMessages{Shards: []*peerv1.ShardMessage{message(1, 10), message(2, 0)}}))
	f.Add(append(frame(&peerv1.Hello{Cluster: "c", From: "a", To: "b"}), 1, 2, 3))
	f.Add([]byte("\xff\xff\xff\x03\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := newFrames(&buffer{*bytes.NewBuffer(slices.Clone(b))})
		for {
			var ms peerv1.PeerMessages
			if in.read(&ms, maxFrame) != nil {
				return
			}
			// What was taken for a message says so itself.
			n := binary.LittleEndian.Uint32(b)
			body := b[frameHead : frameHead+n]
			if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[4:]) {
				t.Fatalf("a frame with a wrong checksum was read: %x", b[:frameHead+n])
			}
			b = b[frameHead+n:]
		}
	})
}
