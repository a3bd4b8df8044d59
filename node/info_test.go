package node

import (
	"slices"
	"testing"

	"github.com/wattlehq/wattle/cluster"
)

// One that is away is still waited for; one that left, that another says it was, or at whose address another is, is not.
func TestExpected(t *testing.T) {
	t.Parallel()
	var got []string
	for _, m := range expected([]cluster.Member{
		{ID: "there", Peer: "1", Status: cluster.Alive},
		{ID: "away", Peer: "2", Status: cluster.Failed},
		{ID: "left", Peer: "3", Status: cluster.Left},
		{ID: "old", Peer: "4", Status: cluster.Failed},
		{ID: "new", Peer: "4", Status: cluster.Alive},
		{ID: "damaged", Peer: "5", Status: cluster.Failed},
		{ID: "mended", Peer: "6", Status: cluster.Alive, Replaces: []string{"damaged"}},
	}) {
		got = append(got, m.ID)
	}
	if want := []string{"there", "away", "new", "mended"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
