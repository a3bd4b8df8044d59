package shard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

// counter is a machine that counts how often each body was applied and keeps a running total.
type counter struct{}

const counterID machine.ID = 200

type counted struct{ body string }

func (counter) Apply(tx machine.Tx, cmd machine.Command) (machine.Result, []machine.Effect) {
	if string(cmd.Body) == "refuse" {
		return machine.Result{Err: fault.New(fault.Invalid, "refused", "no")}, nil
	}
	v, _ := tx.Get(cmd.Body)
	n := uint64(1)
	if v != nil {
		n += binary.BigEndian.Uint64(v)
	}
	tx.Set(cmd.Body, binary.BigEndian.AppendUint64(nil, n))
	return machine.Result{Value: binary.BigEndian.AppendUint64(nil, n)}, []machine.Effect{counted{string(cmd.Body)}}
}

func (counter) Resume(r machine.Reader) (effects []machine.Effect) {
	for k := range r.Scan(nil, nil) {
		effects = append(effects, counted{string(k)})
	}
	return effects
}

func (counter) Refs(machine.Reader, func(digest.Digest, bool)) {}

// recorder is a Sink that remembers.
type recorder struct {
	mu      sync.Mutex
	leads   map[ID]uint64
	led     chan ID // gets every shard that is led
	resumed []string
	effects []string
}

func (r *recorder) Lead(id ID, term uint64, effects []machine.Effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leads == nil {
		r.leads = map[ID]uint64{}
	}
	r.leads[id] = term
	for _, e := range effects {
		r.resumed = append(r.resumed, e.(counted).body)
	}
	select {
	case r.led <- id:
	default:
	}
}

func (r *recorder) Applied(_ ID, term uint64, effects []machine.Effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range effects {
		if term != 0 {
			r.effects = append(r.effects, e.(counted).body)
		}
	}
}

func (r *recorder) Installed(ID) {}

func (r *recorder) Yield(id ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.leads, id)
}

type testNode struct {
	*Engine
	store *store.Store
	sink  *recorder
	stop  func() error
}

// startNode opens and runs one node. stop ends it without closing the store, as a crash would.
func startNode(t testing.TB, fs store.FS, node NodeID, founders []NodeID, shards uint32, tune func(*Config)) *testNode {
	t.Helper()
	return startNodeIn(t, fs, "data", node, founders, shards, tune)
}

func startNodeIn(t testing.TB, fs store.FS, dir string, node NodeID, founders []NodeID, shards uint32, tune func(*Config)) *testNode {
	t.Helper()
	s, err := store.Open(store.Options{FS: fs, Dir: dir, Fatal: func(err error) { panic(err) }})
	if err != nil {
		t.Fatal(err)
	}
	table, err := NewTable(shards)
	if err != nil {
		t.Fatal(err)
	}
	_, table, err = Found(s, Founding{Identity: &storev1.Identity{NodeId: string(node)}, Table: table, Nodes: founders})
	if err != nil {
		t.Fatal(err)
	}
	n := &testNode{store: s, sink: &recorder{led: make(chan ID, 100)}}
	cfg := Config{Store: s, Table: table, Node: node, Machines: map[machine.ID]machine.Machine{counterID: counter{}}, Sink: n.sink, Tick: 10 * time.Millisecond}
	if tune != nil {
		tune(&cfg)
	}
	if n.Engine, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	n.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *testNode) count(t testing.TB, body string) uint64 {
	t.Helper()
	res, err := n.Propose(t.Context(), Proposal{Slot: SlotOf(body), Machine: counterID, Body: []byte(body)})
	if err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.Uint64(res.Value)
}

func (n *testNode) read(t testing.TB, body string) (v uint64) {
	t.Helper()
	err := n.Read(t.Context(), SlotOf(body), counterID, func(r machine.Reader) error {
		if b, ok := r.Get([]byte(body)); ok {
			v = binary.BigEndian.Uint64(b)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestProposeReadRestart(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	n := startNode(t, fs, "a", []NodeID{"a"}, 16, nil)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() { n.count(t, fmt.Sprint("k", i%50)) })
	}
	wg.Wait()
	for i := range 50 {
		if got := n.read(t, fmt.Sprint("k", i)); got != 4 {
			t.Errorf("k%d: %d, want 4", i, got)
		}
	}
	if syncs := n.Counts().Syncs; syncs > 150 {
		t.Errorf("%d syncs for 200 concurrent proposals: not batched", syncs)
	}
	res, err := n.Propose(t.Context(), Proposal{Machine: counterID, Body: []byte("refuse")})
	if err != nil || res.Err == nil || res.Err.Reason != "refused" {
		t.Errorf("refusal came back as %+v, %v", res, err)
	}
	// A crash that drops whatever was not synced: the state store has nothing, the log everything.
	after := startNode(t, fs.CrashClone(vfs.CrashCloneCfg{}), "a", []NodeID{"a"}, 16, nil)
	for i := range 50 {
		if got := after.read(t, fmt.Sprint("k", i)); got != 4 {
			t.Errorf("after the crash k%d: %d, want 4", i, got)
		}
	}
	for range 16 {
		<-after.sink.led
	}
	if after.Counts().Replayed == 0 {
		t.Error("nothing was replayed")
	}
	after.sink.mu.Lock()
	defer after.sink.mu.Unlock()
	if len(after.sink.resumed) != 50 {
		t.Errorf("resumed %d effects, want 50", len(after.sink.resumed))
	}
}

func TestTrim(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	n := startNode(t, fs, "a", []NodeID{"a"}, 2, func(c *Config) { c.TrimEntries = 20 })
	for i := 0; n.Counts().Trimmed == 0; i++ {
		n.count(t, fmt.Sprint("k", i%10))
		if i > 100_000 {
			t.Fatal("never trimmed")
		}
	}
	want := map[string]uint64{}
	for i := range 10 {
		k := fmt.Sprint("k", i)
		want[k] = n.read(t, k)
	}
	after := startNode(t, fs.CrashClone(vfs.CrashCloneCfg{}), "a", []NodeID{"a"}, 2, nil)
	for k, v := range want {
		if got := after.read(t, k); got != v {
			t.Errorf("%s: %d after the crash, %d before", k, got, v)
		}
	}
}

func TestOverload(t *testing.T) {
	t.Parallel()
	n := startNode(t, vfs.NewCrashableMem(), "a", []NodeID{"a"}, 1, func(c *Config) { c.MaxQueued = 10 })
	_, err := n.Propose(t.Context(), Proposal{Machine: counterID, Body: make([]byte, 11), Admit: true})
	if fault.Reason(err) != "overloaded" {
		t.Errorf("admission beyond the bound: %v", err)
	}
	if _, err := n.Propose(t.Context(), Proposal{Machine: counterID, Body: make([]byte, 11)}); err != nil {
		t.Errorf("a completion was refused: %v", err)
	}
	if _, err := n.Propose(t.Context(), Proposal{Machine: counterID, Body: make([]byte, MaxCommand+1)}); fault.Reason(err) != "command_too_large" {
		t.Errorf("huge command: %v", err)
	}
}

func TestStopAnswersEverybody(t *testing.T) {
	t.Parallel()
	n := startNode(t, vfs.NewCrashableMem(), "a", []NodeID{"a"}, 4, nil)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for {
				_, err := n.Propose(context.Background(), Proposal{Slot: machine.Slot(i), Machine: counterID, Body: []byte("x")})
				if err != nil {
					if r := fault.Reason(err); r != "stopping" && r != "no_leader" {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	n.count(t, "y")
	if err := n.stop(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// Nothing in the engine assumes one voter: three of them elect, replicate and survive the loss of a leader.
func TestThreeVoters(t *testing.T) {
	t.Parallel()
	const shards = 4
	founders := []NodeID{"a", "b", "c"}
	var mu sync.RWMutex
	nodes := map[NodeID]*testNode{}
	send := func(from NodeID) func(NodeID, []*peerv1.ShardMessage) {
		return func(to NodeID, ms []*peerv1.ShardMessage) {
			mu.RLock()
			defer mu.RUnlock()
			if n := nodes[to]; n != nil {
				n.Step(from, ms)
			}
		}
	}
	for _, v := range founders {
		n := startNode(t, vfs.NewCrashableMem(), v, founders, shards, func(c *Config) { c.Send = send(v) })
		mu.Lock()
		nodes[v] = n
		mu.Unlock()
	}
	// propose finds the leader the way a client does: by asking around.
	propose := func(body string) {
		for {
			mu.RLock()
			all := make([]*testNode, 0, len(nodes))
			for _, n := range nodes {
				all = append(all, n)
			}
			mu.RUnlock()
			for _, n := range all {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				_, err := n.Propose(ctx, Proposal{Slot: SlotOf(body), Machine: counterID, Body: []byte(body)})
				cancel()
				if err == nil {
					return
				}
				if t.Context().Err() != nil {
					t.Fatal("no leader in time")
				}
				if !errors.Is(err, context.DeadlineExceeded) && fault.KindOf(err) != fault.Unavailable {
					t.Fatal(err)
				}
			}
		}
	}
	for i := range 100 {
		propose(fmt.Sprint("k", i))
	}
	var victim NodeID
	for v, n := range nodes {
		for _, s := range n.Status() {
			if s.Leading {
				victim = v
			}
		}
	}
	mu.Lock()
	dead := nodes[victim]
	delete(nodes, victim)
	mu.Unlock()
	if err := dead.stop(); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		propose(fmt.Sprint("k", i))
	}
	for i := range 100 {
		k := fmt.Sprint("k", i)
		for _, n := range nodes {
			err := n.Read(t.Context(), SlotOf(k), counterID, func(r machine.Reader) error {
				b, _ := r.Get([]byte(k))
				// A retry after an unknown outcome may count twice; less than twice in all would be a loss.
				if len(b) != 8 || binary.BigEndian.Uint64(b) < 2 {
					t.Errorf("%s: %x", k, b)
				}
				return nil
			})
			if err != nil && fault.Reason(err) != "no_leader" {
				t.Error(err)
			}
		}
	}
}
