package placement

import (
	"cmp"
	"math"
	"slices"
)

// leadBounds returns the most and the fewest shards a node should lead: one more or less than its fair share, rounded away from it;
// just rounded where shares are small. Anything tighter would move many leaders whenever a node joins.
func leadBounds(leaders, nodes int) (most, fewest int) {
	fair := float64(leaders) / float64(nodes)
	by := min(1, fair/8)
	return int(math.Ceil(fair + by - slack)), int(math.Floor(fair - by + slack))
}

// lead evens out leaders. Handing one shard to the next best node is not always enough, since only a voter can lead: so leaders move
// along paths, of which each node but the last passes one on for the one it gets.
func (p *planner) lead() {
	total, count := 0, 0
	var nodes []int32
	for i := range p.nodes {
		n := &p.nodes[i]
		total += n.leads
		if n.open() && n.voters > 0 {
			count++
			nodes = append(nodes, int32(i))
		}
	}
	if count == 0 {
		return
	}
	most, fewest := leadBounds(total, count)
	over := func(i int32) bool { return p.nodes[i].leads > most }
	under := func(i int32) bool { return p.nodes[i].leads < fewest }
	nodes = slices.DeleteFunc(nodes, func(i int32) bool { return !over(i) && !under(i) })
	if len(nodes) == 0 {
		return
	}
	slices.SortFunc(nodes, func(a, b int32) int {
		return cmp.Or(cmp.Compare(p.nodes[b].leads, p.nodes[a].leads), cmp.Compare(a, b))
	})
	w := &walk{p: p, seen: make([]bool, len(p.nodes)), by: make([]step, len(p.nodes))}
	w.led = p.byNode(p.settled, func(s *shard, i int) bool { return i == s.leader })
	w.voted = p.byNode(p.settled, func(s *shard, i int) bool { return i != s.leader && p.nodes[s.replicas[i].node].open() })
	for _, i := range nodes {
		for over(i) && w.pass(i, true) {
		}
	}
	clear(w.seen)
	slices.Reverse(nodes)
	for _, i := range nodes {
		for under(i) && w.pass(i, false) {
		}
	}
}

// settled shards have nothing in flight that a new leader would have to begin again.
func (p *planner) settled(s *shard) bool { return s.steady && !s.busy }

// walk looks for the shortest path from a node that leads too many shards to one that leads at least two fewer, or backwards
// from one that leads too few.
type walk struct {
	p          *planner
	led, voted *lists
	// seen nodes lead nowhere: a search that failed saw everything that can be reached from them.
	seen  []bool
	by    []step
	level []int32
}

// step says how a node was reached: over a shard, from a node.
type step struct {
	shard, from int32
}

// pass moves leaders along one path; it is false if there is none, or no more may be moved. Of a path that is too long for the limits
// the far end is done: the rest is a shorter path next time.
func (w *walk) pass(start int32, giving bool) bool {
	p := w.p
	if p.transfers <= 0 || p.room <= 0 {
		return false
	}
	w.level = append(w.level[:0], start)
	w.seen[start] = true
	visited := []int32{start}
	for len(w.level) > 0 {
		var next []int32
		end := int32(-1)
		for _, x := range w.level {
			w.edges(x, giving, func(shard, y int32) {
				if w.seen[y] {
					return
				}
				w.seen[y] = true
				w.by[y] = step{shard, x}
				next = append(next, y)
				gain, best := p.nodes[start].leads-p.nodes[y].leads, 0
				if end >= 0 {
					best = p.nodes[start].leads - p.nodes[end].leads
				}
				if !giving {
					gain, best = -gain, -best
				}
				if gain >= 2 && gain > best {
					end = y
				}
			})
		}
		visited = append(visited, next...)
		w.level = next
		if end < 0 {
			continue
		}
		for _, v := range visited {
			w.seen[v] = false
		}
		for y := end; y != start; y = w.by[y].from {
			to := y
			if !giving {
				to = w.by[y].from
			}
			s := &p.shards[w.by[y].shard]
			if !p.transfer(s, slices.IndexFunc(s.replicas, func(r replica) bool { return r.node == to }), Lead) {
				return false
			}
		}
		return true
	}
	return false
}

// edges yields the nodes that could take a leader over from x, or those that x could take one over from.
func (w *walk) edges(x int32, giving bool, yield func(shard, node int32)) {
	p := w.p
	if !giving {
		for _, i := range w.voted.of(x) {
			if s := &p.shards[i]; p.settled(s) {
				yield(i, s.replicas[s.leader].node)
			}
		}
		return
	}
	for _, i := range w.led.of(x) {
		s := &p.shards[i]
		if !p.settled(s) {
			continue
		}
		for j, r := range s.replicas {
			if r.voter && j != s.leader && p.nodes[r.node].open() {
				yield(i, r.node)
			}
		}
	}
}
