package placement

// slack is what two loads may differ by and still be equal: shares are fractions.
const slack = 1e-6

// shares returns how many of total replicas each node of a zone should hold, for zones with the given numbers of nodes,
// when each shard has target replicas: as even as the best spread over zones allows.
//
// A shard spread best has the same number in every zone, give or take one, except where a zone has too few nodes. So a zone
// holds between lower and upper of each shard; within these bounds every node gets the same.
func shares(total, target int, sizes []int) []float64 {
	level := 0
	for level < target && sum(sizes, level+1) <= target {
		level++
	}
	shards := float64(total) / float64(target)
	clamp := func(i int, share float64) (float64, bool) {
		lower, upper := float64(min(sizes[i], level))*shards, float64(min(sizes[i], level+1))*shards
		return max(lower, min(upper, share)), lower < share && share < upper
	}
	// The sum grows with what a node gets: halve the interval until it is right.
	low, high := 0.0, float64(total)
	for range 64 {
		each, all := (low+high)/2, 0.0
		for i, n := range sizes {
			share, _ := clamp(i, each*float64(n))
			all += share
		}
		if all < float64(total) {
			low = each
		} else {
			high = each
		}
	}
	// Nodes of zones at no bound get exactly the same.
	rest, nodes := float64(total), 0
	for i, n := range sizes {
		if share, between := clamp(i, high*float64(n)); between {
			nodes += n
		} else {
			rest -= share
		}
	}
	out := make([]float64, len(sizes))
	for i, n := range sizes {
		share, between := clamp(i, high*float64(n))
		switch {
		case n == 0:
		case between:
			out[i] = rest / float64(nodes)
		default:
			out[i] = share / float64(n)
		}
	}
	return out
}

func sum(sizes []int, most int) int {
	s := 0
	for _, n := range sizes {
		s += min(n, most)
	}
	return s
}
