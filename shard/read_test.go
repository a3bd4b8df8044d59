package shard

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// A read that a follower has asked a leader about, who then leads no longer, is asked of the next one: it does not have to wait until it
// is given up.
func TestReadOutlivesLeader(t *testing.T) {
	t.Parallel()
	founders := []NodeID{"a", "b", "c"}
	var mu sync.RWMutex
	nodes := map[NodeID]*testNode{}
	var lose atomic.Bool // the next question, which tells of it
	lost := make(chan struct{})
	send := func(from NodeID) func(NodeID, []*peerv1.ShardMessage) {
		return func(to NodeID, ms []*peerv1.ShardMessage) {
			mu.RLock()
			defer mu.RUnlock()
			ms = slices.DeleteFunc(slices.Clone(ms), func(m *peerv1.ShardMessage) bool {
				var r raftpb.Message
				if proto.Unmarshal(m.GetRaft(), &r) != nil || r.GetType() != raftpb.MsgReadIndex || !lose.CompareAndSwap(true, false) {
					return false
				}
				close(lost)
				return true
			})
			if n := nodes[to]; n != nil && len(ms) > 0 {
				n.Step(from, ms)
			}
		}
	}
	for _, v := range founders {
		n := startNode(t, vfs.NewCrashableMem(), v, founders, 1, func(c *Config) { c.Send, c.Tick = send(v), 100*time.Millisecond })
		mu.Lock()
		nodes[v] = n
		mu.Unlock()
	}
	var leader *testNode
	var others []*testNode
	for _, n := range nodes {
		<-n.Ready()
		if s := n.Status()[0]; s.Leading {
			leader = n
		} else {
			others = append(others, n)
		}
	}
	leader.count(t, "k")
	reader, heir := others[0], others[1]
	lose.Store(true)
	got := make(chan error, 1)
	go func() {
		got <- reader.Read(t.Context(), SlotOf("k"), counterID, func(r machine.Reader) error { return nil })
	}()
	<-lost
	leader.TransferLeader(0, heir.Status()[0].Replica)
	if err := <-got; err != nil {
		t.Errorf("the read failed: %v", err)
	}
}

// Where others are missing from the start, so that nobody is ever elected, whoever asks is told so in the end.
func TestNeverLed(t *testing.T) {
	t.Parallel()
	n := startNode(t, vfs.NewCrashableMem(), "a", []NodeID{"a", "b", "c"}, 1, func(c *Config) { c.Send = func(NodeID, []*peerv1.ShardMessage) {} })
	if err := n.Read(t.Context(), SlotOf("k"), counterID, func(machine.Reader) error { return nil }); fault.Reason(err) != "no_leader" {
		t.Errorf("read: %v", err)
	}
	if _, err := n.Propose(t.Context(), Proposal{Slot: SlotOf("k"), Machine: counterID, Body: []byte("k")}); fault.Reason(err) != "no_leader" {
		t.Errorf("propose: %v", err)
	}
}
