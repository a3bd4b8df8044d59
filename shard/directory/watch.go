package directory

import (
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/shard"
)

// Lacks tells whether a shard has no leader, or fewer voters there than it has, or than it should have.
func Lacks(leader bool, live, voters, want uint32) bool {
	return !leader || live < max(voters, want)
}

// A lack has ended when it has not been seen for settled: a new leader takes everybody for alive for a moment. Who did not look
// for longer than blind does not know what was meanwhile.
const settled, blind = 5 * time.Second, 10 * time.Second

// Watch knows since when shards lack something, as far as it has looked. It may be used concurrently.
type Watch struct {
	mu          sync.Mutex
	begun, last time.Time
	lacks       map[shard.ID]*lack
}

type lack struct {
	since time.Time
	// seen is when the shard lacked something last.
	seen time.Time
}

// Look notes how all shards are.
func (w *Watch) Look(now time.Time, leaders Leaders, shards, want uint32) {
	now = now.Round(0) // by the clock on the wall: the other one may stand still while the machine sleeps
	w.mu.Lock()
	defer w.mu.Unlock()
	if gap := now.Sub(w.last); w.lacks == nil || gap < 0 || gap > blind {
		w.begun, w.lacks = now, map[shard.ID]*lack{}
	}
	w.last = now
	for id := range shard.ID(shards) {
		l, led := leaders[id]
		var voters, live int
		if led {
			voters, live = l.Voters()
		}
		known := w.lacks[id]
		switch {
		case !Lacks(led, uint32(live), uint32(voters), want):
			if known != nil && now.Sub(known.seen) >= settled {
				delete(w.lacks, id)
			}
		case known == nil:
			w.lacks[id] = &lack{now, now}
		default:
			known.seen = now
		}
	}
}

// Forget forgets everything: somebody else watches now.
func (w *Watch) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lacks = nil
}

// All returns what is lacking, by shard.
func (w *Watch) All() (all []*peerv1.Lack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(w.lacks)) {
		l := w.lacks[id]
		// What it saw from the beginning may have been so before.
		all = append(all, &peerv1.Lack{Shard: uint32(id), Since: timestamppb.New(l.since), AtLeast: l.since.Sub(w.begun) < settled})
	}
	return all
}
