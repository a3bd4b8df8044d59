package member

import (
	"sync"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
)

// View is a node's copy of what was decided. It is safe for concurrent use.
type View struct {
	mu       sync.RWMutex
	records  map[string]*storev1.MemberRecord
	revision uint64
}

// Load takes what List returns or an effect holds, unless something newer is there. The records must not be changed any more.
func (v *View) Load(records []*storev1.MemberRecord, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if revision < v.revision {
		return
	}
	v.revision, v.records = revision, make(map[string]*storev1.MemberRecord, len(records))
	for _, r := range records {
		v.records[r.Node] = r
	}
}

// Revision counts the decisions that the view knows of.
func (v *View) Revision() uint64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.revision
}

// Draining tells whether a node is to be emptied.
func (v *View) Draining(node string) bool { return v.get(node).GetDraining() }

// Removed tells whether a node was removed for good.
func (v *View) Removed(node string) bool { return v.get(node).GetRemoved() }

func (v *View) get(node string) *storev1.MemberRecord {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.records[node]
}
