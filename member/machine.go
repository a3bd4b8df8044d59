package member

import (
	"encoding/binary"
	"slices"

	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// Slot is where all decisions live: in the first shard, whose leader acts on them.
const Slot machine.Slot = 0

const (
	maxName = 64
	// MaxRecords bounds how many there are: every node has them all in memory. Beyond it the node that was removed first is forgotten.
	MaxRecords = 10_000
)

// Overtaken is why a decision is refused that rests on others which changed.
const Overtaken = "members_changed"

// Changed is the effect of every change: all there is after it, since there is little and it changes rarely.
type Changed struct {
	Records  []*storev1.MemberRecord
	Revision uint64
}

// Machine is the state machine of decisions about nodes: machine.ID machine.Members, slot Slot, commands of type storev1.MemberCommand.
// Its effects are of type Changed.
type Machine struct{}

var _ machine.Machine = Machine{}

// The keys: one for the revision, and one for each node.
var (
	revisionKey = []byte("c")
	nodesKey    = []byte("n/")
	nodesEnd    = []byte("n0")
)

func keyOf(node string) []byte { return append(slices.Clone(nodesKey), node...) }

// Apply implements machine.Machine. The refusals are Invalid "bad_command" and Precondition "node_removed" and
// Overtaken. What is so already
// is no change.
func (Machine) Apply(tx machine.Tx, cmd machine.Command) (machine.Result, []machine.Effect) {
	refuse := func(f *fault.Error) (machine.Result, []machine.Effect) { return machine.Result{Err: f}, nil }
	c := &storev1.MemberCommand{}
	if err := proto.Unmarshal(cmd.Body, c); err != nil {
		return refuse(badCommand("not a command about nodes"))
	}
	if c.Node == "" || len(c.Node) > maxName {
		return refuse(badCommand("no name of a node"))
	}
	old := &storev1.MemberRecord{}
	if b, there := tx.Get(keyOf(c.Node)); there {
		old = decode(b)
	}
	if c.Revision != nil && c.GetRevision() != revision(tx) {
		return refuse(fault.New(fault.Precondition, Overtaken, "other decisions about nodes were made meanwhile").Hint("look at them, and decide again"))
	}
	rec := &storev1.MemberRecord{Node: c.Node, DecidedAt: cmd.Time.UnixNano(), Revision: revision(tx) + 1}
	switch x := c.Change.(type) {
	case *storev1.MemberCommand_Drain:
		if old.Removed {
			return refuse(fault.New(fault.Precondition, "node_removed", "node %s was removed from the cluster", c.Node).
				Hint("it cannot come back; a node with an empty data directory can take its place"))
		}
		if old.Draining == x.Drain {
			return machine.Result{}, nil
		}
		rec.Draining = x.Drain
	case *storev1.MemberCommand_Remove:
		if old.Removed || !x.Remove {
			return machine.Result{}, nil
		}
		rec.Removed = true
	default:
		return refuse(badCommand("a command about nodes that this release does not know"))
	}
	if rec.Draining || rec.Removed {
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(rec)
		if err != nil {
			return refuse(badCommand("the decision cannot be stored"))
		}
		tx.Set(keyOf(c.Node), value)
	} else {
		tx.Delete(keyOf(c.Node))
	}
	tx.Set(revisionKey, binary.BigEndian.AppendUint64(nil, rec.Revision))
	records, at := List(tx)
	if len(records) > MaxRecords {
		records = forget(tx, records)
	}
	return machine.Result{}, []machine.Effect{Changed{Records: records, Revision: at}}
}

// forget drops the node that was removed first.
func forget(tx machine.Tx, records []*storev1.MemberRecord) []*storev1.MemberRecord {
	first := -1
	for i, r := range records {
		if r.Removed && (first < 0 || r.Revision < records[first].Revision) {
			first = i
		}
	}
	if first < 0 {
		return records
	}
	tx.Delete(keyOf(records[first].Node))
	return slices.Delete(records, first, first+1)
}

// Resume implements machine.Machine.
func (Machine) Resume(r machine.Reader) []machine.Effect {
	records, at := List(r)
	if at == 0 {
		return nil
	}
	return []machine.Effect{Changed{Records: records, Revision: at}}
}

// Refs implements machine.Machine: there are none.
func (Machine) Refs(machine.Reader, func(digest.Digest, bool)) {}

// List returns what was decided, by node, and the revision of the newest change.
func List(r machine.Reader) ([]*storev1.MemberRecord, uint64) {
	var list []*storev1.MemberRecord
	for _, value := range r.Scan(nodesKey, nodesEnd) {
		list = append(list, decode(value))
	}
	return list, revision(r)
}

// RevisionKey is the key whose value is another one after every change.
func RevisionKey() []byte { return slices.Clone(revisionKey) }

func revision(r machine.Reader) uint64 {
	b, ok := r.Get(revisionKey)
	if !ok {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

func decode(b []byte) *storev1.MemberRecord {
	rec := &storev1.MemberRecord{}
	if err := proto.Unmarshal(b, rec); err != nil || rec.Node == "" {
		panic(&machine.Broken{Err: fault.New(fault.Corrupt, "damaged_record", "what was decided about a node cannot be read")})
	}
	return rec
}

func badCommand(text string) *fault.Error { return fault.New(fault.Invalid, "bad_command", "%s", text) }
