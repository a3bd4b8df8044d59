package services

import (
	"github.com/cespare/xxhash/v2"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/shard"
)

// candidate is a node that may run a call, as it is known.
type candidate struct {
	id     shard.NodeID
	weight uint32
	calls  uint32 // under way
}

// choose answers the place of the node that is to run a call, -1 if none is. nodes are in the order of their ids. draw is random or, for
// round robin, the number of the call.
func choose(mode wattlev1.BalanceMode, key string, draw uint64, nodes []candidate) int {
	total, some := uint64(0), uint64(0)
	for _, n := range nodes {
		total += uint64(n.weight)
		some += uint64(min(n.weight, 1))
	}
	if some == 0 {
		return -1
	}
	switch mode {
	case wattlev1.BalanceMode_BALANCE_MODE_RANDOM:
		draw %= total
		for i, n := range nodes {
			if draw < uint64(n.weight) {
				return i
			}
			draw -= uint64(n.weight)
		}
	case wattlev1.BalanceMode_BALANCE_MODE_ROUND_ROBIN:
		draw %= some
		for i, n := range nodes {
			if n.weight > 0 {
				if draw == 0 {
					return i
				}
				draw--
			}
		}
	case wattlev1.BalanceMode_BALANCE_MODE_LEAST_ACTIVE:
		return fewest(draw, nodes)
	case wattlev1.BalanceMode_BALANCE_MODE_HASH:
		if key != "" {
			return highest(key, nodes)
		}
	}
	return -1
}

// fewest finds the node with the fewest calls for its weight; draw is where it begins to look, so that equals share.
func fewest(draw uint64, nodes []candidate) int {
	best := -1
	for k := range nodes {
		i := int((draw + uint64(k)) % uint64(len(nodes)))
		n := nodes[i]
		if n.weight == 0 {
			continue
		}
		// a/b < c/d, without fractions
		if best < 0 || uint64(n.calls)*uint64(nodes[best].weight) < uint64(nodes[best].calls)*uint64(n.weight) {
			best = i
		}
	}
	return best
}

// highest is rendezvous hashing: when a node goes, its keys move and no others.
func highest(key string, nodes []candidate) int {
	best, most := -1, uint64(0)
	for i, n := range nodes {
		if n.weight == 0 {
			continue
		}
		if h := xxhash.Sum64String(string(n.id) + "\x00" + key); best < 0 || h > most {
			best, most = i, h
		}
	}
	return best
}
