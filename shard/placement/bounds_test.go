package placement

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestFairShare counts what a single event costs a cluster at rest: a joined node gets its share and nothing else moves, a lost or
// draining one costs what it held.
func TestFairShare(t *testing.T) {
	t.Parallel()
	seeds := uint64(150)
	if testing.Short() {
		seeds = 40
	}
	sums := map[string]*costs{}
	detours := []uint64{113, 138} // where replicas have to travel by way of other nodes
	for i := range seeds + uint64(len(detours)) {
		seed := i
		if i >= seeds {
			seed = detours[i-seeds]
		}
		if err := fairShare(seed, sums); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	for event, s := range sums {
		t.Logf("%s: %d moves, shares %d", event, s.moves, s.bound)
		if s.moves > s.bound+s.bound/50 {
			t.Errorf("%s: %d moves for shares of %d", event, s.moves, s.bound)
		}
	}
}

// costs are replicas moved, and what they should be at most.
type costs struct{ moves, bound int }

func fairShare(seed uint64, sums map[string]*costs) error {
	rng := rand.New(rand.NewPCG(seed, 2))
	zones := 1 + rng.IntN(4)
	want := []int{1, 2, 3, 3, 3, 5}[rng.IntN(6)]
	c := newCluster(max(want+1, 3+rng.IntN(20)), zones, 1+rng.IntN(150), want)
	l := Limits{Changing: 1 + rng.IntN(100), Incoming: 1 + rng.IntN(10), Transfers: 100}
	settle := func() ([]Move, error) {
		_, added, err := c.settle(l, rng)
		if err == nil {
			err = checkRest(c)
		}
		if err != nil {
			return nil, fmt.Errorf("%w\nwant %d, %+v, nodes %+v\n%s", err, c.want, l, c.nodes, c)
		}
		return added, nil
	}
	if _, err := settle(); err != nil {
		return err
	}
	for range 6 {
		event := []string{"join", "lose", "drain"}[rng.IntN(3)]
		bound := 0
		_, good := c.target()
		if event != "join" && len(good) == want || event == "lose" && want < 3 { // nothing can be replaced
			continue
		}
		n := &good[rng.IntN(len(good))]
		if event == "join" {
			n = c.join(zones)
		} else {
			voters, _ := c.loads()
			bound = voters[n.ID]
			n = c.node(n.ID)
			if event == "lose" {
				n.Health = Gone
			} else {
				n.Draining = true
			}
		}
		node := n.ID
		added, err := settle()
		if err != nil {
			return fmt.Errorf("after %s: %w", event, err)
		}
		_, good = c.target()
		if event == "join" {
			bound = int(math.Ceil(shareOf(c, good, node) - slack))
			got := len(slices.DeleteFunc(slices.Clone(added), func(m Move) bool { return m.Node != node }))
			if got > bound {
				return fmt.Errorf("%s joined and got %d replicas: its share is %d", node, got, bound)
			}
		}
		s := sums[event]
		if s == nil {
			s = &costs{}
			sums[event] = s
		}
		s.moves, s.bound = s.moves+len(added), s.bound+bound
		// Of a few nodes, the last replicas to find a place have not much choice, and zones of different sizes leave them less: what that
		// leaves uneven is moved once more.
		if most := bound + 2 + bound/20; zones == 1 && len(added) > most || len(added) > bound*3/2+2 {
			return fmt.Errorf("%s %s: %d moves instead of %d", event, node, len(added), bound)
		}
	}
	return nil
}

// shareOf is what a node should hold.
func shareOf(c *cluster, good []Node, node NodeID) float64 {
	var names []string
	var sizes []int
	for _, n := range good {
		i := slices.Index(names, n.Zone)
		if i < 0 {
			i = len(names)
			names, sizes = append(names, n.Zone), append(sizes, 0)
		}
		sizes[i]++
	}
	return shares(min(c.want, len(good))*len(c.shards), min(c.want, len(good)), sizes)[slices.Index(names, c.node(node).Zone)]
}
