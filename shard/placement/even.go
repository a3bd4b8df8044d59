package placement

import (
	"cmp"
	"slices"
)

// tolerance is the part of its share that a node may be off, beside the margin for nodes that hold little.
const tolerance = 20

// margin is how far from its share a node may be before replicas are moved: copying them costs more than a few too many.
// It also keeps them from moving again when those of a lost node found places that are not quite even.
func (n *node) margin() float64 { return 2 + n.share/tolerance - slack }

// spread moves replicas of shards that share a zone where another has room for one.
func (p *planner) spread() {
	if len(p.zones) < 2 {
		return
	}
	for i := range p.shards {
		s := &p.shards[i]
		if p.room <= 0 {
			return
		}
		if !p.movable(s) {
			continue
		}
		most := 0
		for i, r := range s.replicas {
			most = max(most, p.crowd(s, r.node, i))
		}
		if most == 0 {
			continue
		}
		if least, free := p.thinnest(s); least < 0 || least >= most || !free {
			continue
		}
		if n, _ := p.place(s); n >= 0 && p.begin(s) {
			p.replace(s, n, Spread)
		}
	}
}

// movable says that a shard can do with a move that only makes things nicer: nothing else is to be done, and all its voters are well.
func (p *planner) movable(s *shard) bool {
	if !s.calm {
		return false
	}
	for _, r := range s.replicas {
		if p.nodes[r.node].health != Alive {
			return false
		}
	}
	return true
}

// replace puts a learner on a node and counts it in the place of the one that will go.
func (p *planner) replace(s *shard, n int32, why Reason) {
	s.replicas = append(s.replicas, replica{node: n, keep: true})
	p.take(s, n, why)
	i := p.worst(s)
	s.replicas[i].keep = false
	p.nodes[s.replicas[i].node].load--
}

// even moves replicas from nodes over their share to nodes below it, while one of the two is off by its margin. Every move makes the
// sum of the squares of what nodes are off by smaller, and none makes the spread worse: so it ends.
func (p *planner) even() {
	still := p.room == p.limits.Changing-p.limits.Changing/2
	if !p.evenOut(false) && still {
		// Zones can be in the way of all such moves. Then replicas go by way of nodes that are within their margins, one at a time.
		p.evenOut(true)
	}
}

// evenOut says whether it moved something. A detour is one move between any two nodes that makes things more even.
func (p *planner) evenOut(detour bool) (moved bool) {
	var givers, takers []int32
	over, under := false, false
	for i := range p.nodes {
		n := &p.nodes[i]
		if !n.open() {
			continue
		}
		e := n.excess()
		if e > slack || detour {
			givers = append(givers, int32(i))
			over = over || e >= n.margin()
		}
		if (e < -slack || detour) && n.incoming < p.limits.Incoming {
			takers = append(takers, int32(i))
			under = under || e <= -n.margin()
		}
	}
	if p.room <= 0 || len(takers) == 0 || !over && !under {
		return false
	}
	off := func(i int32) float64 { return p.nodes[i].excess() / p.nodes[i].margin() }
	byExcess := func(a, b int32) int { return cmp.Or(cmp.Compare(off(a), off(b)), cmp.Compare(a, b)) }
	slices.SortFunc(takers, byExcess)
	slices.SortFunc(givers, func(a, b int32) int { return byExcess(b, a) })
	held := p.byNode(func(s *shard) bool { return p.movable(s) }, func(*shard, int) bool { return true })
	for p.room > 0 && len(givers) > 0 && len(takers) > 0 {
		a := givers[0]
		s, at := p.choose(held.of(a), a, takers, detour)
		if s == nil {
			givers = givers[1:]
			continue
		}
		b := takers[at]
		p.begin(s)
		p.replace(s, b, Even)
		if moved = true; detour {
			return
		}
		// Both are kept in order; those that have their share or are full drop out.
		done := p.nodes[a].excess() <= slack
		givers = settle(givers, 0, done, func(x, y int32) bool { return byExcess(x, y) < 0 })
		done = p.nodes[b].incoming >= p.limits.Incoming || p.nodes[b].excess() >= -slack
		takers = settle(takers, at, done, func(x, y int32) bool { return byExcess(x, y) > 0 })
	}
	return moved
}

// settle puts the element at i where it belongs after it should come later than before, or drops it.
func settle(list []int32, i int, drop bool, later func(a, b int32) bool) []int32 {
	if drop {
		return slices.Delete(list, i, i+1)
	}
	for ; i+1 < len(list) && later(list[i], list[i+1]); i++ {
		list[i], list[i+1] = list[i+1], list[i]
	}
	return list
}

// choose returns the shard of a node that can move to the taker furthest below its share, and that taker's place in the list. One of the
// two must be off by its margin, unless always is set. Shards led from elsewhere are preferred: they need no other leader first.
func (p *planner) choose(shards []int32, from int32, takers []int32, always bool) (*shard, int) {
	var best *shard
	at, leads := len(takers), false
	gives := p.nodes[from].excess()
	always = always || gives >= p.nodes[from].margin()
	for _, i := range shards {
		s := &p.shards[i]
		if !p.movable(s) {
			continue
		}
		me := slices.IndexFunc(s.replicas, func(r replica) bool { return r.node == from })
		crowd, led := p.crowd(s, from, me), s.leader == me
		for k, n := range takers[:min(at+1, len(takers))] {
			if !always && p.nodes[n].excess() > -p.nodes[n].margin() {
				break
			}
			if gives-p.nodes[n].excess() <= 1+slack || s.on(n) || p.crowd(s, n, me) > crowd {
				continue
			}
			if best == nil || k < at || k == at && leads && !led {
				best, at, leads = s, k, led
			}
			break
		}
		if at == 0 && !leads {
			break
		}
	}
	return best, at
}

// lists holds shards by node.
type lists struct {
	from []int32
	all  []int32
}

func (l *lists) of(n int32) []int32 { return l.all[l.from[n]:l.from[n+1]] }

// byNode lists the shards that want says, under the nodes of those replicas that which says.
func (p *planner) byNode(want func(*shard) bool, which func(s *shard, i int) bool) *lists {
	l := &lists{from: make([]int32, len(p.nodes)+1)}
	each := func(f func(shard int, node int32)) {
		for i := range p.shards {
			s := &p.shards[i]
			if !want(s) {
				continue
			}
			for j := range s.replicas {
				if which(s, j) {
					f(i, s.replicas[j].node)
				}
			}
		}
	}
	each(func(_ int, n int32) { l.from[n+1]++ })
	for i := range p.nodes {
		l.from[i+1] += l.from[i]
	}
	l.all = make([]int32, l.from[len(p.nodes)])
	next := slices.Clone(l.from)
	each(func(i int, n int32) {
		l.all[next[n]] = int32(i)
		next[n]++
	})
	return l
}
