package node

import (
	"fmt"
	"slices"
	"testing"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/shard"
)

// Every blob has three keepers, however the nodes are named in order; the work is shared, and one node less moves what it had and nothing else.
func TestKeepers(t *testing.T) {
	t.Parallel()
	var nodes []shard.NodeID
	for i := range 8 {
		nodes = append(nodes, shard.NodeID(fmt.Sprint("n-", i)))
	}
	kept := map[shard.NodeID]int{}
	for i := range 800 {
		d := digest.Of(fmt.Append(nil, i))
		k := keepers(d, nodes)
		turned := slices.Clone(nodes)
		slices.Reverse(turned)
		if len(k) != 3 || !slices.Equal(k, keepers(d, turned)) {
			t.Fatalf("%v, %v", k, keepers(d, turned))
		}
		for _, n := range k {
			kept[n]++
		}
		less := keepers(d, nodes[:7])
		for _, n := range k {
			if n != nodes[7] && !slices.Contains(less, n) {
				t.Errorf("%s kept %s, and does not when another node is gone", n, d)
			}
		}
	}
	for _, n := range nodes {
		if kept[n] < 200 || kept[n] > 400 {
			t.Errorf("%s keeps %d of 2400", n, kept[n])
		}
	}
	if k := keepers(digest.Of(nil), nodes[:2]); len(k) != 2 {
		t.Errorf("of two: %v", k)
	}
}
