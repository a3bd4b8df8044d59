package placement

import (
	"fmt"
	"math"
	"slices"
)

// checkMoves says what is wrong with moves, judged by the view alone.
func checkMoves(c *cluster, l Limits, moves []Move) error {
	l = l.withDefaults()
	target, _ := c.target()
	if target == 0 {
		target = c.want
	}
	moved := map[ShardID]bool{}
	incoming := map[NodeID]int{}
	busy, begun, nicer, transfers := 0, 0, 0, 0
	isBusy := func(s Shard) bool {
		return s.Changing || slices.ContainsFunc(s.Replicas, func(r Replica) bool { return !r.Voter && c.health(r.Node) == Alive })
	}
	for _, s := range c.shards {
		if !c.led(s) {
			continue
		}
		if isBusy(s) {
			busy++
		}
		for _, r := range s.Replicas {
			if !r.Voter && !r.CaughtUp {
				incoming[r.Node]++
			}
		}
	}
	for _, m := range moves {
		s := c.shards[m.Shard]
		if moved[m.Shard] {
			return fmt.Errorf("two moves: %s", m)
		}
		moved[m.Shard] = true
		if s.Changing || !c.led(s) {
			return fmt.Errorf("cannot be done now: %s", m)
		}
		if !isBusy(s) {
			begun++
			if m.Reason == Spread || m.Reason == Even {
				nicer++
			}
		}
		var err error
		switch m.Kind {
		case AddLearner:
			incoming[m.Node]++
			err = c.checkAdd(s, m)
			if incoming[m.Node] > l.Incoming {
				err = fmt.Errorf("too many learners at once")
			}
		case Swap:
			err = c.checkSwap(s, m, target)
		case TransferLeader:
			transfers++
			i := slices.IndexFunc(s.Replicas, func(r Replica) bool { return r.ID == m.Replica })
			if i < 0 || !s.Replicas[i].Voter || !c.open(s.Replicas[i].Node) || s.Leader == m.Replica {
				err = fmt.Errorf("cannot lead")
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
	}
	if begun > 0 && busy+begun > l.Changing {
		return fmt.Errorf("%d changing, %d more begun", busy, begun)
	}
	if nicer > 0 && busy+nicer > l.Changing-l.Changing/2 {
		return fmt.Errorf("%d changing, %d more begun that are not urgent", busy, nicer)
	}
	if transfers > l.Transfers {
		return fmt.Errorf("%d transfers", transfers)
	}
	return nil
}

// led says whether a shard has a quorum and a leader.
func (c *cluster) led(s Shard) bool {
	return c.quorum(s) && slices.ContainsFunc(s.Replicas, func(r Replica) bool {
		return r.ID == s.Leader && r.Voter && c.health(r.Node) == Alive
	})
}

func (c *cluster) open(id NodeID) bool {
	n := c.node(id)
	return n != nil && n.Health == Alive && !n.Draining
}

func (c *cluster) checkAdd(s Shard, m Move) error {
	if !c.open(m.Node) {
		return fmt.Errorf("not an open node")
	}
	if slices.ContainsFunc(s.Replicas, func(r Replica) bool { return r.Node == m.Node }) {
		return fmt.Errorf("has one already")
	}
	// No other zone has fewer, of those with a node that is open. Nodes that take no more for now count.
	crowd := func(zone string) (n int) {
		for _, r := range s.Replicas {
			if h := c.node(r.Node); h != nil && h.Health != Gone && !h.Draining && h.Zone == zone {
				n++
			}
		}
		return n
	}
	if m.Reason == Even {
		return nil
	}
	for _, n := range c.nodes {
		if !c.open(n.ID) || slices.ContainsFunc(s.Replicas, func(r Replica) bool { return r.Node == n.ID }) {
			continue
		}
		if crowd(n.Zone) < crowd(c.node(m.Node).Zone) {
			return fmt.Errorf("zone %s has fewer than %s", n.Zone, c.node(m.Node).Zone)
		}
	}
	return nil
}

func (c *cluster) checkSwap(s Shard, m Move, target int) error {
	if len(m.Promote)+len(m.Remove) == 0 {
		return fmt.Errorf("does nothing")
	}
	live := func(s Shard) (n int) {
		for _, r := range s.Replicas {
			if r.Voter && c.health(r.Node) != Gone {
				n++
			}
		}
		return n
	}
	found := 0
	for _, r := range s.Replicas {
		if slices.Contains(m.Promote, r.ID) {
			found++
			if r.Voter || !r.CaughtUp || !c.open(r.Node) {
				return fmt.Errorf("%d cannot be promoted", r.ID)
			}
		}
		if slices.Contains(m.Remove, r.ID) {
			found++
			if r.ID == s.Leader {
				return fmt.Errorf("removes the leader")
			}
		}
	}
	if found != len(m.Promote)+len(m.Remove) {
		return fmt.Errorf("names a replica that is not there, or twice")
	}
	after := s.After(m)
	if !c.quorum(after) {
		return fmt.Errorf("loses the quorum")
	}
	if live(after) < min(live(s), target) {
		return fmt.Errorf("leaves %d of %d voters", live(after), live(s))
	}
	return nil
}

// checkRest says what is wrong with a cluster that is asked for nothing more.
func checkRest(c *cluster) error {
	target, good := c.target()
	if target == 0 {
		return nil
	}
	held, total := map[NodeID]int{}, 0
	all, zones := true, map[string]int{}
	for _, n := range good {
		all = all && n.Health == Alive
		zones[n.Zone]++
	}
	for _, s := range c.shards {
		if !c.quorum(s) || s.Changing { // a change that needs a node which is gone
			all = false
			continue
		}
		live, gone := 0, 0
		nodes := map[NodeID]bool{}
		for _, r := range s.Replicas {
			if nodes[r.Node] {
				return fmt.Errorf("shard %d has two replicas on %s", s.ID, r.Node)
			}
			nodes[r.Node] = true
			n := c.node(r.Node)
			switch {
			case n == nil || n.Health == Gone:
				gone++
			case !r.Voter && n.Health == Silent:
			case !r.Voter:
				return fmt.Errorf("shard %d has a learner left", s.ID)
			default:
				live++
				held[r.Node]++
				total++
				// It can only stay where the others alone are no quorum.
				if n.Draining && !slices.ContainsFunc(good, func(n Node) bool { return n.Health == Silent }) {
					return fmt.Errorf("shard %d is on %s, which drains", s.ID, r.Node)
				}
			}
		}
		if gone > 0 && (live%2 != 0 || gone > 1 || live >= c.want) {
			return fmt.Errorf("shard %d has %d voters that are gone", s.ID, gone)
		}
		if live != target && all {
			return fmt.Errorf("shard %d has %d of %d voters", s.ID, live, target)
		}
	}
	if !all {
		return nil
	}
	sizes, names := []int{}, []string{}
	for z, n := range zones {
		sizes, names = append(sizes, n), append(names, z)
	}
	each := shares(total, target, sizes)
	for _, n := range good {
		share := each[slices.Index(names, n.Zone)]
		if off := float64(held[n.ID]) - share; math.Abs(off) >= 2+share/tolerance {
			return fmt.Errorf("node %s is off its share by %.2f", n.ID, off)
		}
	}
	best := fewestPairs(target, sizes)
	for _, s := range c.shards {
		s.Replicas = slices.DeleteFunc(slices.Clone(s.Replicas), func(r Replica) bool { return c.health(r.Node) == Gone })
		if got := c.pairs(s); got > best {
			return fmt.Errorf("shard %d has %d pairs in one zone: %d will do", s.ID, got, best)
		}
	}
	if len(good) > 50 { // where the closure takes too long, and paths are never missing
		_, leads := c.loads()
		for _, n := range good {
			most, fewest := leadBounds(len(c.shards), len(good))
			if got := leads[n.ID]; got > most || got < fewest {
				return fmt.Errorf("node %s leads %d shards, of %d to %d", n.ID, got, fewest, most)
			}
		}
		return nil
	}
	return c.checkLeads(good)
}

// fewestPairs puts replicas one by one where they meet the fewest.
func fewestPairs(replicas int, sizes []int) int {
	used, pairs := make([]int, len(sizes)), 0
	for range replicas {
		best := -1
		for i := range sizes {
			if used[i] < sizes[i] && (best < 0 || used[i] < used[best]) {
				best = i
			}
		}
		pairs += used[best]
		used[best]++
	}
	return pairs
}

// checkLeads accepts a node that is off its fair share only if leaders cannot be passed on, from node to node, to or from another.
func (c *cluster) checkLeads(good []Node) error {
	voters, leads := c.loads()
	total, nodes := 0, 0
	for _, n := range good {
		total += leads[n.ID]
		if voters[n.ID] > 0 {
			nodes++
		}
	}
	reach := map[[2]NodeID]bool{}
	for _, s := range c.shards {
		for _, a := range s.Replicas {
			for _, b := range s.Replicas {
				if a.ID == s.Leader && b.Voter && c.open(b.Node) {
					reach[[2]NodeID{a.Node, b.Node}] = true
				}
			}
		}
	}
	for _, k := range good {
		for _, i := range good {
			for _, j := range good {
				if reach[[2]NodeID{i.ID, k.ID}] && reach[[2]NodeID{k.ID, j.ID}] {
					reach[[2]NodeID{i.ID, j.ID}] = true
				}
			}
		}
	}
	most, fewest := leadBounds(total, nodes)
	for _, a := range good {
		for _, b := range good {
			much, few := leads[a.ID], leads[b.ID]
			if reach[[2]NodeID{a.ID, b.ID}] && much-few >= 2 && (much > most || few < fewest) {
				return fmt.Errorf("node %s leads %d and %s %d, of %d to %d", a.ID, much, b.ID, few, fewest, most)
			}
		}
	}
	return nil
}
