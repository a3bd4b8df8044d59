package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// cluster is a model of what moves are carried out on.
type cluster struct {
	nodes  []Node
	shards []Shard
	want   int
	ids    ReplicaID
	made   int // nodes
}

// newCluster founds shards with one voter each on the first node.
func newCluster(nodes, zones, shards, want int) *cluster {
	c := &cluster{want: want}
	for range nodes {
		c.join(zones)
	}
	for i := range shards {
		c.ids++
		c.shards = append(c.shards, Shard{ID: ShardID(i), Leader: c.ids, Replicas: []Replica{{ID: c.ids, Node: c.nodes[0].ID, Voter: true}}})
	}
	return c
}

func (c *cluster) join(zones int) *Node {
	c.nodes = append(c.nodes, Node{ID: NodeID(fmt.Sprintf("n%04d", c.made)), Zone: fmt.Sprintf("z%d", c.made%max(1, zones))})
	c.made++
	return &c.nodes[len(c.nodes)-1]
}

func (c *cluster) view() View { return View{Nodes: c.nodes, Shards: c.shards, Want: c.want} }

func (c *cluster) node(id NodeID) *Node {
	// Nodes are made in the order of their names, mostly.
	i, ok := slices.BinarySearchFunc(c.nodes, id, func(n Node, id NodeID) int { return strings.Compare(string(n.ID), string(id)) })
	if ok {
		return &c.nodes[i]
	}
	for i := range c.nodes {
		if c.nodes[i].ID == id {
			return &c.nodes[i]
		}
	}
	return nil
}

func (c *cluster) health(id NodeID) Health {
	if n := c.node(id); n != nil {
		return n.Health
	}
	return Gone
}

// quorum says whether most voters are on nodes that are alive.
func (c *cluster) quorum(s Shard) bool {
	voters, alive := 0, 0
	for _, r := range s.Replicas {
		if r.Voter {
			voters++
			if c.health(r.Node) == Alive {
				alive++
			}
		}
	}
	return 2*alive > voters
}

// after is the shard as a move leaves it. Learners get their ids here.
func (c *cluster) after(m Move) Shard {
	if m.Kind == AddLearner {
		c.ids++
		m.Replica = c.ids
	}
	return c.shards[m.Shard].After(m)
}

// elect gives a leader to every shard that can have one and has not.
func (c *cluster) elect(rng *rand.Rand) {
	for i := range c.shards {
		s := &c.shards[i]
		var can []ReplicaID
		led := false
		for _, r := range s.Replicas {
			if r.Voter && c.health(r.Node) == Alive {
				can = append(can, r.ID)
				led = led || r.ID == s.Leader
			}
		}
		switch {
		case !c.quorum(*s):
			s.Leader = 0
		case led:
		case rng == nil:
			s.Leader = can[0]
		case rng.IntN(2) == 0:
			s.Leader = can[rng.IntN(len(can))]
		}
	}
}

// catchUp lets all learners that can catch up.
func (c *cluster) catchUp() {
	for i := range c.shards {
		s := &c.shards[i]
		for j := range s.Replicas {
			if r := &s.Replicas[j]; !r.Voter && c.quorum(*s) && c.health(r.Node) == Alive {
				r.CaughtUp = true
			}
		}
	}
}

// round asks once and does at once what is asked for.
func (c *cluster) round(l Limits, rng *rand.Rand) []Move {
	c.elect(rng)
	moves := Next(c.view(), l)
	c.catchUp()
	for _, m := range moves {
		s := c.after(m)
		s.Changing = false
		c.shards[m.Shard] = s
	}
	return moves
}

// settle does so until nothing is asked for, and counts the learners added.
func (c *cluster) settle(l Limits, rng *rand.Rand) (rounds int, added []Move, err error) {
	for rounds = range 100_000 {
		moves := c.round(l, rng)
		if len(moves) == 0 && !c.learners() && !c.voting() {
			return rounds, added, nil
		}
		for _, m := range moves {
			if m.Kind == AddLearner {
				added = append(added, m)
			}
		}
	}
	return rounds, added, fmt.Errorf("never at rest")
}

// voting says whether an election is to be expected.
func (c *cluster) voting() bool {
	return slices.ContainsFunc(c.shards, func(s Shard) bool { return !s.Changing && c.quorum(s) && !c.led(s) })
}

func (c *cluster) learners() bool {
	return slices.ContainsFunc(c.shards, func(s Shard) bool {
		return !s.Changing && c.quorum(s) && slices.ContainsFunc(s.Replicas, func(r Replica) bool { return !r.Voter })
	})
}

// loads counts the voters and the leaders of each node.
func (c *cluster) loads() (voters, leads map[NodeID]int) {
	voters, leads = map[NodeID]int{}, map[NodeID]int{}
	for _, s := range c.shards {
		for _, r := range s.Replicas {
			if r.Voter {
				voters[r.Node]++
			}
			if r.ID == s.Leader {
				leads[r.Node]++
			}
		}
	}
	return voters, leads
}

// pairs counts the pairs of replicas of a shard that share a zone.
func (c *cluster) pairs(s Shard) int {
	n := 0
	for i, a := range s.Replicas {
		for _, b := range s.Replicas[:i] {
			x, y := c.node(a.Node), c.node(b.Node)
			if x != nil && y != nil && x.Zone == y.Zone {
				n++
			}
		}
	}
	return n
}

// target returns how many voters shards should have, and the nodes that can hold them.
func (c *cluster) target() (target int, good []Node) {
	for _, n := range c.nodes {
		if n.Health != Gone && !n.Draining {
			good = append(good, n)
		}
	}
	return min(c.want, len(good)), good
}

func (c *cluster) String() string {
	var b strings.Builder
	for _, s := range c.shards {
		fmt.Fprintf(&b, "%d:", s.ID)
		for _, r := range s.Replicas {
			b.WriteByte(' ')
			if !r.Voter {
				b.WriteByte('+')
			}
			if r.CaughtUp && !r.Voter {
				b.WriteByte('+')
			}
			b.WriteString(string(r.Node))
			if r.ID == s.Leader {
				b.WriteByte('*')
			}
			if h := c.health(r.Node); h != Alive {
				fmt.Fprintf(&b, "(%s)", [...]string{"", "silent", "gone"}[h])
			}
		}
		if s.Changing {
			b.WriteString(" ~")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
