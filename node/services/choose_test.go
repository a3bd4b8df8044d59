package services

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/shard"
)

const (
	random      = wattlev1.BalanceMode_BALANCE_MODE_RANDOM
	leastActive = wattlev1.BalanceMode_BALANCE_MODE_LEAST_ACTIVE
	roundRobin  = wattlev1.BalanceMode_BALANCE_MODE_ROUND_ROBIN
	hash        = wattlev1.BalanceMode_BALANCE_MODE_HASH
)

func nodes(weights ...uint32) (all []candidate) {
	for i, w := range weights {
		all = append(all, candidate{id: shard.NodeID(fmt.Sprintf("n-%02d", i)), weight: w})
	}
	return all
}

// Over many calls every node gets its share, in every mode.
func TestChooseShares(t *testing.T) {
	t.Parallel()
	const calls = 60_000
	equal := []float64{1. / 3, 1. / 3, 0, 1. / 3}
	for _, x := range []struct {
		mode    wattlev1.BalanceMode
		weights []uint32
		want    []float64
	}{
		{random, []uint32{1, 2, 0, 3}, []float64{1. / 6, 2. / 6, 0, 3. / 6}},
		{leastActive, []uint32{1, 2, 0, 3}, []float64{1. / 6, 2. / 6, 0, 3. / 6}}, // nothing ever ends
		{roundRobin, []uint32{1, 1, 0, 1}, equal},
		{hash, []uint32{1, 1, 0, 1}, equal},
	} {
		rng := rand.New(rand.NewPCG(1, 2))
		all := nodes(x.weights...)
		got := make([]float64, len(all))
		for n := range uint64(calls) {
			draw := rng.Uint64()
			if x.mode == roundRobin {
				draw = n
			}
			i := choose(x.mode, fmt.Sprint("key ", n), draw, all)
			got[i]++
			all[i].calls++
		}
		for i := range got {
			if math.Abs(got[i]/calls-x.want[i]) > 0.01 {
				t.Errorf("%v: node %d got %.3f of the calls, want %.3f", x.mode, i, got[i]/calls, x.want[i])
			}
		}
	}
}

// A key keeps its node when others go or come; only those of a node that goes move.
func TestHashIsStable(t *testing.T) {
	t.Parallel()
	all := nodes(1, 1, 1, 1, 1)
	less := append(nodes(1, 1), all[3:]...)
	zero := nodes(1, 1, 0, 1, 1)
	moved := 0
	for n := range 5000 {
		key := fmt.Sprint(n)
		before := all[choose(hash, key, 0, all)].id
		if again := all[choose(hash, key, 99, all)].id; again != before {
			t.Fatalf("%s went to %s and to %s", key, before, again)
		}
		after := less[choose(hash, key, 0, less)].id
		if before != all[2].id && after != before {
			t.Errorf("%s moved from %s to %s, although its node is there", key, before, after)
		}
		if before == all[2].id {
			moved++
		}
		if left := zero[choose(hash, key, 0, zero)].id; left != after {
			t.Errorf("%s: a node of weight 0 is not like one that is gone: %s, %s", key, left, after)
		}
	}
	if moved < 800 || moved > 1200 {
		t.Errorf("%d of 5000 keys were on one of five nodes", moved)
	}
}

// The fewest calls for its weight; equals share.
func TestLeastActive(t *testing.T) {
	t.Parallel()
	all := nodes(1, 4, 1, 0)
	for i, calls := range []uint32{5, 19, 6, 0} {
		all[i].calls = calls
	}
	seen := map[int]bool{}
	for draw := range uint64(8) {
		if i := choose(leastActive, "", draw, all); i != 1 {
			t.Errorf("chose %d, which has %d calls for the weight %d", i, all[i].calls, all[i].weight)
		}
		all[1].calls = 20
		seen[choose(leastActive, "", draw, all)] = true
		all[1].calls = 19
	}
	if len(seen) != 2 || !seen[0] || !seen[1] {
		t.Errorf("of two equal ones: %v", seen)
	}
}

// Where nobody may be chosen, or there is nothing to choose by, the call stays where it is.
func TestChooseNobody(t *testing.T) {
	t.Parallel()
	for _, mode := range []wattlev1.BalanceMode{random, leastActive, roundRobin, hash} {
		if i := choose(mode, "key", 7, nodes(0, 0)); i != -1 {
			t.Errorf("%v chose %d of nodes without weight", mode, i)
		}
		if i := choose(mode, "key", 7, nil); i != -1 {
			t.Errorf("%v chose %d of none", mode, i)
		}
	}
	if i := choose(hash, "", 7, nodes(1, 1)); i != -1 {
		t.Errorf("without a key: %d", i)
	}
	if i := choose(wattlev1.BalanceMode_BALANCE_MODE_LOCAL, "key", 7, nodes(1, 1)); i != -1 {
		t.Errorf("local: %d", i)
	}
	if i := choose(wattlev1.BalanceMode(99), "key", 7, nodes(1, 1)); i != -1 {
		t.Errorf("a mode of a later release: %d", i)
	}
}
