package shard

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

// ID numbers a shard, from 0.
type ID uint32

// DefaultShards is how many shards a new data directory gets. Measured with BenchmarkShards: see RATIONALE.md, "Why 64 shards?".
const DefaultShards = 64

// SlotOf returns the slot of a key: its first two bytes under SHA-256, modulo the slots.
func SlotOf(key string) machine.Slot {
	d := digest.Of([]byte(key))
	return machine.Slot(binary.BigEndian.Uint16(d[:]) % machine.Slots)
}

// Table says which shard holds which slot. It is immutable.
type Table struct {
	Version uint64
	// Shards counts the shards; the valid IDs lie below it.
	Shards uint32
	slots  [machine.Slots]ID
}

// NewTable deals the slots out evenly. It is an Invalid error to ask for none or for more shards than slots.
func NewTable(shards uint32) (*Table, error) {
	if shards == 0 || shards > machine.Slots {
		return nil, fault.New(fault.Invalid, "bad_shards", "%d shards: want between 1 and %d", shards, machine.Slots)
	}
	t := &Table{Version: 1, Shards: shards}
	for i := range t.slots {
		t.slots[i] = ID(uint32(i) * shards / machine.Slots)
	}
	return t, nil
}

// Of returns the shard that holds slot.
func (t *Table) Of(slot machine.Slot) ID { return t.slots[slot] }

// Slots returns the slots of a shard in order.
func (t *Table) Slots(id ID) []machine.Slot {
	var s []machine.Slot
	for i, owner := range t.slots {
		if owner == id {
			s = append(s, machine.Slot(i))
		}
	}
	return s
}

func (t *Table) encode() ([]byte, error) {
	r := &storev1.RoutingTable{Version: t.Version, Shards: t.Shards, Slots: make([]uint32, machine.Slots)}
	for i, s := range t.slots {
		r.Slots[i] = uint32(s)
	}
	return proto.Marshal(r)
}

func decodeTable(b []byte) (*Table, error) {
	var r storev1.RoutingTable
	if err := proto.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	if len(r.Slots) != machine.Slots || r.Shards == 0 {
		return nil, fmt.Errorf("routing table with %d slots and %d shards", len(r.Slots), r.Shards)
	}
	t := &Table{Version: r.Version, Shards: r.Shards}
	for i, s := range r.Slots {
		if s >= r.Shards {
			return nil, fmt.Errorf("routing table sends slot %d to shard %d of %d", i, s, r.Shards)
		}
		t.slots[i] = ID(s)
	}
	return t, nil
}

var (
	identityKey = []byte{0x01}
	tableKey    = []byte{0x02}
)

// Founding is what a data directory is given once, when it is new.
type Founding struct {
	Identity *storev1.Identity
	// Table says which shards there are.
	Table *Table
	// Nodes are those that every shard begins with a replica on, the same list on each of them. A node that joins a cluster
	// has none: it is given replicas.
	Nodes []NodeID
}

// Founded tells whether a data directory is a member's already.
func Founded(s *store.Store) (bool, error) {
	_, ok, err := s.Log.Get(identityKey)
	return ok, err
}

// DecodeTable reads a table that another node has encoded.
func DecodeTable(b []byte) (*Table, error) {
	t, err := decodeTable(b)
	if err != nil {
		return nil, fault.New(fault.Invalid, "bad_table", "the routing table of another node: %w", err)
	}
	return t, nil
}

// Encode is for DecodeTable.
func (t *Table) Encode() ([]byte, error) { return t.encode() }

// Found makes a new data directory a member, or reads what it was founded with: f is then ignored.
// Everything is written in one synced batch, so that a directory is founded whole or not at all.
func Found(s *store.Store, f Founding) (*storev1.Identity, *Table, error) {
	b, ok, err := s.Log.Get(identityKey)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		if err := found(s, f); err != nil {
			return nil, nil, err
		}
		if b, _, err = s.Log.Get(identityKey); err != nil {
			return nil, nil, err
		}
	}
	id := &storev1.Identity{}
	if err := proto.Unmarshal(b, id); err != nil {
		return nil, nil, damaged(s.Log, "identity", err)
	}
	b, ok, err = s.Log.Get(tableKey)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, damaged(s.Log, "routing table", fmt.Errorf("missing"))
	}
	t, err := decodeTable(b)
	if err != nil {
		return nil, nil, damaged(s.Log, "routing table", err)
	}
	return id, t, nil
}

func found(s *store.Store, f Founding) error {
	b := s.Log.NewBatch(false)
	defer b.Close()
	id, err := proto.Marshal(f.Identity)
	if err != nil {
		return err
	}
	table, err := f.Table.encode()
	if err != nil {
		return err
	}
	if err := b.Set(identityKey, id); err != nil {
		return err
	}
	if err := b.Set(tableKey, table); err != nil {
		return err
	}
	m := founders(f.Nodes)
	if replica := m.At(NodeID(f.Identity.NodeId)); replica != 0 {
		for g := range ID(f.Table.Shards) {
			if err := bootstrapLog(b, g, replica, m); err != nil {
				return err
			}
		}
	}
	return b.Commit(true)
}

func damaged(db store.DB, what string, err error) error {
	return fault.New(fault.Corrupt, "damaged_store", "%s in %s is damaged: %w", what, db.Dir(), err).
		Hint("check the disk, then restore the data directory from a copy")
}
