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
func retiredKey(id ID) []byte   { return binary.BigEndian.AppendUint32([]byte{0x13}, uint32(id)) }
func entryKey(id ID, index uint64) []byte {
	k := binary.BigEndian.AppendUint32(append(make([]byte, 0, 13), 0x12), uint32(id))
	return binary.BigEndian.AppendUint64(k, index)
}

// log is one replica's part of the log store: what is in Pebble, with everything not yet trimmed
// in memory as well, which is what raft reads. Only the appender writes it.
type log struct {
	*raft.MemoryStorage
	id   ID
	head *storev1.LogHead
	last uint64
	hard *raftpb.HardState
	// bytes in entries that are not trimmed, for the trimming rule.
	bytes int64
	// fresh tells that nothing of it is on disk yet.
	fresh bool
	// conf is the configuration to begin with.
	conf *raftpb.ConfState
}

// bootstrapLog begins the log of a replica whose shard begins with it.
func bootstrapLog(b store.Batch, id ID, replica uint64, m *Members) error {
	members, err := m.proto()
	if err != nil {
		return err
	}
	return setProto(b, headKey(id), &storev1.LogHead{Index: bootIndex, Term: bootTerm, Members: members, Replica: replica})
}

func setProto(b store.Batch, key []byte, m proto.Message) error {
	v, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return b.Set(key, v)
}

// getProto reads a record and tells whether it is there. One that cannot be read is damage.
func getProto(db store.DB, key []byte, what string, m proto.Message) (bool, error) {
	b, ok, err := db.Get(key)
	if err != nil || !ok {
		return false, err
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return false, damaged(db, what, err)
	}
	return true, nil
}

// newLog is the log of a replica that knows nothing yet.
func newLog(id ID, replica uint64) *log {
	return &log{
		MemoryStorage: raft.NewMemoryStorage(), id: id, head: &storev1.LogHead{Replica: replica}, hard: &raftpb.HardState{}, fresh: true,
		conf: &raftpb.ConfState{},
	}
}

// openLog reads a replica's log. applied is the index the state store stands at, and conf the configuration there.
func openLog(s *store.Store, id ID, head *storev1.LogHead, applied uint64, conf *raftpb.ConfState) (*log, error) {
	l := newLog(id, head.Replica)
	l.head, l.conf, l.fresh = head, conf, false
	what := fmt.Sprintf("log of shard %d", id)
	if applied < head.Index && head.Index > bootIndex {
		return nil, fault.New(fault.Corrupt, "damaged_store", "%s stands at entry %d of shard %d, the log begins after %d", s.State.Dir(), applied, id, head.Index).
			Hint("files of it are missing: restore the data directory from a copy")
	}
	if head.Index > 0 {
		err := l.ApplySnapshot(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: &head.Index, Term: &head.Term, ConfState: conf}})
		if err != nil {
			return nil, err
		}
	}
	l.last = head.Index
	var entries []*raftpb.Entry
	var scanErr error
	for k, v := range s.Log.Scan(entryKey(id, head.Index+1), entryKey(id+1, 0), &scanErr) {
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
	if _, err := getProto(s.Log, hardStateKey(id), what, l.hard); err != nil {
		return nil, err
	}
	// The commit index is written without a sync; what was applied is known to be committed.
	floor := max(applied, head.Index)
	if floor > l.last {
		return nil, damaged(s.Log, what, fmt.Errorf("%s stands at entry %d, the log ends at %d", s.State.Dir(), floor, l.last))
	}
	if c := l.hard.GetCommit(); c > l.last {
		return nil, damaged(s.Log, what, fmt.Errorf("entries up to %d were committed, it ends at %d", c, l.last))
	}
	if l.hard.GetCommit() < floor || l.hard.GetTerm() < head.Term {
		l.hard = &raftpb.HardState{
			Term: proto.Uint64(max(l.hard.GetTerm(), head.Term)), Vote: proto.Uint64(l.hard.GetVote()), Commit: &floor,
		}
	}
	return l, l.SetHardState(l.hard)
}

// InitialState implements raft.Storage.
func (l *log) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	hard, _, err := l.MemoryStorage.InitialState()
	return hard, l.conf, err
}

// write puts what an append message carries into the batch and tells whether it has to be synced before it is answered.
func (l *log) write(b store.Batch, m *raftpb.Message) (sync bool, err error) {
	if l.fresh {
		if err := setProto(b, headKey(l.id), l.head); err != nil {
			return false, err
		}
		l.fresh = false
	}
	if m.Snapshot != nil {
		if err := l.reset(b, m.Snapshot); err != nil {
			return false, err
		}
	}
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
		return len(m.Entries) > 0 || m.Snapshot != nil, nil
	}
	h := &raftpb.HardState{Term: m.Term, Vote: m.Vote, Commit: m.Commit}
	sync = raft.MustSync(h, l.hard, len(m.Entries)) || m.Snapshot != nil
	l.hard = h
	return sync, setProto(b, hardStateKey(l.id), h)
}

// settle makes what write put into a committed batch visible to raft.
func (l *log) settle(m *raftpb.Message) error {
	if m.Snapshot != nil {
		if err := l.ApplySnapshot(m.Snapshot); err != nil {
			return err
		}
	}
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
func (l *log) trim(b store.Batch, index uint64) error {
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
	if err := setProto(b, headKey(l.id), l.head); err != nil {
		return err
	}
	return l.Compact(index)
}

// reset puts the end of everything there was into the batch: the log begins anew after a snapshot, whose pairs are staged.
func (l *log) reset(b store.Batch, s *raftpb.Snapshot) error {
	if err := b.DeleteRange(entryKey(l.id, 0), entryKey(l.id+1, 0)); err != nil {
		return err
	}
	l.head = &storev1.LogHead{
		Index: s.Metadata.GetIndex(), Term: s.Metadata.GetTerm(), Replica: l.head.Replica, Installing: snapshotNumber(s),
	}
	l.last, l.bytes = l.head.Index, 0
	return setProto(b, headKey(l.id), l.head)
}

// retire puts the end of the log into the batch, and that its replica is to be here never again.
func (l *log) retire(b store.Batch) error {
	if err := b.DeleteRange(entryKey(l.id, 0), entryKey(l.id+1, 0)); err != nil {
		return err
	}
	for _, k := range [][]byte{headKey(l.id), hardStateKey(l.id)} {
		if err := b.Delete(k); err != nil {
			return err
		}
	}
	return setProto(b, retiredKey(l.id), &storev1.Retired{Below: l.head.Replica + 1})
}
