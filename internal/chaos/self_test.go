package chaos

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// The auditor finds what it is there for: a test of the cluster that cannot fail is none.
func TestHashesDiffer(t *testing.T) {
	t.Parallel()
	h := newHashes()
	at := func(replica, applied, hash uint64) []*wattlev1.Shard {
		return []*wattlev1.Shard{{Id: 3, Replicas: []*wattlev1.Replica{{Id: replica, Applied: applied, Hash: hash}, {Id: 9}}}}
	}
	for i := range uint64(2 * remembered) {
		if d := append(h.hear(at(1, i+1, i)), h.hear(at(2, i+1, i))...); d != nil {
			t.Fatal(d)
		}
	}
	if h.compared != 2*remembered || len(h.known[3]) != remembered {
		t.Errorf("%d compared, %d remembered", h.compared, len(h.known[3]))
	}
	// Long after one of them said it, and of the same replica, too.
	for replica := range uint64(2) {
		clear(h.broken)
		if d := h.hear(at(replica+1, remembered+100, 7)); len(d) != 1 || !strings.Contains(d[0], "shard 3 at entry 5100") {
			t.Errorf("replica %d: %v", replica+1, d)
		}
	}
	if d := h.hear([]*wattlev1.Shard{{Id: 4, Differs: true}}); len(d) != 1 {
		t.Error(d)
	}
}

// Each kind of job tells its right result from others.
func TestResults(t *testing.T) {
	t.Parallel()
	group := func(counts ...any) (b []byte) {
		for i := 0; i < len(counts); i += 2 {
			key := counts[i].(string)
			b = append(binary.AppendUvarint(b, uint64(len(key))), key...)
			for range counts[i+1].(int) {
				b = append(b, 2, '1')
			}
			b = append(b, 0)
		}
		return b
	}
	is := isGroups(map[string]int{"a": 2, "b": 1})
	for _, right := range [][]byte{group("a", 2, "b", 1), group("b", 1, "a", 2)} {
		if err := is(right); err != nil {
			t.Error(err)
		}
	}
	for _, wrong := range [][]byte{nil, group("a", 2), group("a", 1, "b", 1), group("a", 3, "b", 1), group("a", 2, "b", 1, "c", 1), group("a", 1, "b", 1, "a", 1), group("a", 2, "b", 1)[:6]} {
		if is(wrong) == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
	if isText("ab")([]byte("ab")) != nil || isText("ab")([]byte("a")) == nil {
		t.Error("texts")
	}
	var records []byte
	for k, n := range wordCount() {
		records = append(binary.AppendUvarint(records, uint64(len(k))), k...)
		v := fmt.Sprint(n)
		records = append(binary.AppendUvarint(records, uint64(len(v))), v...)
	}
	if err := isWordCount(records); err != nil {
		t.Error(err)
	}
	if isWordCount(records[:len(records)/2]) == nil || isWordCount(append(records, records...)) == nil {
		t.Error("word counts")
	}
}

// One of every family of faults comes before a second one of any, and none is forgotten.
func TestMix(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		all := append([]fault(nil), kinds...)
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		mix(all)
		families := map[string]bool{}
		for _, f := range kinds {
			name, _, _ := strings.Cut(f.kind, "-")
			families[name] = true
		}
		seen := map[string]bool{}
		for i, f := range all {
			name, _, _ := strings.Cut(f.kind, "-")
			if seen[name] && i < len(families) {
				t.Fatalf("%s is number %d", f.kind, i)
			}
			seen[name] = true
		}
		if len(seen) != len(families) || len(all) != len(kinds) {
			t.Fatal(seen)
		}
	}
}
