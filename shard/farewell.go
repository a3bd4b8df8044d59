package shard

import (
	"maps"
	"slices"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
)

// farewell is what a leader does before replicas may go that were removed.
//
// A replica that does not know that a removal is committed still counts the removed one for the quorum, after a crash as well.
// Where nobody knew any more, and the removed one were gone, there would be no leader ever again. So the leader adds an entry once
// it knows of the removal: that entry travels together with what is known to be committed. When it is on the disks of a
// quorum, the removal is known there. The first entry of a leader's term does the same for what was removed before.
type farewell struct {
	// due tells that the entry is still to be proposed, marked that it will be in what is appended next.
	due, marked bool
	// at is the place of the entry, or of one after it; committed the last one that is.
	at, committed uint64
	// whom to tell.
	leaving map[uint64]NodeID
}

// lead begins a term: its first entry is in what is appended next.
func (f *farewell) lead() { *f = farewell{marked: true, committed: f.committed} }

// removed tells of members before and after a change.
func (f *farewell) removed(before, after *Members) {
	for _, r := range before.Replicas() {
		if after.Removed(r) {
			if f.leaving == nil {
				f.leaving = map[uint64]NodeID{}
			}
			f.leaving[r] = before.Node(r)
			f.due, f.marked, f.at = true, false, 0
		}
	}
}

// appended tells up to where the log goes now.
func (f *farewell) appended(last uint64) {
	if f.marked {
		f.marked, f.at = false, last
	}
}

func (f *farewell) settled() bool { return !f.due && f.at != 0 && f.committed >= f.at }

// settle proposes the entry that a farewell needs, and tells those who may go that they may. A controller does so for those who do
// not hear it.
func (l *loop) settle(g *group) {
	f := &g.farewell
	leads := g.leadTerm.Load() != 0
	if leads && f.due && g.node.Propose(nil) == nil {
		f.due, f.marked = false, true
	}
	settled := leads && f.settled()
	if g.settled.Store(settled); !settled {
		return
	}
	for _, r := range slices.Sorted(maps.Keys(f.leaving)) {
		l.gone(g, f.leaving[r], r)
	}
	f.leaving = nil
}

// gone tells a replica that it is none any more.
func (l *loop) gone(g *group, at NodeID, replica uint64) {
	l.out.add(at, &peerv1.ShardMessage{Shard: uint32(g.id), From: g.replica, To: replica, Body: &peerv1.ShardMessage_Gone{Gone: &peerv1.Gone{}}})
}
