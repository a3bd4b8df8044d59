package sim

import (
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

func newPebbleDisk() disk { return &pebbleDisk{fs: vfs.NewCrashableMem()} }

// pebbleDisk is a file system with Pebble's databases on it. What Pebble does beside is not drawn from the seed.
type pebbleDisk struct {
	fs *vfs.MemFS
	s  *store.Store
}

func (p *pebbleDisk) open() (*store.Store, error) {
	var err error
	p.s, err = store.Open(store.Options{FS: p.fs, Dir: "data", LogCache: 1 << 20, StateCache: 1 << 20, Fatal: func(err error) {
		panic(&machine.Broken{Err: err})
	}})
	return p.s, err
}

func (p *pebbleDisk) crash(mode int, rng *rand.Rand) {
	keep := [...]int{0, 100, 50}[mode]
	after := p.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: keep, RNG: rng})
	p.close()
	p.fs = after
}

func (p *pebbleDisk) close() {
	if p.s != nil {
		_ = p.s.Close() // what it writes nobody sees
		p.s = nil
	}
}

func (p *pebbleDisk) damage(string, *rand.Rand) bool { return false } // store's own tests do that, byte by byte
