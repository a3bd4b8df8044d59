package host

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/samber/lo"

	"github.com/wattlehq/wattle/host/instrument"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// Module is a compiled module in use. It is safe for concurrent use.
type Module struct {
	host     *Host
	entry    *entry
	released atomic.Bool
	users    atomic.Int64 // the caller until Release, and the calls that run
}

// Info tells what the module offers.
func (m *Module) Info() Info { return m.entry.info }

// Release gives the module back; running calls go on. It may be called more than once.
func (m *Module) Release() {
	if m.released.CompareAndSwap(false, true) {
		m.leave()
	}
}

func (m *Module) leave() {
	if m.users.Add(-1) == 0 {
		m.host.modules.release(m.entry)
	}
}

// Call runs one function, from the state that the module has after its start.
//
// Errors are *fault.Error, apart from those of the caller's own Input, Output and Emit, which come back as they are.
func (m *Module) Call(ctx context.Context, c *Call) (Stats, error) {
	stats, err := m.call(ctx, c)
	m.host.fuel.Add(stats.Fuel)
	if err != nil {
		m.host.reached(err)
	}
	if stats.LogDropped {
		m.host.limited("log_limit")
	}
	return stats, err
}

func (m *Module) call(ctx context.Context, c *Call) (Stats, error) {
	if m.users.Add(1); m.released.Load() {
		m.leave()
		return Stats{}, errors.New("host: call of a released module")
	}
	defer m.leave()
	if err := m.host.begin(); err != nil {
		return Stats{}, err
	}
	defer m.host.end()
	e := m.entry
	export, ok := e.exports[c.Function]
	if e.info.ABI == abiWapc {
		export, ok = "__guest_call", nameFault(c.Function) == ""
	}
	if !ok {
		names := lo.Map(e.info.Functions, func(f Function, _ int) string { return f.Name })
		return Stats{}, fault.New(fault.NotFound, "unknown_function", "there is no function %q; the module has: %s", c.Function, shorten(names)).
			With("function", c.Function).Hint("call one of the functions listed")
	}
	limits := c.Limits.Or(m.host.config.Defaults)
	if least := e.reach(); least > limits.Memory {
		return Stats{}, memoryFault(limits.Memory, "the module starts with %d bytes of memory, more than the limit of %d", least, limits.Memory)
	}
	if ctx.Err() != nil {
		return Stats{}, Interrupted(ctx)
	}
	if limits.Concurrency > 0 {
		leave, err := m.host.gates.enter(gateOf(c), limits.Concurrency)
		if err != nil {
			return Stats{}, err
		}
		defer leave()
	}
	return m.host.call(ctx, e, c, limits, export)
}

// call runs one export in a slot or in a fresh instance.
func (h *Host) call(ctx context.Context, e *entry, c *Call, limits Limits, export string) (Stats, error) {
	now := time.Now()
	e.slots.used.Store(now.UnixNano())
	s, err := h.slot(ctx, e, now.Add(limits.Timeout), c)
	if err != nil {
		return Stats{}, err
	}
	defer h.putBack(s)
	if s.fresh {
		if err := s.initialize(ctx, c, limits); err != nil {
			return Stats{}, err
		}
	}
	return s.run(ctx, c, limits, export)
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
	size       int
	module     instrument.Module // without its bytes
	program    program
	info       Info
	exports    map[string]string // functions to what is called for them
	starts     []string          // exports that run before anything else
	dispatcher bool
	describes  bool
	weight     uint64 // what an instance takes beside its memory, in bytes
	image      *image // nil where calls get fresh instances
	slots      slots
}

// reach is how much memory a call can touch before it asks for more.
func (e *entry) reach() uint64 {
	if e.image != nil {
		return e.image.length
	}
	return e.module.MinMemory
}

// need is what a new instance is charged with.
func (e *entry) need() uint64 { return e.weight + e.reach() }

// weigh estimates what an instance takes: wazero keeps a reference of about 200 bytes for each function in a table.
func (e *entry) weigh() {
	e.weight = 64<<10 + 200*uint64(e.module.Functions)
	if len(e.module.Uncapturable) > 0 {
		e.weight += 8 * e.module.TableEntries
	}
}

// point says for each function what to call.
func (e *entry) point() {
	e.exports = map[string]string{}
	for _, f := range e.info.Functions {
		switch {
		case e.info.ABI == abiCommand && f.Name == "main":
			e.exports[f.Name] = "_start"
		case e.dispatcher:
			e.exports[f.Name] = "wattle_call"
		default:
			e.exports[f.Name] = f.Name
		}
	}
}

// close frees what the entry holds. Nothing may be in use.
func (e *entry) close(ctx context.Context, b *budget) {
	for _, s := range e.slots.close() {
		s.close()
	}
	if e.image != nil {
		b.give(e.image.held())
		e.image.free()
	}
	if e.program != nil {
		// Nothing can be done about code that cannot be unmapped.
		_ = e.program.close(ctx)
	}
}

// modules keeps compiled modules, those in use and the ones used last.
type modules struct {
	budget   *budget
	mu       sync.Mutex
	most     int
	mostSize int
	size     int
	entries  map[digest.Digest]*entry
	order    *list.List // of *entry; the one used last is in front
}

func (m *modules) init(most, mostSize int, b *budget) {
	m.most, m.mostSize, m.budget = most, mostSize, b
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

// ready tells whether d is at hand. Whoever asks is about to use it, which counts as a use.
func (m *modules) ready(d digest.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[d]
	if e == nil {
		return false
	}
	m.order.MoveToFront(e.place)
	select {
	case <-e.ready:
		return true
	default:
		return false
	}
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
	m.closeAll(context.Background(), gone)
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
	m.closeAll(ctx, all)
}

// all answers the entries that are ready.
func (m *modules) all() []*entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	return lo.Filter(lo.Values(m.entries), func(e *entry, _ int) bool {
		select {
		case <-e.ready:
			return true
		default:
			return false
		}
	})
}

func (m *modules) closeAll(ctx context.Context, entries []*entry) {
	for _, e := range entries {
		e.close(ctx, m.budget)
	}
}
