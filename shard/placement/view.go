package placement

import (
	"fmt"
	"slices"
	"strings"
)

// NodeID names a node that can hold replicas.
type NodeID string

// ShardID numbers a shard.
type ShardID uint32

// ReplicaID numbers a replica within its shard; zero is none. It is never used again.
type ReplicaID uint64

// Health is what the caller thinks of a node.
type Health uint8

const (
	// Alive nodes answer.
	Alive Health = iota
	// Silent nodes did not for a moment: they keep their replicas, and get no new ones and no leaders. One that is still heard as
	// a leader is not silent.
	Silent
	// Gone nodes were silent for longer than the grace time: their replicas are replaced where there is a place.
	Gone
)

// Node is a place for replicas.
type Node struct {
	ID NodeID
	// Zone is what fails together. Nodes that name none are one zone. Spread over zones comes before even load: where zones have
	// different numbers of nodes, those of a small one hold more.
	Zone   string
	Health Health
	// Draining nodes are being emptied, alive or not. One that is gone as well will not come back.
	Draining bool
}

// Replica is one copy of a shard.
type Replica struct {
	ID   ReplicaID
	Node NodeID
	// Voter replicas count towards the quorum; the others are learners.
	Voter bool
	// CaughtUp learners have nearly all of the leader's log.
	CaughtUp bool
}

// Shard is one replicated log. While it is Changing it should be shown as it will be afterwards; shown as it was, the loads
// are off by what is in flight, which costs at worst a move too many.
type Shard struct {
	ID       ShardID
	Replicas []Replica
	// Leader is zero while it is not known. A leader on a node that is not alive counts as not known: nobody would carry out a move.
	Leader ReplicaID
	// Changing shards have a move or another change of members in flight and are left alone.
	Changing bool
}

// After returns the shard as it will be when a move is done, and Changing. Of an AddLearner the caller
// has filled in the replica.
func (s Shard) After(m Move) Shard {
	s.Changing = true
	switch m.Kind {
	case AddLearner:
		s.Replicas = append(slices.Clone(s.Replicas), Replica{ID: m.Replica, Node: m.Node})
	case Swap:
		s.Replicas = slices.DeleteFunc(slices.Clone(s.Replicas), func(r Replica) bool { return slices.Contains(m.Remove, r.ID) })
		for i := range s.Replicas {
			r := &s.Replicas[i]
			r.Voter = r.Voter || slices.Contains(m.Promote, r.ID)
		}
	case TransferLeader:
		s.Leader = m.Replica
	}
	return s
}

// View is what there is.
type View struct {
	// Nodes are those that may hold replicas, each once. What is on others is taken for lost.
	Nodes  []Node
	Shards []Shard
	// Want is how many voters a shard should have when there are nodes enough; at least one.
	Want int
}

// Limits bound what is in flight. Zero means the default. Shards without a quorum or a leader do not count: nothing moves there.
type Limits struct {
	// Changing bounds the shards that are changing or have a learner, over the whole cluster; 64 by default.
	Changing int
	// Incoming bounds the learners of a node that still catch up; 2 by default.
	Incoming int
	// Transfers bounds the leaders moved by one call; 16 by default. They count as changing as well.
	Transfers int
}

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Changing, 64)
	set(&l.Incoming, 2)
	set(&l.Transfers, 16)
	return l
}

// Kind says what a move does.
type Kind uint8

const (
	// AddLearner adds a replica that does not vote yet, on Node. The caller gives it an id.
	AddLearner Kind = iota
	// Swap promotes learners and removes replicas in one joint change.
	Swap
	// TransferLeader makes Replica the leader.
	TransferLeader
)

// Reason says what a move is for, in order of urgency.
type Reason uint8

const (
	// Restore replaces what was on nodes that are gone.
	Restore Reason = iota
	// Drain empties a node.
	Drain
	// Grow adds voters where there are fewer than wanted.
	Grow
	// Tidy removes what is too many.
	Tidy
	// Spread uses more zones.
	Spread
	// Even moves replicas from nodes that hold more than their share to nodes that hold less.
	Even
	// Lead does so with leaders.
	Lead
)

func (r Reason) String() string {
	return [...]string{"restore", "drain", "grow", "tidy", "spread", "even", "lead"}[r]
}

// Move is one change of one shard.
type Move struct {
	Kind   Kind
	Reason Reason
	Shard  ShardID
	// Node is where AddLearner puts the replica.
	Node NodeID
	// Replica is who shall lead after TransferLeader, or what the caller names the learner.
	Replica ReplicaID
	// Promote and Remove are what Swap does; one of them may be empty. The leader is never removed.
	Promote, Remove []ReplicaID
}

func (m Move) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "shard %d: ", m.Shard)
	switch m.Kind {
	case AddLearner:
		fmt.Fprintf(&b, "add a learner on %s", m.Node)
	case Swap:
		if len(m.Promote) > 0 {
			fmt.Fprintf(&b, "promote %v", m.Promote)
		}
		if len(m.Promote) > 0 && len(m.Remove) > 0 {
			b.WriteString(", ")
		}
		if len(m.Remove) > 0 {
			fmt.Fprintf(&b, "remove %v", m.Remove)
		}
	case TransferLeader:
		fmt.Fprintf(&b, "let %d lead", m.Replica)
	}
	fmt.Fprintf(&b, " (%s)", m.Reason)
	return b.String()
}
