package sim

import (
	"fmt"

	"github.com/anishathalye/porcupine"

	"github.com/wattlehq/wattle/dag"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// auditor knows what clients were told, and compares.
type auditor struct {
	w *world
	// clients tell whether they wait for something.
	clients []func() bool
	// leaders are who led a shard in a term.
	leaders map[[2]uint64]shard.NodeID
	// newest are the newest terms in which somebody led.
	newest map[shard.ID]uint64
	// hashes are those of shards at entries.
	hashes map[[2]uint64]uint64
	lists  map[machine.Slot]*ledger
	jobs   map[dag.JobID]*job
	// aliases is the history of all requests about the alias.
	aliases []porcupine.Operation
}

// ledger is what is known of a list.
type ledger struct {
	// at are the numbers by place, as far as anybody was told.
	at map[uint64]uint64
	// asked are the numbers that may be there.
	asked map[uint64]bool
	// longest is the greatest place anybody was told of.
	longest uint64
}

func newAuditor(w *world) *auditor {
	return &auditor{w: w, leaders: map[[2]uint64]shard.NodeID{}, newest: map[shard.ID]uint64{}, hashes: map[[2]uint64]uint64{}, lists: map[machine.Slot]*ledger{}, jobs: map[dag.JobID]*job{}}
}

func (a *auditor) ledger(s machine.Slot) *ledger {
	if a.lists[s] == nil {
		a.lists[s] = &ledger{at: map[uint64]uint64{}, asked: map[uint64]bool{}}
	}
	return a.lists[s]
}

// lead notes that a node leads. There is one in a term.
func (a *auditor) lead(n *node, id shard.ID, term uint64) {
	k := [2]uint64{uint64(id), term}
	if other, ok := a.leaders[k]; ok && other != n.id {
		a.w.find("shard %d has two leaders in term %d: %s and %s", id, term, other, n.id)
	}
	if _, ok := a.leaders[k]; !ok {
		a.w.count("elected")
	}
	a.leaders[k], a.newest[id] = n.id, max(a.newest[id], term)
	a.w.note(fmt.Sprintf("%s leads shard %d in term %d", n.id, id, term))
}

// look compares the state of a node's replicas with that of others at the same entry.
func (a *auditor) look(n *node) {
	if n.drive == nil {
		return
	}
	for _, p := range n.drive.Positions() {
		k := [2]uint64{uint64(p.Shard), p.Index}
		if h, ok := a.hashes[k]; ok && h != p.Hash {
			a.w.find("%s has another state of shard %d at entry %d", n.id, p.Shard, p.Index)
		}
		a.hashes[k] = p.Hash
	}
}

func (a *auditor) asked(s machine.Slot, v uint64) { a.ledger(s).asked[v] = true }

// known is how long a list is at least.
func (a *auditor) known(s machine.Slot) uint64 { return a.ledger(s).longest }

// added notes that a client was told where its number is.
func (a *auditor) added(s machine.Slot, v, at uint64) {
	a.w.count("added")
	a.place(s, at, v)
}

func (a *auditor) place(s machine.Slot, at, v uint64) {
	l := a.ledger(s)
	if other, ok := l.at[at]; ok && other != v {
		a.w.find("place %d of list %d is %x and %x", at, s, other, v)
	}
	if !l.asked[v] {
		a.w.find("list %d has %x, which nobody added", s, v)
	}
	l.at[at] = v
	l.longest = max(l.longest, at)
}

// read compares what a client was told with what it must have been told at least.
func (a *auditor) read(n *node, s machine.Slot, least uint64, got []uint64) {
	a.w.count("read")
	if uint64(len(got)) < least {
		a.w.find("stale read at %s: list %d has %d numbers, it had %d before", n.id, s, len(got), least)
	}
	seen := map[uint64]bool{}
	for i, v := range got {
		if seen[v] {
			a.w.find("list %d has %x twice", s, v)
		}
		seen[v] = true
		a.place(s, uint64(i+1), v)
	}
}

// finish looks whether everything that was acknowledged is there, on all replicas.
func (a *auditor) finish() {
	read := map[machine.Slot]int{}
	for _, n := range a.w.alive() {
		if n.engine == nil {
			continue
		}
		for slot, l := range a.lists {
			if _, ok := a.w.replica(n, a.w.table.Of(slot)); !ok {
				continue
			}
			var got []uint64
			err := n.engine.Peek(slot, listsID, func(r machine.Reader) error {
				got = list(r)
				return nil
			})
			if fault.KindOf(err) == fault.Corrupt {
				a.w.count("damaged")
				continue // found in time
			}
			a.w.must(err)
			read[slot]++
			for at, v := range l.at {
				if uint64(len(got)) < at || got[at-1] != v {
					a.w.find("%s lost %x at place %d of list %d", n.id, v, at, slot)
				}
			}
		}
	}
	for slot := range a.lists {
		if read[slot] < 2 {
			a.w.find("list %d can be read on %d nodes", slot, read[slot])
		}
	}
}
