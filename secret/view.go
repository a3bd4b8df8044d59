package secret

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
)

// View is a node's copy of all secrets, encrypted. Reading takes no locks. It is safe for concurrent use.
type View struct {
	state atomic.Pointer[state]
	mu    sync.Mutex // for whoever changes it
}

// state is never changed.
type state struct {
	records map[string]*storev1.SecretRecord
	// changed holds the revision of the last change of each name, so that older news are passed over.
	changed map[string]uint64
	base    uint64 // all changes up to it are in here
}

// NewView returns an empty View.
func NewView() *View {
	v := &View{}
	v.state.Store(&state{})
	return v
}

// Load replaces what is there by a snapshot, as List returns it. Changes that came before it and are newer stay. The records must not be
// changed any more.
func (v *View) Load(records []*storev1.SecretRecord, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.state.Load()
	if revision < old.base {
		return
	}
	next := &state{records: map[string]*storev1.SecretRecord{}, changed: map[string]uint64{}, base: revision}
	for _, r := range records {
		next.records[r.Secret.Name] = r
	}
	for name, at := range old.changed {
		if at > revision {
			next.set(name, old.records[name], at)
		}
	}
	v.state.Store(next)
}

// Apply takes one change. The order and repetition of changes do not matter. The record must not be changed any more.
func (v *View) Apply(c Changed) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.state.Load()
	if c.Revision <= old.base || c.Revision <= old.changed[c.Name] {
		return
	}
	next := &state{records: maps.Clone(old.records), changed: maps.Clone(old.changed), base: old.base}
	if next.records == nil {
		next.records = map[string]*storev1.SecretRecord{}
	}
	if next.changed == nil {
		next.changed = map[string]uint64{}
	}
	next.set(c.Name, c.Record, c.Revision)
	v.state.Store(next)
}

func (s *state) set(name string, r *storev1.SecretRecord, revision uint64) {
	if s.changed[name] = revision; r == nil {
		delete(s.records, name)
		return
	}
	s.records[name] = r
}

// Get returns a secret as it is stored, or NotFound "unknown_secret".
func (v *View) Get(name string) (*storev1.SecretRecord, error) {
	if r := v.state.Load().records[name]; r != nil {
		return r, nil
	}
	return nil, unknown(name)
}

// List returns all secrets by name.
func (v *View) List() []*storev1.SecretRecord {
	return slices.SortedFunc(maps.Values(v.state.Load().records), func(a, b *storev1.SecretRecord) int {
		return cmp.Compare(a.Secret.Name, b.Secret.Name)
	})
}
