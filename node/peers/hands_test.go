package peers

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/cockroachdb/pebble/v2/vfs"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/directory"
	"github.com/wattlehq/wattle/store"
)

const notesID machine.ID = 200

// notes keeps "key=value", counts changes at "n", and forgets everything, the count as well, at "clear".
type notes struct{}

func (notes) Apply(tx machine.Tx, cmd machine.Command) (machine.Result, []machine.Effect) {
	if string(cmd.Body) == "clear" {
		for k := range tx.Scan(nil, nil) {
			tx.Delete(k)
		}
		return machine.Result{}, nil
	}
	k, v, _ := strings.Cut(string(cmd.Body), "=")
	n, _ := tx.Get([]byte("n"))
	tx.Set([]byte("n"), append(n, '1'))
	tx.Set([]byte(k), []byte(v))
	return machine.Result{}, nil
}

func (notes) Resume(machine.Reader) []machine.Effect         { return nil }
func (notes) Refs(machine.Reader, func(digest.Digest, bool)) {}
func (notes) Lead(shard.ID, uint64, []machine.Effect)        {}
func (notes) Applied(shard.ID, uint64, []machine.Effect)     {}
func (notes) Installed(shard.ID)                             {}
func (notes) Yield(shard.ID)                                 {}
func (notes) drop(shard.NodeID, []*peerv1.ShardMessage)      {}
func nobody() []*peerv1.Lack                                 { return nil }

// engine runs one on a table of one shard, which the founders have.
func engine(t *testing.T, self shard.NodeID, founders ...shard.NodeID) *shard.Engine {
	t.Helper()
	s, err := store.Open(store.Options{FS: vfs.NewMem(), Dir: "data", Fatal: func(err error) { panic(err) }})
	if err != nil {
		t.Fatal(err)
	}
	table, err := shard.NewTable(1)
	if err != nil {
		t.Fatal(err)
	}
	if _, table, err = shard.Found(s, shard.Founding{Identity: &storev1.Identity{NodeId: string(self), ClusterId: "c"}, Table: table, Nodes: founders}); err != nil {
		t.Fatal(err)
	}
	e, err := shard.New(shard.Config{
		Store: s, Table: table, Node: self, Sink: notes{}, Send: notes{}.drop, Machines: map[machine.ID]machine.Machine{notesID: notes{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// served has node a answer with an engine, and returns clients that find every node there.
func served(t *testing.T, e *shard.Engine) *Clients {
	t.Helper()
	_, h := (&Server{Hands: &Hands{Self: "a", Engine: e, Lacks: nobody, Stopping: never}}).Handler()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	clients := NewClients(func(shard.NodeID) (string, bool) { return l.Addr().String(), true })
	t.Cleanup(clients.Close)
	return clients
}

// A node without a replica is sent what a machine keeps when that has changed, and nothing when it has not.
func TestReadUnless(t *testing.T) {
	t.Parallel()
	leads := engine(t, "a", "a")
	clients := served(t, leads)
	here := &Router{Hands: &Hands{Self: "b", Engine: engine(t, "b"), Peers: clients}, Alive: func() [][]shard.NodeID { return [][]shard.NodeID{{"a"}} }}
	there := &Router{Hands: &Hands{Self: "a", Engine: leads}}
	for name, r := range map[string]*Router{"here": there, "elsewhere": here} {
		unless := &peerv1.Unless{Key: []byte("n")}
		read := func() (fetched string) {
			t.Helper()
			fetched = "nothing"
			err := r.ReadUnless(t.Context(), 3, notesID, unless, func(in machine.Reader) error {
				fetched = ""
				for k, v := range in.Scan([]byte("o"), nil) {
					fetched += string(k) + "=" + string(v) + " "
				}
				n, _ := in.Get([]byte("n"))
				unless.Value = append([]byte(nil), n...)
				return nil
			})
			if err != nil {
				t.Fatal(name, err)
			}
			return fetched
		}
		write := func(what string) {
			t.Helper()
			if _, err := here.Propose(t.Context(), shard.Proposal{Slot: 3, Machine: notesID, Body: []byte(what)}); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		got = append(got, read()) // as it was never written to, there is nothing to be known
		write("x=1")
		got = append(got, read(), read())
		write("y=2")
		got = append(got, read(), read())
		write("clear")
		got = append(got, read(), read())
		if all := strings.Join(got, ","); all != "nothing,x=1 ,nothing,x=1 y=2 ,nothing,,nothing" {
			t.Errorf("%s: %s", name, all)
		}
	}
	// What goes over the wire when nothing has changed is one message without pairs.
	c, err := clients.Of("a")
	if err != nil {
		t.Fatal(err)
	}
	in, err := c.Read(t.Context(), connect.NewRequest(&peerv1.ReadRequest{Machine: uint32(notesID), Slots: []uint32{3}, Unless: &peerv1.Unless{Key: []byte("n")}}))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	for n := 0; in.Receive(); n++ {
		if m := in.Msg(); n > 0 || !m.Unchanged || len(m.Pairs) > 0 {
			t.Errorf("message %d: %v", n, m)
		}
	}
	if err := in.Err(); err != nil {
		t.Error(err)
	}
}

// What is asked of a node's own replicas is asked as of any other's, and refused alike.
func TestHands(t *testing.T) {
	t.Parallel()
	e := engine(t, "a", "a")
	<-e.Ready()
	clients := served(t, e)
	for self, hands := range map[shard.NodeID]*Hands{"a": {Self: "a", Engine: e, Lacks: nobody, Stopping: never}, "b": {Self: "b", Peers: clients}} {
		reports := hands.Ask(t.Context(), []shard.NodeID{"a"})
		if got := directory.Find(reports)[0]; got.Node != "a" || !got.Has(1) || len(got.Members) != 1 {
			t.Errorf("seen from %s: %v", self, reports)
		}
		if err := hands.Change(t.Context(), "a", 0, []shard.Change{{Promote: 9}}); err == nil || !strings.Contains(err.Error(), "replica 9 is none") {
			t.Errorf("seen from %s: %v", self, err)
		}
	}
}

func never() bool { return false }
