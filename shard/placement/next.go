package placement

import (
	"cmp"
	"slices"
)

// planner is one call of Next. What it decides is counted at once, so that later decisions see it.
type planner struct {
	want   int
	target int // voters a shard shall have now
	limits Limits
	nodes  []node // by id, and one more that stands for all that are not in the view
	zones  []zone
	shards []shard // by id

	room      int // changes that may still be begun
	transfers int // leaders that may still be moved
	waiting   bool
	moves     []Move

	count []int // of a shard's replicas, by zone; zero between uses
}

type node struct {
	id       NodeID
	zone     int32
	health   Health
	draining bool
	load     int // replicas that are there to stay, or to come
	voters   int
	leads    int
	incoming int // learners that catch up
	share    float64
}

// good nodes keep what they have.
func (n *node) good() bool { return n.health != Gone && !n.draining }

// open nodes may be given something.
func (n *node) open() bool { return n.health == Alive && !n.draining }

// excess is how much a node holds over its share.
func (n *node) excess() float64 { return float64(n.load) - n.share }

type zone struct {
	good, open int // nodes
	free       int // open ones that can take another learner
}

type shard struct {
	id       ShardID
	replicas []replica // voters first, then by id
	leader   int       // in replicas, or -1
	steady   bool      // may be changed: nothing is in flight, there is a leader, and no move was chosen
	busy     bool      // counts as changing already
	calm     bool      // steady, and nothing about it needs doing
	live     int       // voters that are not gone
}

type replica struct {
	id     ReplicaID
	node   int32
	voter  bool
	caught bool
	keep   bool // on a good node, and not too many
}

// Next returns the moves to make now, the most urgent first. It asks for nothing that is in flight, and for nothing
// at all once everything is where it should be. The order of nodes, shards and replicas in the view does not matter.
func Next(v View, l Limits) []Move {
	p := &planner{want: max(1, v.Want), limits: l.withDefaults()}
	p.transfers = p.limits.Transfers
	p.addNodes(v.Nodes)
	p.addShards(v.Shards)
	p.repair()
	if !p.waiting {
		// What only makes things nicer leaves half of the room to what may become urgent while it is in flight.
		reserve := p.limits.Changing / 2
		p.room -= reserve
		p.spread()
		p.even()
		p.room += reserve
	}
	p.lead()
	return p.moves
}

func (p *planner) addNodes(nodes []Node) {
	byID := func(a, b Node) int { return cmp.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(nodes, byID) {
		nodes = slices.SortedStableFunc(slices.Values(nodes), byID)
	}
	zones := map[string]int32{}
	good := 0
	p.nodes = make([]node, 0, len(nodes)+1)
	for _, n := range nodes {
		z, ok := zones[n.Zone]
		if !ok {
			z = int32(len(p.zones))
			zones[n.Zone] = z
			p.zones = append(p.zones, zone{})
		}
		c := node{id: n.ID, zone: z, health: n.Health, draining: n.Draining}
		if c.good() {
			good++
			p.zones[z].good++
		}
		if c.open() {
			p.zones[z].open++
		}
		p.nodes = append(p.nodes, c)
	}
	p.nodes = append(p.nodes, node{health: Gone})
	p.count = make([]int, len(p.zones))
	// With no good node left there is nowhere to go: what there is stays.
	p.target = p.want
	if good > 0 {
		p.target = min(p.want, good)
	}
}

func (p *planner) addShards(shards []Shard) {
	byID := func(a, b Shard) int { return cmp.Compare(a.ID, b.ID) }
	if !slices.IsSortedFunc(shards, byID) {
		shards = slices.SortedStableFunc(slices.Values(shards), byID)
	}
	index := make(map[NodeID]int32, len(p.nodes))
	for i := range p.nodes[:len(p.nodes)-1] {
		index[p.nodes[i].id] = int32(i)
	}
	replicas := 0
	for i := range shards {
		replicas += len(shards[i].Replicas)
	}
	all := make([]replica, 0, replicas)
	p.shards = make([]shard, len(shards))
	p.room = p.limits.Changing
	total := 0
	for i := range shards {
		from := len(all)
		for _, r := range shards[i].Replicas {
			n, ok := index[r.Node]
			if !ok {
				n = int32(len(p.nodes) - 1)
			}
			all = append(all, replica{id: r.ID, node: n, voter: r.Voter, caught: r.CaughtUp})
		}
		p.shards[i] = shard{id: shards[i].ID, replicas: all[from:len(all):len(all)], leader: -1}
		total += p.addShard(&p.shards[i], &shards[i])
	}
	for i := range p.nodes {
		if n := &p.nodes[i]; n.open() && n.incoming < p.limits.Incoming {
			p.zones[n.zone].free++
		}
	}
	sizes := make([]int, len(p.zones))
	for i := range p.zones {
		sizes[i] = p.zones[i].good
	}
	each := shares(total, p.target, sizes)
	for i := range p.nodes[:len(p.nodes)-1] {
		p.nodes[i].share = each[p.nodes[i].zone]
	}
	for i := range p.shards {
		s := &p.shards[i]
		for kept := s.kept(); kept > p.target; kept-- {
			r := &s.replicas[p.worst(s)]
			r.keep = false
			p.nodes[r.node].load--
		}
	}
}

// addShard counts what a shard holds and returns how many replicas it will have in the end.
func (p *planner) addShard(s *shard, from *Shard) int {
	slices.SortFunc(s.replicas, func(a, b replica) int {
		if a.voter != b.voter {
			if a.voter {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.id, b.id)
	})
	voters, alive, learners, kept := 0, 0, 0, 0
	for i := range s.replicas {
		r := &s.replicas[i]
		n := &p.nodes[r.node]
		if r.voter {
			voters++
			n.voters++
			if n.health == Alive {
				alive++
				if r.id == from.Leader {
					s.leader = i
					n.leads++
				}
			}
			if n.health != Gone {
				s.live++
			}
		} else if n.health == Alive {
			learners++
		}
		if n.good() && !slices.ContainsFunc(s.replicas[:i], func(o replica) bool { return o.node == r.node }) {
			r.keep = true
			n.load++
			kept++
		}
	}
	if 2*alive <= voters {
		return min(kept, p.target)
	}
	if s.leader >= 0 {
		// Where nobody can decide nothing moves, perhaps for long: that must not use up the limits.
		for _, r := range s.replicas {
			if !r.voter && !r.caught {
				p.nodes[r.node].incoming++
			}
		}
		if s.busy = from.Changing || learners > 0; s.busy {
			p.room--
		}
		s.steady = !from.Changing
	}
	if !s.steady && kept < p.target {
		p.waiting = true
	}
	return p.target
}

func (s *shard) kept() int {
	n := 0
	for i := range s.replicas {
		if s.replicas[i].keep {
			n++
		}
	}
	return n
}

func (s *shard) on(n int32) bool {
	for i := range s.replicas {
		if s.replicas[i].node == n {
			return true
		}
	}
	return false
}

// crowd counts the kept replicas in the zone of a node, but one.
func (p *planner) crowd(s *shard, n int32, but int) int {
	c := 0
	for i, r := range s.replicas {
		if i != but && r.keep && p.nodes[r.node].zone == p.nodes[n].zone {
			c++
		}
	}
	return c
}

// worst returns which of the kept replicas the shard can best do without: first a learner whose node fell silent, then the one that
// shares its zone with most others, then the one whose node holds most. Between equals a learner goes, so that a node that came back
// keeps what it has, and leaders stay.
func (p *planner) worst(s *shard) int {
	best := -1
	var lost bool
	var crowd int
	var excess float64
	for i, r := range s.replicas {
		if !r.keep {
			continue
		}
		n := &p.nodes[r.node]
		l, c, e := !r.voter && n.health != Alive, p.crowd(s, r.node, i), n.excess()
		better := false
		switch {
		case best < 0:
			better = true
		case l != lost:
			better = l
		case c != crowd:
			better = c > crowd
		case e > excess+slack:
			better = true
		case e < excess-slack:
		default:
			better = !r.voter || best == s.leader
		}
		if better {
			best, lost, crowd, excess = i, l, c, e
		}
	}
	return best
}

// begin reserves a change of a shard; it is false if there are too many.
func (p *planner) begin(s *shard) bool {
	if s.busy {
		return true
	}
	if p.room <= 0 {
		return false
	}
	p.room--
	s.busy = true
	return true
}

func (p *planner) move(s *shard, m Move) {
	m.Shard = s.id
	s.steady, s.calm = false, false
	p.moves = append(p.moves, m)
}

// take counts a new learner of a shard on a node.
func (p *planner) take(s *shard, n int32, why Reason) {
	c := &p.nodes[n]
	c.load++
	if c.incoming++; c.incoming == p.limits.Incoming {
		p.zones[c.zone].free--
	}
	p.move(s, Move{Kind: AddLearner, Reason: why, Node: c.id})
}
