package shard

import (
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// NodeID names a node. A node whose data directory was lost comes back under another name: what it promised is forgotten.
type NodeID string

// Members are the replicas of a shard and the nodes that have them. They are part of the shard's state, so every replica that
// stands at the same entry knows the same ones. A value is not changed once it is made.
type Members struct {
	conf  *raftpb.ConfState
	nodes map[uint64]NodeID
	next  uint64
}

// founders are the members of a shard that begins on the nodes.
func founders(nodes []NodeID) *Members {
	m := &Members{conf: &raftpb.ConfState{}, nodes: map[uint64]NodeID{}, next: 1}
	for _, n := range nodes {
		m.nodes[m.next] = n
		m.conf.Voters = append(m.conf.Voters, m.next)
		m.next++
	}
	return m
}

// Node returns where a replica is, or nothing if it is none of the members.
func (m *Members) Node(replica uint64) NodeID { return m.nodes[replica] }

// At returns the replica on a node, or zero.
func (m *Members) At(node NodeID) uint64 {
	for id, n := range m.nodes {
		if n == node {
			return id
		}
	}
	return 0
}

// Replicas returns the numbers of all replicas in order.
func (m *Members) Replicas() []uint64 { return slices.Sorted(maps.Keys(m.nodes)) }

// Next returns the number that the next replica gets.
func (m *Members) Next() uint64 { return m.next }

// Voter tells whether a replica counts for the quorum, or for one of the two while they change.
func (m *Members) Voter(replica uint64) bool {
	return slices.Contains(m.conf.GetVoters(), replica) || slices.Contains(m.conf.GetVotersOutgoing(), replica)
}

// Joint tells whether a change is on its way.
func (m *Members) Joint() bool { return len(m.conf.GetVotersOutgoing()) > 0 }

// Before returns how many voters there were before the change that is on its way; none if there is no such change.
func (m *Members) Before() int { return len(m.conf.GetVotersOutgoing()) }

// Removed tells whether a replica was one once and is none any more.
func (m *Members) Removed(replica uint64) bool {
	_, ok := m.nodes[replica]
	return !ok && replica < m.next
}

// sole tells whether a replica can elect itself.
func (m *Members) sole(replica uint64) bool {
	return len(m.conf.GetVoters()) == 1 && m.conf.GetVoters()[0] == replica && !m.Joint()
}

// Change is one change of the members. One of the fields is set.
type Change struct {
	// Add gives the node a replica that learns but does not vote.
	Add NodeID
	// Promote lets a replica vote that has learned.
	Promote uint64
	// Remove takes a replica away.
	Remove uint64
}

// plan turns changes into what the log carries. Several of them take effect together.
func (m *Members) plan(changes []Change) (*raftpb.ConfChangeV2, []*storev1.Replica, error) {
	cc := &raftpb.ConfChangeV2{}
	var added []*storev1.Replica
	add := func(t raftpb.ConfChangeType, id uint64) {
		cc.Changes = append(cc.Changes, &raftpb.ConfChangeSingle{Type: t.Enum(), NodeId: &id})
	}
	next := m.next
	for _, c := range changes {
		switch {
		case c.Add != "":
			added = append(added, &storev1.Replica{Id: next, Node: string(c.Add)})
			add(raftpb.ConfChangeAddLearnerNode, next)
			next++
		case c.Promote != 0:
			add(raftpb.ConfChangeAddNode, c.Promote)
		case c.Remove != 0:
			add(raftpb.ConfChangeRemoveNode, c.Remove)
		}
	}
	return cc, added, m.check(cc, added)
}

// check refuses what does not fit the members. Every replica must come to the same answer: it looks at nothing else.
func (m *Members) check(cc *raftpb.ConfChangeV2, added []*storev1.Replica) error {
	refuse := func(format string, args ...any) error {
		return fault.New(fault.Precondition, "bad_change", format, args...).Hint("look at the members again")
	}
	if len(cc.GetChanges()) == 0 { // the end of a joint change
		if !m.Joint() {
			return refuse("no change is on its way")
		}
		return nil
	}
	if m.Joint() {
		return refuse("another change is on its way")
	}
	brought := map[uint64]bool{}
	for i, r := range added {
		if r.Id != m.next+uint64(i) {
			return refuse("replica %d was numbered before another was added", r.Id)
		}
		if at := m.At(NodeID(r.Node)); at != 0 {
			return refuse("node %s has replica %d", r.Node, at)
		}
		brought[r.Id] = true
	}
	voters := len(m.conf.GetVoters())
	seen := map[uint64]bool{}
	for _, c := range cc.GetChanges() {
		id := c.GetNodeId()
		_, is := m.nodes[id]
		if seen[id] || is == brought[id] {
			return refuse("replica %d is none of the shard's, or named twice", id)
		}
		seen[id] = true
		switch c.GetType() {
		case raftpb.ConfChangeAddLearnerNode:
			if is {
				return refuse("replica %d is there already", id)
			}
		case raftpb.ConfChangeAddNode:
			if m.Voter(id) {
				return refuse("replica %d votes already", id)
			}
			voters++
		case raftpb.ConfChangeRemoveNode:
			if m.Voter(id) {
				voters--
			}
		default:
			return refuse("unknown change %v", c.GetType())
		}
	}
	if voters == 0 {
		return refuse("nobody would be left to vote")
	}
	return nil
}

// with returns the members after a change that led to a configuration.
func (m *Members) with(added []*storev1.Replica, conf *raftpb.ConfState) *Members {
	after := &Members{conf: conf, nodes: map[uint64]NodeID{}, next: m.next}
	all := maps.Clone(m.nodes)
	for _, r := range added {
		all[r.Id] = NodeID(r.Node)
		after.next = max(after.next, r.Id+1)
	}
	for _, ids := range [][]uint64{conf.GetVoters(), conf.GetVotersOutgoing(), conf.GetLearners(), conf.GetLearnersNext()} {
		for _, id := range ids {
			after.nodes[id] = all[id]
		}
	}
	return after
}

func (m *Members) proto() (*storev1.Members, error) {
	conf, err := proto.Marshal(m.conf)
	if err != nil {
		return nil, err
	}
	r := &storev1.Members{ConfState: conf, Next: m.next}
	for _, id := range m.Replicas() {
		r.Replicas = append(r.Replicas, &storev1.Replica{Id: id, Node: string(m.nodes[id])})
	}
	return r, nil
}

func (m *Members) encode() ([]byte, error) {
	r, err := m.proto()
	if err != nil {
		return nil, err
	}
	return proto.Marshal(r)
}

func membersOf(r *storev1.Members) (*Members, error) {
	m := &Members{conf: &raftpb.ConfState{}, nodes: map[uint64]NodeID{}, next: r.Next}
	if err := proto.Unmarshal(r.ConfState, m.conf); err != nil {
		return nil, err
	}
	for _, e := range r.Replicas {
		if e.Id == 0 || e.Id >= r.Next || e.Node == "" {
			return nil, fmt.Errorf("replica %d on node %q, the next being %d", e.Id, e.Node, r.Next)
		}
		m.nodes[e.Id] = NodeID(e.Node)
	}
	return m, nil
}

func decodeMembers(b []byte) (*Members, error) {
	var r storev1.Members
	if err := proto.Unmarshal(b, &r); err != nil {
		return nil, err
	}
	return membersOf(&r)
}

// foundersAlone are the members that a release founded a shard with which knew one replica only.
func foundersAlone(head *storev1.LogHead, self NodeID) (*Members, error) {
	conf := &raftpb.ConfState{}
	if err := proto.Unmarshal(head.ConfState, conf); err != nil {
		return nil, err
	}
	if len(conf.Voters) != 1 {
		return nil, fmt.Errorf("%d voters and no members", len(conf.Voters))
	}
	return &Members{conf: conf, nodes: map[uint64]NodeID{conf.Voters[0]: self}, next: conf.Voters[0] + 1}, nil
}
