package node

import (
	"fmt"
	"slices"
	"testing"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
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

// Calls find what aliases point at, and the newest where no alias is the default.
func TestFound(t *testing.T) {
	t.Parallel()
	versions := []*wattlev1.Version{{Number: 1}, {Number: 2}, {Number: 5}}
	for want, s := range map[string]*wattlev1.Service{
		"map[]":              {},
		"map[5:true]":        {Versions: versions},
		"map[1:true 5:true]": {Versions: versions, Aliases: map[string]uint64{"old": 1}},
		"map[2:true]":        {Versions: versions, Aliases: map[string]uint64{"default": 2}},
		"map[1:true 2:true]": {Versions: versions, Aliases: map[string]uint64{"default": 2, "old": 1, "older": 1}},
	} {
		if got := fmt.Sprint(found(s)); got != want {
			t.Errorf("%v: %s, want %s", s, got, want)
		}
	}
}
