package shard

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// While a shard is handed around, everybody who put a command in is told what became of it: that it counts, or that it does not, in which
// case another node takes it. It counts once then.
func TestHandOverLosesNoAnswer(t *testing.T) {
	t.Parallel()
	names := []NodeID{"a", "b", "c"}
	var mu sync.RWMutex
	nodes := map[NodeID]*testNode{}
	for _, name := range names {
		n := startNode(t, vfs.NewCrashableMem(), name, names, 1, func(c *Config) {
			c.Tick = 10 * time.Millisecond
			c.Send = func(to NodeID, ms []*peerv1.ShardMessage) {
				mu.RLock()
				defer mu.RUnlock()
				if n := nodes[to]; n != nil {
					n.Step(name, ms)
				}
			}
		})
		mu.Lock()
		nodes[name] = n
		mu.Unlock()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done atomic.Int64
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				body := fmt.Sprintf("%d-%d", w, i)
				at := w % 3
				for {
					res, err := nodes[names[at]].Propose(context.Background(), Proposal{Slot: machine.Slot(1), Machine: counterID, Body: []byte(body)})
					if err == nil {
						if res.Value[7] != 1 {
							t.Errorf("%s counts %d times", body, res.Value[7])
						}
						break
					}
					if fault.Reason(err) != "no_leader" {
						t.Errorf("%s: %v", body, err)
						return
					}
					at = (at + 1) % 3
				}
				done.Add(1)
			}
		})
	}
	for range 20 {
		from := done.Load()
		for moved := false; (!moved || done.Load() < from+20) && !t.Failed(); runtime.Gosched() {
			for _, n := range nodes {
				if n.Status()[0].Leading && !moved {
					short, stop := context.WithTimeout(ctx, time.Second)
					n.HandOver(short)
					stop()
					moved = true
				}
			}
		}
	}
	cancel()
	wg.Wait()
	t.Logf("%d commands", done.Load())
}
