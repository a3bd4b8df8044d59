package placement

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// sim carries moves out as a driver would, slowly and not always, while nodes come and go.
type sim struct {
	cluster
	rng     *rand.Rand
	limits  Limits
	zones   int
	flight  map[ShardID]*flight
	silence map[NodeID]int
	// plain shows shards that are changing as they were, like a controller that has just begun and knows only what it is told.
	plain bool
	adds  int
	log   []string
}

type flight struct {
	from, to Shard
	left     int
}

const grace = 6

func (s *sim) note(format string, args ...any) { s.log = append(s.log, fmt.Sprintf(format, args...)) }

// chance is true once in n times.
func (s *sim) chance(n int) bool { return s.rng.IntN(n) == 0 }

func (s *sim) event() {
	n := &s.nodes[s.rng.IntN(len(s.nodes))]
	switch s.rng.IntN(8) {
	case 0:
		if len(s.nodes) < 10 {
			n = s.join(s.zones)
		}
	case 1, 2:
		if n.Health == Alive {
			n.Health = Silent
			s.silence[n.ID] = 0
		}
	case 3, 4:
		n.Health = Alive
	case 5:
		n.Draining = !n.Draining
	case 6:
		if n.Health == Gone && n.Draining && len(s.nodes) > 1 {
			s.note("forget %s", n.ID)
			s.nodes = slices.DeleteFunc(s.nodes, func(o Node) bool { return o.ID == n.ID })
			return
		}
	case 7:
		if s.chance(4) {
			s.want = 1 + s.rng.IntN(5)
			s.note("want %d", s.want)
			return
		}
	}
	s.note("%+v", *n)
}

// advance lets time pass: nodes go, learners catch up, moves are done or fail.
func (s *sim) advance() {
	for i := range s.nodes {
		if n := &s.nodes[i]; n.Health == Silent {
			if s.silence[n.ID]++; s.silence[n.ID] > grace {
				n.Health = Gone
			}
		}
	}
	for i := range s.shards {
		id := ShardID(i)
		f := s.flight[id]
		if f != nil {
			if f.left--; f.left > 0 || !f.feasible(&s.cluster) {
				continue
			}
			delete(s.flight, id)
			to := f.to
			if s.chance(20) {
				to = f.from
			}
			to.Changing = false
			s.shards[i] = to
		}
		sh := &s.shards[i]
		for j := range sh.Replicas {
			if r := &sh.Replicas[j]; !r.Voter && s.health(r.Node) == Alive && s.quorum(*sh) && s.chance(3) {
				r.CaughtUp = true
			}
		}
	}
	s.elect(s.rng)
	for id, f := range s.flight {
		if !f.feasible(&s.cluster) {
			s.shards[id].Leader = 0
		}
	}
}

// feasible says whether a change can be done: it takes a majority of those before and after.
func (f *flight) feasible(c *cluster) bool { return c.quorum(f.from) && c.quorum(f.to) }

func (s *sim) step() error {
	s.advance()
	moves := Next(s.view(), s.limits)
	if err := checkMoves(&s.cluster, s.limits, moves); err != nil {
		return err
	}
	if s.chance(8) {
		if again := Next(s.shuffled(), s.limits); !reflect.DeepEqual(moves, again) {
			return fmt.Errorf("the order of the view matters: %v or %v", moves, again)
		}
	}
	for _, m := range moves {
		s.note("  %s", m)
		if m.Kind == AddLearner {
			s.adds++
		}
		from := s.shards[m.Shard]
		to := s.after(m)
		f := &flight{from: from, to: to, left: 1 + s.rng.IntN(3)}
		s.flight[m.Shard] = f
		if s.plain {
			from.Changing = true
			s.shards[m.Shard] = from
		} else {
			s.shards[m.Shard] = to
		}
	}
	return nil
}

func (s *sim) shuffled() View {
	v := View{Nodes: slices.Clone(s.nodes), Shards: slices.Clone(s.shards), Want: s.want}
	s.rng.Shuffle(len(v.Nodes), func(i, j int) { v.Nodes[i], v.Nodes[j] = v.Nodes[j], v.Nodes[i] })
	s.rng.Shuffle(len(v.Shards), func(i, j int) { v.Shards[i], v.Shards[j] = v.Shards[j], v.Shards[i] })
	for i := range v.Shards {
		r := slices.Clone(v.Shards[i].Replicas)
		s.rng.Shuffle(len(r), func(i, j int) { r[i], r[j] = r[j], r[i] })
		v.Shards[i].Replicas = r
	}
	return v
}

// flying says whether a move is under way that can be done.
func (s *sim) flying() bool {
	for _, f := range s.flight {
		if f.feasible(&s.cluster) {
			return true
		}
	}
	return false
}

// rest lets a cluster to which nothing happens any more come to rest.
func (s *sim) rest() error {
	s.adds = 0
	calm := 0
	for range 3000 {
		before := s.adds
		if err := s.step(); err != nil {
			return err
		}
		calm++
		if s.adds != before || s.flying() || s.learners() || s.voting() || slices.ContainsFunc(s.nodes, func(n Node) bool { return n.Health == Silent }) {
			calm = 0
		}
		if calm > 3 {
			if err := checkRest(&s.cluster); err != nil {
				return err
			}
			// One replica may travel for a node that is gone, once more to even things out, and again where a change failed.
			if most := len(s.shards) * (2*s.want + 2); s.adds > most {
				return fmt.Errorf("%d learners added to come to rest", s.adds)
			}
			return nil
		}
	}
	return fmt.Errorf("never at rest")
}

// TestChaos lets nodes join, fall silent, return, drain and be forgotten at random while moves are under way, then checks that
// everything ends where it should be.
func TestChaos(t *testing.T) {
	t.Parallel()
	seeds := uint64(400)
	if testing.Short() {
		seeds = 100
	}
	for seed := range seeds {
		if err := chaos(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func chaos(seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &sim{
		rng: rng, zones: 1 + rng.IntN(4), flight: map[ShardID]*flight{}, silence: map[NodeID]int{}, plain: rng.IntN(4) == 0,
		limits: Limits{Changing: 1 + rng.IntN(12), Incoming: 1 + rng.IntN(3), Transfers: 1 + rng.IntN(4)},
	}
	s.cluster = *newCluster(1+rng.IntN(6), s.zones, 1+rng.IntN(16), []int{1, 2, 3, 3, 3, 5}[rng.IntN(6)])
	fail := func(err error) error {
		tail := s.log[max(0, len(s.log)-40):]
		text := ""
		for _, l := range tail {
			text += l + "\n"
		}
		return fmt.Errorf("%w\nwant %d, %+v, nodes %+v\n%s%s", err, s.want, s.limits, s.nodes, &s.cluster, text)
	}
	for range 120 {
		if s.chance(6) {
			s.event()
		}
		if err := s.step(); err != nil {
			return fail(err)
		}
	}
	s.note("rest")
	if err := s.rest(); err != nil {
		return fail(err)
	}
	// What was gone or drained for a while comes back.
	for i := range s.nodes {
		n := &s.nodes[i]
		if s.chance(2) {
			n.Health = Alive
		}
		n.Draining = n.Draining && s.chance(2)
	}
	s.note("rest again")
	if err := s.rest(); err != nil {
		return fail(err)
	}
	return nil
}
