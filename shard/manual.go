package shard

import (
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
)

// Part is one of the workers an engine consists of.
type Part int

// The parts. Each is driven by a goroutine of its own in Run.
const (
	Loop Part = iota
	Appender
	Applier
	Courier
	Parts = iota
)

// Manual drives an engine step by step in place of Run, so that a simulator decides what happens when. Its methods must not
// be called concurrently; those that take a done call it once, from within this or a later call, or never if the
// engine is given up. Like Run, they panic with a *machine.Broken where the node must end.
type Manual struct{ e *Engine }

// Manual returns the engine's driver. Begin comes first.
func (e *Engine) Manual() *Manual { return &Manual{e} }

// Begin is what Run does first.
func (m *Manual) Begin() { m.e.loop.begin() }

// Tick is one Config.Tick.
func (m *Manual) Tick() { m.e.loop.tick() }

// Pending tells whether a part has something to do.
func (m *Manual) Pending(p Part) bool {
	switch p {
	case Loop:
		return m.e.loop.inbox.len() > 0
	case Appender:
		return m.e.appender.inbox.len() > 0
	case Applier:
		return m.e.applier.inbox.len() > 0
	default:
		return m.e.courier.inbox.len() > 0
	}
}

// Step lets a part do what it has to do.
func (m *Manual) Step(p Part) {
	switch p {
	case Loop:
		m.e.loop.turn(m.e.loop.receive())
	case Appender:
		m.e.appender.turn(m.e.appender.inbox.take())
	case Applier:
		m.e.applier.turn(m.e.applier.inbox.take())
	case Courier:
		m.e.courier.turn(m.e.courier.inbox.take())
	}
}

// Propose is Engine.Propose.
func (m *Manual) Propose(p Proposal, done func(machine.Result, error)) { m.e.propose(p, done) }

// Read is Engine.Read; done is told after fn was called, or why it was not.
func (m *Manual) Read(slot machine.Slot, id machine.ID, fn func(machine.Reader) error, done func(error)) {
	m.e.await(m.e.cfg.Table.Of(slot), func(err error) {
		if err == nil {
			err = m.e.Peek(slot, id, fn)
		}
		if fault.KindOf(err) == fault.Corrupt {
			must(err) // as a store does by itself
		}
		done(err)
	})
}

// Change is Engine.Change.
func (m *Manual) Change(id ID, changes []Change, done func(error)) { m.e.change(id, changes, done) }

// Position is where the state of a replica stands, and the hash of everything that led there.
type Position struct {
	Shard          ID
	Replica, Index uint64
	Hash           uint64
}

// Positions returns those of all replicas here.
func (m *Manual) Positions() []Position {
	var all []Position
	for _, g := range m.e.all() {
		if !g.dropped {
			all = append(all, Position{g.id, g.replica, g.position, g.hash})
		}
	}
	return all
}
