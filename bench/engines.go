package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	state "github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/shard/link"
	"github.com/wattlehq/wattle/store"
)

// engines are three nodes' worth of shards in this process, with nothing above them.
type engines struct {
	dir     string
	table   *shard.Table
	stores  []*store.Store
	engines []*shard.Engine
	leaders []*shard.Engine // by shard
	seq     atomic.Uint64
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// keeper is a machine that keeps what it is given, under its first eight bytes.
type keeper struct{}

const keeperID state.ID = 200

func (keeper) Apply(tx state.Tx, c state.Command) (state.Result, []state.Effect) {
	tx.Set(c.Body[:8], c.Body)
	return state.Result{}, nil
}
func (keeper) Resume(state.Reader) []state.Effect           { return nil }
func (keeper) Refs(state.Reader, func(digest.Digest, bool)) {}
func (keeper) Lead(shard.ID, uint64, []state.Effect)        {}
func (keeper) Applied(shard.ID, uint64, []state.Effect)     {}
func (keeper) Installed(shard.ID)                           {}
func (keeper) Yield(shard.ID)                               {}

func newEngines(ctx context.Context, shards uint32) (_ *engines, err error) {
	e := &engines{}
	defer func() {
		if err != nil {
			e.close()
		}
	}()
	var run context.Context
	run, e.stop = context.WithCancel(ctx)
	if e.dir, err = os.MkdirTemp("", "wattle-bench-shards-"); err != nil {
		return nil, err
	}
	nodes := []shard.NodeID{"a", "b", "c"}
	at := map[shard.NodeID]string{}
	var listeners []net.Listener
	for _, n := range nodes {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		listeners, at[n] = append(listeners, l), l.Addr().String()
	}
	for i, n := range nodes {
		s, err := store.Open(store.Options{Dir: filepath.Join(e.dir, string(n))})
		if err != nil {
			return nil, err
		}
		e.stores = append(e.stores, s)
		table, err := shard.NewTable(shards)
		if err != nil {
			return nil, err
		}
		if _, e.table, err = shard.Found(s, shard.Founding{Identity: &storev1.Identity{NodeId: string(n)}, Table: table, Nodes: nodes}); err != nil {
			return nil, err
		}
		var engine *shard.Engine
		net := link.New(link.Config{
			Cluster: "bench", Self: n, Listener: listeners[i],
			Addr:    func(n shard.NodeID) (string, bool) { return at[n], true },
			Receive: func(from shard.NodeID, ms []*peerv1.ShardMessage) { engine.Step(from, ms) },
		})
		engine, err = shard.New(shard.Config{Store: s, Table: e.table, Node: n, Machines: map[state.ID]state.Machine{keeperID: keeper{}}, Sink: keeper{}, Send: net.Send})
		if err != nil {
			return nil, err
		}
		e.engines = append(e.engines, engine)
		e.wg.Go(func() { _ = net.Run(run) })
		e.wg.Go(func() { _ = engine.Run(run) }) // its failure shows in the proposals
	}
	for {
		if e.elected() {
			return e, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// elected notes who leads which shard, and tells whether every one has a leader.
func (e *engines) elected() bool {
	e.leaders = make([]*shard.Engine, e.table.Shards)
	n := 0
	for _, g := range e.engines {
		for _, s := range g.Status() {
			if s.Leading && e.leaders[s.ID] == nil {
				e.leaders[s.ID] = g
				n++
			}
		}
	}
	return n == len(e.leaders)
}

func (e *engines) close() {
	e.stop()
	e.wg.Wait()
	for _, s := range e.stores {
		s.Close()
	}
	os.RemoveAll(e.dir)
}

// write proposes 100 bytes to one shard after the other, each to the engine that leads it, and returns when they are applied.
func (e *engines) write(ctx context.Context) error {
	n := e.seq.Add(1)
	body := make([]byte, 100)
	binary.BigEndian.PutUint64(body, n)
	slot := state.Slot(n * 61 % state.Slots)
	if e.table.Shards == 1 {
		slot = state.Slot(n % state.Slots)
	}
	id := e.table.Of(slot)
	res, err := e.leaders[id].Propose(ctx, shard.Proposal{Slot: slot, Machine: keeperID, Body: body})
	if err != nil {
		return fmt.Errorf("shard %d: %w", id, err)
	}
	if res.Err != nil {
		return errors.New(res.Err.Error())
	}
	return nil
}
