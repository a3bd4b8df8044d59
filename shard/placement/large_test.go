package placement

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// dealt is a cluster at rest: three replicas of each shard on nodes next to each other.
func dealt(nodes, zones, shards int) *cluster {
	c := newCluster(nodes, zones, 0, 3)
	for i := range shards {
		s := Shard{ID: ShardID(i)}
		for j := range 3 {
			c.ids++
			// The second round meets other neighbours.
			n := (i*3 + j*(1+i*3/nodes%7*zones)) % nodes
			s.Replicas = append(s.Replicas, Replica{ID: c.ids, Node: c.nodes[n].ID, Voter: true})
		}
		s.Leader = s.Replicas[i%3].ID
		c.shards = append(c.shards, s)
	}
	return c
}

var sizes = []struct{ nodes, shards int }{{10, 100}, {30, 300}, {100, 1000}, {300, 3000}, {1000, 10000}}

// BenchmarkNext is one decision: at rest, and the first after a node joined or was lost.
//
//	go test ./shard/placement -run '^$' -bench Next
func BenchmarkNext(b *testing.B) {
	for _, size := range sizes {
		for _, event := range []string{"rest", "join", "lost"} {
			b.Run(fmt.Sprintf("%s/%dx%d", event, size.nodes, size.shards), func(b *testing.B) {
				c := dealt(size.nodes, 5, size.shards)
				if _, _, err := c.settle(Limits{Incoming: 100, Changing: 10000, Transfers: 10000}, nil); err != nil {
					b.Fatal(err)
				}
				switch event {
				case "join":
					c.join(5)
				case "lost":
					c.nodes[size.nodes/2].Health = Gone
					c.elect(nil)
				}
				moves := 0
				for b.Loop() {
					moves += len(Next(c.view(), Limits{}))
				}
				b.ReportMetric(float64(moves)/float64(b.N), "moves/op")
				b.ReportMetric(float64(moves)/b.Elapsed().Seconds(), "moves/s")
			})
		}
	}
}

// TestLarge counts what a node costs that joins, is lost or drains among a thousand, and what a zone does, to the end.
func TestLarge(t *testing.T) {
	t.Parallel()
	for _, zones := range []int{1, 5} {
		nodes, shards := 1000, 10_000
		if testing.Short() || zones == 1 {
			nodes, shards = 100, 1000
		}
		c := dealt(nodes, zones, shards)
		// run drives the cluster to rest and reports what that took.
		run := func(what string, most int) {
			t.Helper()
			moves, added, calls := 0, 0, 0
			var all, longest time.Duration
			for quiet := false; !quiet; {
				c.elect(nil)
				begin := time.Now()
				out := Next(c.view(), Limits{})
				took := time.Since(begin)
				all, longest, calls, moves = all+took, max(longest, took), calls+1, moves+len(out)
				quiet = len(out) == 0 && !c.learners()
				c.catchUp()
				for _, m := range out {
					if m.Kind == AddLearner {
						added++
					}
					s := c.after(m)
					s.Changing = false
					c.shards[m.Shard] = s
				}
				if calls > 300 {
					t.Fatalf("%s: never at rest: %v", what, out)
				}
			}
			t.Logf("%d zones, %-14s %5d replicas moved (fair %5d), %5d moves in %3d calls: %.0f a second, longest call %v",
				zones, what, added, most, moves, calls, float64(moves)/all.Seconds(), longest.Round(100*time.Microsecond))
			if added > most {
				t.Errorf("%s: %d replicas moved, more than %d", what, added, most)
			}
			if err := checkRest(c); err != nil {
				t.Error(err)
			}
		}
		held := func(n ...int) (sum int) {
			voters, _ := c.loads()
			for _, i := range n {
				sum += voters[c.nodes[i].ID]
			}
			return sum
		}
		share := func(nodes int) int { return int(math.Ceil(float64(3*shards) / float64(nodes))) }
		if _, _, err := c.settle(Limits{Incoming: 100, Changing: shards, Transfers: shards}, nil); err != nil {
			t.Fatal(err)
		}
		c.join(zones)
		run("one joins", share(nodes+1))
		c.nodes[7].Health = Gone
		run("one is lost", held(7))
		c.nodes[7].Health = Alive
		run("and returns", share(nodes+1))
		c.nodes[11].Draining = true
		run("one drains", held(11))
		for range nodes / 20 {
			c.join(zones)
		}
		run("5% join", nodes/20*share(nodes+nodes/20))
		var lost []int
		for i := range nodes / 20 {
			// In one zone or, where there are none, far from each other, so that no quorum is lost.
			lost = append(lost, 20+i*5*max(1, 3*(2-zones)))
			c.nodes[lost[i]].Health = Gone
		}
		run("5% are lost", held(lost...))
	}
}
