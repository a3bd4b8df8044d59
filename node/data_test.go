package node

import (
	"testing"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// Data is put aside only where a majority has what it has: voters that are there, that the leader has heard from, and not the
// damaged node itself.
func TestMissed(t *testing.T) {
	t.Parallel()
	r := func(node string, voter, active bool, lag uint64) *wattlev1.Replica {
		return &wattlev1.Replica{Node: node, Voter: voter, Active: active, Lag: lag}
	}
	me, a, b := r("me", true, false, 0), r("a", true, true, 0), r("b", true, true, 7)
	for name, c := range map[string]struct {
		leader   string
		replicas []*wattlev1.Replica
		well     bool
	}{
		"two others":                  {"a", []*wattlev1.Replica{me, a, b}, true},
		"nobody leads":                {"", []*wattlev1.Replica{me, a, b}, false},
		"one other, one silent":       {"a", []*wattlev1.Replica{me, a, r("b", true, false, 0)}, false},
		"one other, one far behind":   {"a", []*wattlev1.Replica{me, a, r("b", true, true, 5000)}, false},
		"one other, one that learns":  {"a", []*wattlev1.Replica{me, a, r("b", false, true, 0)}, false},
		"this one seems to be there":  {"a", []*wattlev1.Replica{r("me", true, true, 0), a, r("b", true, false, 0)}, false},
		"two voters":                  {"a", []*wattlev1.Replica{me, a}, false},
		"alone":                       {"me", []*wattlev1.Replica{r("me", true, true, 0)}, false},
		"it never had this shard":     {"a", []*wattlev1.Replica{a, b, r("c", true, true, 0)}, true},
		"it only learned":             {"a", []*wattlev1.Replica{r("me", false, true, 0), a, b}, true},
		"four voters, two of them ok": {"a", []*wattlev1.Replica{me, a, b, r("c", true, false, 0)}, false},
	} {
		if got := missed(&wattlev1.Shard{Leader: c.leader, Replicas: c.replicas}, "me"); (got == "") != c.well {
			t.Errorf("%s: %q", name, got)
		}
	}
}
