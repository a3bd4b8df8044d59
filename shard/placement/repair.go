package placement

import (
	"cmp"
	"slices"
)

// repair does what single shards need, the most urgent first.
func (p *planner) repair() {
	type need struct {
		shard *shard
		why   Reason
	}
	var needs []need
	for i := range p.shards {
		s := &p.shards[i]
		if !s.steady {
			continue
		}
		if why, ok := p.why(s); ok {
			needs = append(needs, need{s, why})
		} else {
			s.calm = true
		}
	}
	slices.SortStableFunc(needs, func(a, b need) int {
		return cmp.Or(cmp.Compare(a.why, b.why), cmp.Compare(a.shard.live, b.shard.live))
	})
	for _, n := range needs {
		p.mend(n.shard, n.why)
	}
}

// why says whether something about a shard may need doing, and for what reason.
func (p *planner) why(s *shard) (why Reason, ok bool) {
	note := func(r Reason, holds bool) {
		if holds && (!ok || r < why) {
			why, ok = r, true
		}
	}
	for _, r := range s.replicas {
		n := &p.nodes[r.node]
		note(Restore, r.voter && n.health == Gone)
		note(Drain, r.voter && n.draining)
		note(Tidy, !r.voter || !r.keep)
	}
	note(Grow, s.live < p.target)
	return why, ok
}

// mend makes the next step with a shard: promote what has caught up and remove what that makes superfluous; let another lead where the
// leader has to go; else add what is missing.
func (p *planner) mend(s *shard, why Reason) {
	alive := 0
	coming := 0 // replicas that will be voters, as far as one can see
	var promote, remove []int
	for i, r := range s.replicas {
		n := &p.nodes[r.node]
		switch {
		case r.voter && n.health == Alive:
			alive++
		case r.voter:
		case !r.keep:
			remove = append(remove, i)
		case r.caught && n.health == Alive:
			promote = append(promote, i)
		}
		if r.keep && (r.voter || n.health == Alive) {
			coming++
		}
	}
	if len(promote) > 0 && why == Tidy {
		why = p.purpose(s)
	}
	alive += len(promote)
	live := s.live + len(promote)
	// What can still vote goes only when there are enough others, and a quorum of them is alive.
	for _, i := range p.leaving(s) {
		left := alive
		if p.nodes[s.replicas[i].node].health == Alive {
			left--
		}
		if live > p.target && 2*left > live-1 {
			live, alive = live-1, left
			remove = append(remove, i)
		}
	}
	// A voter that is gone may come back. Beside an even number of others it takes nothing away: one more must vote, and one more may.
	// So one is kept while nothing can replace it: of three, any two will do. Beside an odd number it only raises the quorum.
	spare := live < p.want && live%2 == 0 && 2*alive > live+1
	for i, r := range s.replicas {
		if n := &p.nodes[r.node]; !r.voter || n.health != Gone {
			continue
		} else if spare && !n.draining {
			spare = false
			continue
		}
		remove = append(remove, i)
	}

	if s.leader >= 0 && slices.Contains(remove, s.leader) {
		if to := p.heir(s, remove); to >= 0 {
			p.transfer(s, to, why)
			return
		}
		// Nobody else can lead yet: who was promoted will next time.
		remove = slices.DeleteFunc(remove, func(i int) bool { return i == s.leader })
	}
	if len(promote) > 0 || len(remove) > 0 {
		if p.begin(s) {
			p.move(s, Move{Kind: Swap, Reason: why, Promote: s.ids(promote), Remove: s.ids(remove)})
		}
		return
	}
	if p.nodes[s.replicas[s.leader].node].draining {
		if to := p.heir(s, nil); to >= 0 {
			p.transfer(s, to, Drain)
			return
		}
	}
	if coming >= p.target {
		return
	}
	if p.room <= 0 && !s.busy {
		return
	}
	n, held := p.place(s)
	if n >= 0 && p.begin(s) {
		p.take(s, n, why)
	}
	p.waiting = p.waiting || held
}

// leaving returns the voters that are not gone and should leave, the first to go first: those that drain, then those that are too
// many. The leader comes last of its kind.
func (p *planner) leaving(s *shard) []int {
	var out []int
	for _, draining := range []bool{true, false} {
		leader := false
		for i, r := range s.replicas {
			n := &p.nodes[r.node]
			if !r.voter || r.keep || n.health == Gone || n.draining != draining {
				continue
			}
			if i == s.leader {
				leader = true
				continue
			}
			out = append(out, i)
		}
		if leader {
			out = append(out, s.leader)
		}
	}
	return out
}

// purpose tells what a learner beside enough voters was added for.
func (p *planner) purpose(s *shard) Reason {
	before, after := 0, 0
	for i, r := range s.replicas {
		if r.voter {
			for _, o := range s.replicas[:i] {
				if p.nodes[o.node].zone == p.nodes[r.node].zone {
					before++
				}
			}
		}
		if r.keep {
			after += p.crowd(s, r.node, i)
		}
	}
	if after/2 < before {
		return Spread
	}
	return Even
}

func (s *shard) ids(of []int) []ReplicaID {
	var out []ReplicaID
	for _, i := range of {
		out = append(out, s.replicas[i].id)
	}
	return out
}

// heir returns who should lead instead of the leader: a voter that stays, on the open node that leads the fewest shards. It is -1 if
// there is none.
func (p *planner) heir(s *shard, remove []int) int {
	best := -1
	for i, r := range s.replicas {
		n := &p.nodes[r.node]
		if !r.voter || i == s.leader || !n.open() || slices.Contains(remove, i) {
			continue
		}
		if best < 0 || n.leads < p.nodes[s.replicas[best].node].leads {
			best = i
		}
	}
	return best
}

func (p *planner) transfer(s *shard, to int, why Reason) bool {
	if p.transfers <= 0 || !p.begin(s) {
		return false
	}
	p.transfers--
	p.nodes[s.replicas[s.leader].node].leads--
	p.nodes[s.replicas[to].node].leads++
	s.leader = to
	p.move(s, Move{Kind: TransferLeader, Reason: why, Replica: s.replicas[to].id})
	return true
}

// place returns the node for another replica of a shard: in the zone that has the fewest of them, and there the one that holds least,
// measured by its share. If there is none (-1), held says that there is one which can take no more for now: waiting for it is better than
// another zone, from which the replica would have to move again.
func (p *planner) place(s *shard) (best int32, held bool) {
	least, free := p.thinnest(s)
	best = -1
	if least < 0 || !free {
		return -1, least >= 0
	}
	for i := range p.nodes {
		n := &p.nodes[i]
		if !n.open() || n.incoming >= p.limits.Incoming || best >= 0 && n.excess() >= p.nodes[best].excess()-slack {
			continue
		}
		if p.crowd(s, int32(i), -1) == least && !s.on(int32(i)) {
			best = int32(i)
		}
	}
	return best, best < 0
}

// thinnest looks at the zones with an open node that has no replica of the shard. It returns the smallest number of replicas that one of
// them holds, -1 if there is no such zone, and whether such a node can take one now.
func (p *planner) thinnest(s *shard) (least int, free bool) {
	least = -1
	for i, r := range s.replicas {
		if r.keep {
			p.count[p.nodes[r.node].zone]++
		}
		p.occupy(s, i, -1)
	}
	for i := range p.zones {
		z := &p.zones[i]
		if z.open > 0 && (least < 0 || p.count[i] < least) {
			least, free = p.count[i], false
		}
		free = free || z.open > 0 && p.count[i] == least && z.free > 0
	}
	for i, r := range s.replicas {
		if r.keep {
			p.count[p.nodes[r.node].zone] = 0
		}
		p.occupy(s, i, 1)
	}
	return least, free
}

// occupy takes a replica's node out of what its zone has to offer, or gives it back.
func (p *planner) occupy(s *shard, i, by int) {
	r := s.replicas[i]
	n := &p.nodes[r.node]
	if !n.open() || slices.ContainsFunc(s.replicas[:i], func(o replica) bool { return o.node == r.node }) {
		return
	}
	p.zones[n.zone].open += by
	if n.incoming < p.limits.Incoming {
		p.zones[n.zone].free += by
	}
}
