package sim

import (
	"math/rand/v2"

	"github.com/wattlehq/wattle/store"
	"github.com/wattlehq/wattle/store/memory"
)

// disk is what a machine keeps when its process ends.
type disk interface {
	open() (*store.Store, error)
	// crash loses what was not synced: all of it, none, or some.
	crash(mode int, rng *rand.Rand)
	// damage makes something unreadable, and tells whether there was anything.
	damage(db string, rng *rand.Rand) bool
	// close is called at the end of a run.
	close()
}

// memoryDisk is one whose every operation the run decides on.
type memoryDisk struct{ d memory.Disk }

func (m *memoryDisk) open() (*store.Store, error) { return m.d.Open(), nil }

func (m *memoryDisk) crash(mode int, rng *rand.Rand) {
	m.d.Crash(func(_ string, unsynced int) int {
		switch mode {
		case 0:
			return 0
		case 1:
			return unsynced
		}
		return rng.IntN(unsynced + 1)
	})
}

func (m *memoryDisk) damage(db string, rng *rand.Rand) bool { return m.d.Damage(db, rng.IntN) }

func (m *memoryDisk) close() {}
