package shard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

// watchedDB tells, once, before a batch takes effect that moves where shard 0 stands, and before somebody looks at the state.
type watchedDB struct {
	store.DB
	move, look atomic.Pointer[func()]
}

type watchedBatch struct {
	store.Batch
	db    *watchedDB
	moves bool
}

func (d *watchedDB) NewBatch(indexed bool) store.Batch {
	return &watchedBatch{Batch: d.DB.NewBatch(indexed), db: d}
}

func (b *watchedBatch) Set(key, value []byte) error {
	b.moves = b.moves || bytes.Equal(key, appliedKey(0))
	return b.Batch.Set(key, value)
}

func (b *watchedBatch) Commit(sync bool) error {
	if b.moves {
		if f := b.db.move.Swap(nil); f != nil {
			(*f)()
		}
	}
	return b.Batch.Commit(sync)
}

func (d *watchedDB) Snapshot() store.Snapshot {
	if f := d.look.Swap(nil); f != nil {
		(*f)()
	}
	return d.DB.Snapshot()
}

// pair is a node that leads the only shard, whose log does not go back to its beginning any more, and one that has no replica yet.
type pair struct {
	leader, joiner *testNode
	state          *watchedDB // the joiner's
	answers        chan struct{}
	noState        atomic.Bool // is sent
}

func startPair(t *testing.T) *pair {
	p := &pair{state: &watchedDB{}, answers: make(chan struct{}, 1000)}
	var mu sync.RWMutex
	nodes := map[NodeID]*testNode{}
	start := func(name NodeID, tune func(*Config)) *testNode {
		n := startNode(t, vfs.NewCrashableMem(), name, []NodeID{"a"}, 1, func(c *Config) {
			tune(c)
			c.Send = func(to NodeID, ms []*peerv1.ShardMessage) {
				mu.RLock()
				n := nodes[to]
				mu.RUnlock()
				if n == nil {
					return
				}
				n.Step(name, slices.DeleteFunc(slices.Clone(ms), func(m *peerv1.ShardMessage) bool { return m.GetChunk() != nil && p.noState.Load() }))
				for _, m := range ms {
					var r raftpb.Message
					if proto.Unmarshal(m.GetRaft(), &r) == nil && r.GetType() == raftpb.MsgReadIndexResp {
						p.answers <- struct{}{}
					}
				}
			}
		})
		mu.Lock()
		defer mu.Unlock()
		nodes[name] = n
		return n
	}
	p.leader = start("a", func(c *Config) { c.TrimEntries = 20 })
	for p.leader.Counts().Trimmed == 0 {
		p.leader.count(t, "k")
	}
	p.joiner = start("b", func(c *Config) {
		p.state.DB = c.Store.State
		c.Store = &store.Store{FS: c.Store.FS, Dir: c.Store.Dir, Log: c.Store.Log, State: p.state}
	})
	return p
}

// add gives the joiner a replica.
func (p *pair) add(t *testing.T) {
	t.Helper()
	if err := p.leader.Change(t.Context(), 0, Change{Add: "b"}); err != nil {
		t.Fatal(err)
	}
}

// passed waits until the joiner's loop is through with what it was sent before.
func (p *pair) passed() {
	for range 2 {
		done := make(chan struct{})
		p.joiner.loop.do(p.joiner.group(0), func() { close(done) })
		<-done
	}
}

// A replica that is being given its state is not read before the state is there, whatever its index is going to be.
func TestNoReadBeforeTheStateIsThere(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	reached, goOn := make(chan struct{}), make(chan struct{})
	hold := func() { close(reached); <-goOn }
	p.state.move.Store(&hold)
	p.add(t)
	<-reached
	want := p.leader.read(t, "k")
	type got struct {
		v   uint64
		err error
	}
	read := make(chan got, 1)
	p.joiner.await(0, func(err error) {
		g := got{err: err}
		if err == nil {
			g.err = p.joiner.Peek(SlotOf("k"), counterID, func(r machine.Reader) error {
				if b, ok := r.Get([]byte("k")); ok {
					g.v = binary.BigEndian.Uint64(b)
				}
				return nil
			})
		}
		read <- g
	})
	<-p.answers
	p.passed()
	close(goOn)
	if g := <-read; g.err != nil || g.v != want {
		t.Errorf("read %d, %v; want %d", g.v, g.err, want)
	}
}

// A replica that has been told of and has no state yet says at once that there is none.
func TestReadOfAReplicaWithoutState(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	p.noState.Store(true)
	p.add(t)
	for len(p.joiner.Status()) == 0 {
		runtime.Gosched()
	}
	err := p.joiner.Read(t.Context(), SlotOf("k"), counterID, func(r machine.Reader) error { return nil })
	if fault.Reason(err) != "no_replica" {
		t.Error(err)
	}
}

// A replica that is taken away while it is read says so, and does not answer from the nothing that is left of it.
func TestReadOfAReplicaThatGoes(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	p.add(t)
	for p.joiner.Counts().Installed == 0 {
		runtime.Gosched()
	}
	if got, want := p.joiner.read(t, "k"), p.leader.read(t, "k"); got != want {
		t.Fatalf("read %d, want %d", got, want)
	}
	take := func() {
		p.joiner.Retire(0, p.joiner.Status()[0].Replica)
		for there := true; there; runtime.Gosched() {
			_ = readSlot(p.state.DB, SlotOf("k"), counterID, func(r machine.Reader) error {
				_, there = r.Get([]byte("k"))
				return nil
			})
		}
	}
	p.state.look.Store(&take)
	found := fmt.Errorf("not asked")
	err := p.joiner.Read(t.Context(), SlotOf("k"), counterID, func(r machine.Reader) error {
		_, ok := r.Get([]byte("k"))
		found = fmt.Errorf("found it: %v", ok)
		return nil
	})
	if fault.Reason(err) != "no_replica" {
		t.Errorf("%v, %v", err, found)
	}
}
