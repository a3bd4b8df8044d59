package shard

import (
	"encoding/binary"
	"fmt"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

// A shard's log begins behind an entry that never was, so that an empty log has a place and a configuration.
const bootIndex, bootTerm = 1, 1

func headKey(id ID) []byte      { return binary.BigEndian.AppendUint32([]byte{0x10}, uint32(id)) }
func hardStateKey(id ID) []byte { return binary.BigEndian.AppendUint32([]byte{0x11}, uint32(id)) }
func entryKey(id ID, index uint64) []byte {
	k := binary.BigEndian.AppendUint32(append(make([]byte, 0, 13), 0x12), uint32(id))
	return binary.BigEndian.AppendUint64(k, index)
}

// log is one shard's part of the log store: what is in Pebble, with everything not yet trimmed
// in memory as well, which is what raft reads. Only the appender writes it.
type log struct {
	*raft.MemoryStorage
	id   ID
	head storev1.LogHead
	last uint64
	hard *raftpb.HardState
	// bytes in entries that are not trimmed, for the trimming rule.
	bytes int64
}

func bootstrapLog(b *store.Batch, id ID, voters []uint64) error {
	conf, err := proto.Marshal(&raftpb.ConfState{Voters: voters})
	if err != nil {
		return err
	}
	return setHead(b, id, &storev1.LogHead{Index: bootIndex, Term: bootTerm, ConfState: conf})
}

func setHead(b *store.Batch, id ID, h *storev1.LogHead) error {
	v, err := proto.Marshal(h)
	if err != nil {
		return err
	}
	return b.Set(headKey(id), v)
}

// openLog reads a shard's log. applied is the index the state store stands at.
func openLog(s *store.Store, id ID, applied uint64) (*log, error) {
	l := &log{MemoryStorage: raft.NewMemoryStorage(), id: id, hard: &raftpb.HardState{}}
	what := fmt.Sprintf("log of shard %d", id)
	b, ok, err := s.Log.Get(headKey(id))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, damaged(s.Log, what, fmt.Errorf("its head is missing"))
	}
	conf := &raftpb.ConfState{}
	if err := proto.Unmarshal(b, &l.head); err != nil {
		return nil, damaged(s.Log, what, err)
	}
	if err := proto.Unmarshal(l.head.ConfState, conf); err != nil {
		return nil, damaged(s.Log, what, err)
	}
	if applied < l.head.Index && l.head.Index > bootIndex {
		return nil, fault.New(fault.Corrupt, "damaged_store", "%s stands at entry %d of shard %d, the log begins after %d", s.State.Dir(), applied, id, l.head.Index).
			Hint("files of it are missing: restore the data directory from a copy")
	}
	err = l.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &l.head.Index, Term: &l.head.Term, ConfState: conf}})
	if err != nil {
		return nil, err
	}
	l.last = l.head.Index
	var entries []*raftpb.Entry
	var scanErr error
	for k, v := range s.Log.Scan(entryKey(id, l.head.Index+1), entryKey(id+1, 0), &scanErr) {
		e := &raftpb.Entry{}
		if err := proto.Unmarshal(v, e); err != nil {
			return nil, damaged(s.Log, what, err)
		}
		if at := binary.BigEndian.Uint64(k[5:]); at != l.last+1 || e.GetIndex() != at {
			return nil, damaged(s.Log, what, fmt.Errorf("entry %d follows %d", at, l.last))
		}
		l.last++
		l.bytes += int64(len(v))
		entries = append(entries, e)
	}
	if scanErr != nil {
		return nil, scanErr
	}
	if err := l.Append(entries); err != nil {
		return nil, err
	}
	if b, ok, err = s.Log.Get(hardStateKey(id)); err != nil {
		return nil, err
	} else if ok {
		if err := proto.Unmarshal(b, l.hard); err != nil {
			return nil, damaged(s.Log, what, err)
		}
	}
	// The commit index is written without a sync; what was applied is known to be committed.
	floor := max(applied, l.head.Index)
	if floor > l.last {
		return nil, damaged(s.Log, what, fmt.Errorf("%s stands at entry %d, the log ends at %d", s.State.Dir(), floor, l.last))
	}
	if c := l.hard.GetCommit(); c > l.last {
		return nil, damaged(s.Log, what, fmt.Errorf("entries up to %d were committed, it ends at %d", c, l.last))
	}
	if l.hard.GetCommit() < floor || l.hard.GetTerm() < l.head.Term {
		l.hard = &raftpb.HardState{
			Term: proto.Uint64(max(l.hard.GetTerm(), l.head.Term)), Vote: proto.Uint64(l.hard.GetVote()), Commit: &floor,
		}
	}
	return l, l.SetHardState(l.hard)
}

// write puts what an append message carries into the batch and tells whether it has to be synced before it is answered.
func (l *log) write(b *store.Batch, m *raftpb.Message) (sync bool, err error) {
	for _, e := range m.Entries {
		v, err := proto.Marshal(e)
		if err != nil {
			return false, err
		}
		if err := b.Set(entryKey(l.id, e.GetIndex()), v); err != nil {
			return false, err
		}
		l.bytes += int64(len(v))
	}
	if n := len(m.Entries); n > 0 {
		last := m.Entries[n-1].GetIndex()
		if last < l.last {
			if err := b.DeleteRange(entryKey(l.id, last+1), entryKey(l.id, l.last+1)); err != nil {
				return false, err
			}
		}
		l.last = last
	}
	if m.Term == nil {
		return len(m.Entries) > 0, nil
	}
	h := &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	v, err := proto.Marshal(h)
	if err != nil {
		return false, err
	}
	sync = raft.MustSync(h, l.hard, len(m.Entries))
	l.hard = h
	return sync, b.Set(hardStateKey(l.id), v)
}

// settle makes what write put into a committed batch visible to raft.
func (l *log) settle(m *raftpb.Message) error {
	if err := l.Append(m.Entries); err != nil {
		return err
	}
	if m.Term == nil {
		return nil
	}
	return l.SetHardState(&raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit})
}

// trim puts the removal of every entry up to index into the batch. The batch needs no sync: until it is durable, the
// log is only longer than it has to be.
func (l *log) trim(b *store.Batch, index uint64) error {
	term, err := l.Term(index)
	if err != nil {
		return err
	}
	entries, err := l.Entries(l.head.Index+1, index+1, 1<<62)
	if err != nil {
		return err
	}
	for _, e := range entries {
		l.bytes -= int64(proto.Size(e))
	}
	if err := b.DeleteRange(entryKey(l.id, l.head.Index+1), entryKey(l.id, index+1)); err != nil {
		return err
	}
	l.head.Index, l.head.Term = index, term
	if err := setHead(b, l.id, &l.head); err != nil {
		return err
	}
	return l.Compact(index)
}
