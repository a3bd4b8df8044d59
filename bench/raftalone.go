package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

// raftAlone is one group of three voters of go.etcd.io/raft: what replication costs at least. Each is driven by one goroutine, which takes
// all that is there, has raft make what it can of it, and writes that with one sync; the leader sends before it writes.
type raftAlone struct {
	dir     string
	members []*raftMember
	seq     atomic.Uint64
	waiting sync.Map // by number: chan struct{}
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// input is a message or a proposal.
type input struct {
	m    *raftpb.Message
	data []byte
}

type raftMember struct {
	all   *raftAlone
	id    uint64
	node  *raft.RawNode
	log   *raft.MemoryStorage // what raft reads
	db    *pebble.DB          // what lasts
	in    chan input
	leads atomic.Bool
}

func newRaftAlone(ctx context.Context) (_ *raftAlone, err error) {
	a := &raftAlone{}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	var run context.Context
	run, a.stop = context.WithCancel(ctx)
	if a.dir, err = os.MkdirTemp("", "wattle-bench-raft-"); err != nil {
		return nil, err
	}
	peers := []raft.Peer{{ID: 1}, {ID: 2}, {ID: 3}}
	for _, p := range peers {
		m := &raftMember{all: a, id: p.ID, log: raft.NewMemoryStorage(), in: make(chan input, 4096)}
		if m.db, err = pebble.Open(filepath.Join(a.dir, fmt.Sprint(p.ID)), &pebble.Options{Logger: quiet{}}); err != nil {
			return nil, err
		}
		if m.node, err = raft.NewRawNode(&raft.Config{
			ID: p.ID, ElectionTick: 10, HeartbeatTick: 1, Storage: m.log, MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 256, PreVote: true, CheckQuorum: true,
			Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)},
		}); err != nil {
			m.db.Close()
			return nil, err
		}
		a.members = append(a.members, m)
		if err := m.node.Bootstrap(peers); err != nil {
			return nil, err
		}
	}
	for _, m := range a.members {
		a.wg.Go(func() { m.run(run) })
	}
	for a.leader() == nil {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return a, nil
}

func (a *raftAlone) close() {
	a.stop()
	a.wg.Wait()
	for _, m := range a.members {
		m.db.Close()
	}
	os.RemoveAll(a.dir)
}

func (a *raftAlone) leader() *raftMember {
	for _, m := range a.members {
		if m.leads.Load() {
			return m
		}
	}
	return nil
}

// write proposes 100 bytes and returns when they are committed.
func (a *raftAlone) write(ctx context.Context) error {
	m := a.leader()
	if m == nil {
		return errors.New("the group lost its leader")
	}
	n := a.seq.Add(1)
	done := make(chan struct{})
	a.waiting.Store(n, done)
	defer a.waiting.Delete(n)
	body := make([]byte, 100)
	binary.BigEndian.PutUint64(body, n)
	m.in <- input{data: body}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(10 * time.Second):
		return errors.New("a proposal was dropped")
	}
}

func (m *raftMember) send(msgs []*raftpb.Message) {
	for _, msg := range msgs {
		select {
		case m.all.members[msg.GetTo()-1].in <- input{m: msg}:
		default: // as a network would
		}
	}
}

func (m *raftMember) run(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.node.Tick()
		case i := <-m.in:
			m.take(i)
			for more := true; more; {
				select {
				case i := <-m.in:
					m.take(i)
				default:
					more = false
				}
			}
		}
		for m.node.HasReady() {
			m.ready(m.node.Ready())
		}
	}
}

// take gives raft something. What it refuses is dropped.
func (m *raftMember) take(i input) {
	if i.m != nil {
		_ = m.node.Step(i.m)
	} else {
		_ = m.node.Propose(i.data)
	}
}

func (m *raftMember) ready(rd raft.Ready) {
	if rd.SoftState != nil {
		m.leads.Store(rd.RaftState == raft.StateLeader)
	}
	if m.leads.Load() {
		m.send(rd.Messages)
	}
	if err := m.save(rd); err != nil {
		panic(err)
	}
	if !m.leads.Load() {
		m.send(rd.Messages)
	}
	m.commit(rd.CommittedEntries)
	m.node.Advance(rd)
}

// save writes what has to last with one sync.
func (m *raftMember) save(rd raft.Ready) error {
	b := m.db.NewBatch()
	defer b.Close()
	var opts proto.MarshalOptions
	for _, e := range rd.Entries {
		v, err := opts.Marshal(e)
		if err != nil {
			return err
		}
		if err := b.Set(binary.BigEndian.AppendUint64([]byte("e"), e.GetIndex()), v, nil); err != nil {
			return err
		}
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		v, err := opts.Marshal(rd.HardState)
		if err != nil {
			return err
		}
		if err := b.Set([]byte("h"), v, nil); err != nil {
			return err
		}
		if err := m.log.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	if !b.Empty() {
		how := pebble.NoSync
		if rd.MustSync {
			how = pebble.Sync
		}
		if err := b.Commit(how); err != nil {
			return err
		}
	}
	return m.log.Append(rd.Entries)
}

// kept is how many entries stay in memory for followers.
const kept = 20_000

func (m *raftMember) commit(entries []*raftpb.Entry) {
	for _, e := range entries {
		switch e.GetType() {
		case raftpb.EntryConfChange:
			var cc raftpb.ConfChange
			if err := proto.Unmarshal(e.Data, &cc); err != nil {
				panic(err)
			}
			m.node.ApplyConfChange(&cc)
		case raftpb.EntryNormal:
			if len(e.Data) == 0 || !m.leads.Load() {
				continue
			}
			if done, ok := m.all.waiting.Load(binary.BigEndian.Uint64(e.Data)); ok {
				close(done.(chan struct{}))
			}
		}
	}
	if len(entries) == 0 {
		return
	}
	last := entries[len(entries)-1].GetIndex()
	if first, err := m.log.FirstIndex(); err == nil && last > first+2*kept {
		if err := m.log.Compact(last - kept); err != nil {
			panic(err)
		}
	}
}
