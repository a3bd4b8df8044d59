package peers

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A reader of what was fetched finds what a plain list has.
func TestPairs(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var keys [][]byte
	for range 200 {
		keys = append(keys, fmt.Append(nil, rng.IntN(500)))
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	var p pairs
	for _, k := range keys {
		p = append(p, k, append([]byte("v"), k...))
	}
	for i := range 600 {
		k := fmt.Append(nil, i)
		v, ok := p.Get(k)
		if want := slices.ContainsFunc(keys, func(o []byte) bool { return bytes.Equal(o, k) }); ok != want || ok && string(v) != "v"+string(k) {
			t.Errorf("%s: %q, %v", k, v, ok)
		}
	}
	for range 200 {
		lower, upper := fmt.Append(nil, rng.IntN(600)), fmt.Append(nil, rng.IntN(600))
		if rng.IntN(4) == 0 {
			upper = nil
		}
		var got, want []string
		for k, v := range p.Scan(lower, upper) {
			got = append(got, string(k)+"="+string(v))
		}
		for _, k := range keys {
			if bytes.Compare(k, lower) >= 0 && (upper == nil || bytes.Compare(k, upper) < 0) {
				want = append(want, string(k)+"=v"+string(k))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("from %s to %s: %v, want %v", lower, upper, got, want)
		}
	}
	for range pairs(nil).Scan(nil, nil) {
		t.Error("nothing has something")
	}
}
