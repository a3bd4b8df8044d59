package registry

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// View is a node's copy of the registry. Reading takes no locks and never waits for a writer. It is safe for
// concurrent use.
type View struct {
	state atomic.Pointer[state]

	// mu is for whoever changes the view or the watchers.
	mu       sync.Mutex
	watchers map[*watcher]struct{}
}

// state is the registry at one moment; it is never changed.
type state struct {
	services map[string]*wattlev1.Service
	// gone holds the revision at which a service was deleted, so that older news cannot bring it back.
	gone     map[string]uint64
	revision uint64
	// base is the revision of the snapshot loaded last: all changes up to it are in here.
	base uint64
}

// NewView returns an empty View.
func NewView() *View {
	v := &View{watchers: map[*watcher]struct{}{}}
	v.state.Store(&state{})
	return v
}

// Load replaces what is there by a snapshot, as List returns it, but for services that changed after it was taken.
// Watchers are told the difference. A snapshot older than the one loaded last is passed over. The messages must not be changed any more.
func (v *View) Load(services []*wattlev1.Service, revision uint64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.state.Load()
	if revision < old.base {
		return
	}
	next := &state{
		services: make(map[string]*wattlev1.Service, len(services)), gone: map[string]uint64{},
		revision: max(revision, old.revision), base: revision,
	}
	for name, r := range old.gone {
		if r > revision {
			next.gone[name] = r
		}
	}
	for name, s := range old.services {
		if s.Revision > revision {
			next.services[name] = s
		}
	}
	for _, s := range services {
		if cur := next.services[s.Name]; (cur == nil || s.Revision >= cur.Revision) && s.Revision >= next.gone[s.Name] {
			next.services[s.Name] = s
		}
	}
	v.state.Store(next)
	for name, s := range next.services {
		if o := old.services[name]; o == nil || o.Revision != s.Revision {
			v.tell(name, &wattlev1.WatchServicesResponse{Revision: s.Revision, Change: &wattlev1.WatchServicesResponse_Service{Service: s}})
		}
	}
	for name := range old.services {
		if next.services[name] == nil {
			v.tell(name, deleted(name, cmp.Or(next.gone[name], revision)))
		}
	}
}

// Apply takes one change. Older news about a service than what is known is passed over, so the order
// and repetition of changes do not matter. The messages must not be changed any more.
func (v *View) Apply(c Changed) {
	name := c.Deleted
	if c.Service != nil {
		name = c.Service.Name
	}
	if name == "" {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.state.Load()
	if c.Revision <= old.base || c.Revision <= old.services[name].GetRevision() || c.Revision <= old.gone[name] {
		return
	}
	next := &state{services: maps.Clone(old.services), gone: maps.Clone(old.gone), revision: max(old.revision, c.Revision), base: old.base}
	if next.services == nil {
		next.services = map[string]*wattlev1.Service{}
	}
	if next.gone == nil {
		next.gone = map[string]uint64{}
	}
	msg := deleted(name, c.Revision)
	if c.Service != nil {
		next.services[name] = c.Service
		delete(next.gone, name)
		msg = &wattlev1.WatchServicesResponse{Revision: c.Revision, Change: &wattlev1.WatchServicesResponse_Service{Service: c.Service}}
	} else {
		delete(next.services, name)
		next.gone[name] = c.Revision
	}
	v.state.Store(next)
	v.tell(name, msg)
}

func deleted(name string, revision uint64) *wattlev1.WatchServicesResponse {
	return &wattlev1.WatchServicesResponse{Revision: revision, Change: &wattlev1.WatchServicesResponse_Deleted{Deleted: name}}
}

// Resolve finds the version that ref means: by number, alias or digest; without any of these the one the alias "default" points
// to, or the newest. Where ref names a function, the version must have it. The errors are NotFound "unknown_service",
// "unknown_version" and "unknown_function", and Invalid "bad_version".
func (v *View) Resolve(ref Ref) (*wattlev1.Version, error) {
	s, err := v.Service(ref.Service)
	if err != nil {
		return nil, err
	}
	version, err := pick(s, ref.Version)
	if err != nil {
		return nil, err
	}
	if ref.Function != "" {
		if err := checkFunction(version, ref.Function); err != nil {
			return nil, err
		}
	}
	return version, nil
}

// Service returns one service, or NotFound "unknown_service" with a name that is close.
func (v *View) Service(name string) (*wattlev1.Service, error) {
	st := v.state.Load()
	s := st.services[name]
	if s == nil {
		return nil, unknownService(name, closest(name, slices.Collect(maps.Keys(st.services))))
	}
	return s, nil
}

// Services returns all services by name.
func (v *View) Services() []*wattlev1.Service { return v.state.Load().sorted() }

func (s *state) sorted() []*wattlev1.Service {
	return slices.SortedFunc(maps.Values(s.services), func(a, b *wattlev1.Service) int { return cmp.Compare(a.Name, b.Name) })
}

// Revision returns that of the newest change known.
func (v *View) Revision() uint64 { return v.state.Load().revision }

// Watch yields every service there is, then a message that says so, then every change, until ctx ends or the loop is left.
// A watcher that falls behind misses states in between but always gets the last one of each service, and holds nobody
// up. The revisions of one service only grow.
func (v *View) Watch(ctx context.Context) iter.Seq[*wattlev1.WatchServicesResponse] {
	return func(yield func(*wattlev1.WatchServicesResponse) bool) {
		w := &watcher{pending: map[string]*wattlev1.WatchServicesResponse{}, wake: make(chan struct{}, 1)}
		v.mu.Lock()
		st := v.state.Load()
		v.watchers[w] = struct{}{}
		v.mu.Unlock()
		defer func() {
			v.mu.Lock()
			defer v.mu.Unlock()
			delete(v.watchers, w)
		}()
		for _, s := range st.sorted() {
			if ctx.Err() != nil || !yield(&wattlev1.WatchServicesResponse{
				Revision: s.Revision, Change: &wattlev1.WatchServicesResponse_Service{Service: s},
			}) {
				return
			}
		}
		if !yield(&wattlev1.WatchServicesResponse{Revision: st.revision, Change: &wattlev1.WatchServicesResponse_Synced{Synced: true}}) {
			return
		}
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.wake:
			}
			for _, n := range w.take() {
				if w.outdated(n.name) {
					continue
				}
				if ctx.Err() != nil || !yield(n.msg) {
					return
				}
			}
		}
	}
}

// tell passes a change on to all watchers; v.mu is held.
func (v *View) tell(name string, msg *wattlev1.WatchServicesResponse) {
	for w := range v.watchers {
		w.add(name, msg)
	}
}

// watcher holds the last change of each service that its reader has not seen.
type watcher struct {
	mu      sync.Mutex
	pending map[string]*wattlev1.WatchServicesResponse
	wake    chan struct{}
}

// news is a change with the name of its service.
type news struct {
	name string
	msg  *wattlev1.WatchServicesResponse
}

func (w *watcher) add(name string, msg *wattlev1.WatchServicesResponse) {
	w.mu.Lock()
	w.pending[name] = msg
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take returns what is pending, oldest first.
func (w *watcher) take() []news {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := make([]news, 0, len(w.pending))
	for name, msg := range w.pending {
		list = append(list, news{name, msg})
	}
	clear(w.pending)
	slices.SortFunc(list, func(a, b news) int {
		return cmp.Or(cmp.Compare(a.msg.Revision, b.msg.Revision), cmp.Compare(a.name, b.name))
	})
	return list
}

// outdated tells whether there is newer news of a service already.
func (w *watcher) outdated(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pending[name] != nil
}
