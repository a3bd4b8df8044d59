package host

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/samber/lo"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// Module is a compiled module in use. It is safe for concurrent use.
type Module struct {
	host     *Host
	entry    *entry
	released atomic.Bool
}

// Info tells what the module offers.
func (m *Module) Info() Info { return m.entry.info }

// Release gives the module back; running calls go on. It may be called more than once.
func (m *Module) Release() {
	if m.released.CompareAndSwap(false, true) {
		m.host.modules.release(m.entry)
	}
}

// Call runs one function in a fresh instance.
//
// Errors are *fault.Error, apart from those of the caller's own Input, Output and Emit, which come back as they are.
func (m *Module) Call(ctx context.Context, c *Call) (Stats, error) {
	if err := m.host.begin(); err != nil {
		return Stats{}, err
	}
	defer m.host.end()
	if m.released.Load() || !m.host.modules.hold(m.entry) {
		return Stats{}, errors.New("host: call of a released module")
	}
	defer m.host.modules.release(m.entry)
	i := slices.IndexFunc(m.entry.info.Functions, func(f Function) bool { return f.Name == c.Function })
	if i < 0 {
		names := lo.Map(m.entry.info.Functions, func(f Function, _ int) string { return f.Name })
		return Stats{}, fault.New(fault.NotFound, "unknown_function", "there is no function %q; the module has: %s", c.Function, shorten(names)).
			With("function", c.Function).Hint("call one of the functions listed")
	}
	return run(ctx, m.entry, c, c.Limits.Or(m.host.config.Defaults), m.entry.entryPoint(c.Function))
}

func shorten(names []string) string {
	const most = 20
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// entry is one compiled module. What is below ready is set before ready is closed.
type entry struct {
	digest digest.Digest
	refs   int // guarded by modules.mu
	place  *list.Element

	ready      chan struct{}
	err        error
	program    program
	outline    outline
	info       Info
	dispatcher bool
	size       int
	portable   bool
}

func (e *entry) entryPoint(function string) string {
	switch {
	case e.info.ABI == abiCommand:
		return "_start"
	case e.dispatcher:
		return "wattle_call"
	}
	return function
}

// modules keeps compiled modules, those in use and the ones used last.
type modules struct {
	mu       sync.Mutex
	most     int
	mostSize int
	size     int
	entries  map[digest.Digest]*entry
	order    *list.List // of *entry; the one used last is in front
}

func (m *modules) init(most, mostSize int) {
	m.most, m.mostSize = most, mostSize
	m.entries, m.order = map[digest.Digest]*entry{}, list.New()
}

// acquire answers the entry of d with one reference more. first says that the caller has to make it ready.
func (m *modules) acquire(d digest.Digest) (e *entry, first bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e = m.entries[d]; e != nil {
		m.order.MoveToFront(e.place)
	} else {
		e = &entry{digest: d, ready: make(chan struct{})}
		e.place = m.order.PushFront(e)
		m.entries[d] = e
		first = true
	}
	e.refs++
	return e, first
}

// hold adds a reference for as long as there is one.
func (m *modules) hold(e *entry) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.refs == 0 {
		return false
	}
	e.refs++
	return true
}

// finish makes an entry ready and gives up the reference of the one who made it. A failed one is forgotten, so that the next load tries again.
func (m *modules) finish(e *entry, err error) {
	m.mu.Lock()
	e.err = err
	if err != nil {
		m.drop(e)
	} else {
		m.size += e.size
	}
	m.mu.Unlock()
	close(e.ready)
	m.release(e)
}

func (m *modules) release(e *entry) {
	m.mu.Lock()
	e.refs--
	gone := m.excess()
	m.mu.Unlock()
	closeAll(context.Background(), gone)
}

// excess takes out unused entries until the rest fits, the one not used for longest first.
func (m *modules) excess() []*entry {
	var gone []*entry
	for at := m.order.Back(); at != nil && (m.order.Len() > m.most || m.size > m.mostSize); {
		e := at.Value.(*entry)
		at = at.Prev()
		if e.refs == 0 {
			m.drop(e)
			m.size -= e.size
			gone = append(gone, e)
		}
	}
	return gone
}

func (m *modules) drop(e *entry) {
	delete(m.entries, e.digest)
	m.order.Remove(e.place)
}

// clear closes everything. Nothing may be in use.
func (m *modules) clear(ctx context.Context) {
	m.mu.Lock()
	all := lo.Values(m.entries)
	for _, e := range all {
		m.drop(e)
	}
	m.size = 0
	m.mu.Unlock()
	closeAll(ctx, all)
}

func closeAll(ctx context.Context, entries []*entry) {
	for _, e := range entries {
		if e.program != nil {
			// Nothing can be done about code that cannot be unmapped.
			_ = e.program.close(ctx)
		}
	}
}
