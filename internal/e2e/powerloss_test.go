package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	powerlossAll  = flag.Bool("powerloss.all", false, "crash at every disk operation in every way, not at a sample")
	powerlossSeed = flag.Uint64("powerloss.seed", 1, "which sample, and what a torn crash keeps")
)

// sweep runs the scenario on a crashable disk and looks at what crashes at its operations would leave.
type sweep struct {
	mem    *vfs.MemFS
	led    *ledger
	rng    *rand.Rand
	ops    int
	synced bool // since the last look at what is synced only
	seen   int  // the ledger's changes at that look
	halted atomic.Bool
	// modes are the percentages of unsynced data that survive a crash at an operation.
	modes func(s *sweep, op string) []int
	// skip leaves a sync out.
	skip func(path string) bool
	// onTap makes operations fail instead, and fatal is told when the node gives up.
	onTap func(op, path string) error
	fatal func(error)
	// starting says that a node is on its way up.
	starting atomic.Bool

	checks  chan check
	workers sync.WaitGroup
	mu      sync.Mutex
	checked map[int]int
	skipped int
	faults  []error
}

type check struct {
	fs   *vfs.MemFS
	p    promise
	mode int
	at   string
}

func newSweep(seed uint64, modes func(*sweep, string) []int) *sweep {
	s := &sweep{
		mem: vfs.NewCrashableMem(), led: newLedger(), rng: rand.New(rand.NewPCG(seed, 11)), modes: modes,
		skip: func(string) bool { return false }, checks: make(chan check), checked: map[int]int{},
	}
	for range runtime.GOMAXPROCS(0) {
		s.workers.Go(func() {
			for c := range s.checks {
				err := inspect(c.fs, c.p)
				s.mu.Lock()
				s.checked[c.mode]++
				if err != nil {
					s.faults = append(s.faults, fmt.Errorf("power lost %s, %d%% of what was not synced kept: %w", c.at, c.mode, err))
				}
				s.mu.Unlock()
			}
		})
	}
	return s
}

// tap is called before every operation. The workers take their time, and the scenario waits for them.
func (s *sweep) tap(op, p string) (skip bool, err error) {
	if s.onTap != nil {
		return false, s.onTap(op, p)
	}
	if s.halted.Load() {
		return false, nil
	}
	s.ops++
	s.look(op, fmt.Sprintf("before operation %d, %s %s", s.ops, op, p))
	if op == "sync" {
		if s.skip(p) {
			s.skipped++
			return true, nil
		}
		s.synced = true
	}
	return false, nil
}

func (s *sweep) look(op, at string) {
	for _, mode := range s.modes(s, op) {
		c := check{mode: mode, at: at}
		c.p = s.led.around(func() {
			c.fs = s.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: mode, RNG: s.rng})
		})
		if mode == 0 {
			s.synced, s.seen = false, s.led.version()
		}
		s.checks <- c
	}
}

// fresh tells whether a crash that keeps only what is synced can show something new.
func (s *sweep) fresh() bool {
	return s.synced || s.led.version() != s.seen
}

// run plays the scenario and returns how it went once every check is done.
func (s *sweep) run(ctx context.Context) error {
	err := s.play(ctx)
	close(s.checks)
	s.workers.Wait()
	return err
}

// On a small machine every check takes tens of milliseconds, so a plain test takes samples.
const sampleEvery = 12

func everyMode(s *sweep, _ string) (modes []int) {
	pick := func() bool { return *powerlossAll || s.rng.IntN(sampleEvery) == 0 }
	if s.fresh() && pick() {
		modes = append(modes, 0)
	}
	if pick() {
		modes = append(modes, 50)
	}
	if pick() {
		modes = append(modes, 100)
	}
	return modes
}

// TestPowerLoss takes the power away at the disk operations of a node's life, its restarts included: what a client had
// been told holds on what is left.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	start := time.Now()
	s := newSweep(*powerlossSeed, everyMode)
	if err := s.run(t.Context()); err != nil {
		t.Error("the scenario:", err)
	}
	for _, err := range s.faults[:min(len(s.faults), 20)] {
		t.Error(err)
	}
	t.Logf("%d operations; crashes that dropped, tore and kept what was not synced: %d, %d, %d; %d broken; %s",
		s.ops, s.checked[0], s.checked[50], s.checked[100], len(s.faults), time.Since(start).Round(time.Millisecond))
	if s.ops < 300 || s.checked[0] < 10 || s.checked[50] < 10 || s.checked[100] < 10 {
		t.Errorf("%d operations, %v checks: the scenario does too little", s.ops, s.checked)
	}
}

// syncSites are the kinds of places that are synced: ours, and Pebble's where they bear on what we promise.
var syncSites = []string{
	"above the data directory", "the data directory", "FORMAT", "WAL",
	"log directory", "log WAL", "log MANIFEST", "log table",
	"state directory", "state MANIFEST", "state table",
	"blob directory", "blob fan", "blob file", "uploaded file",
}

// site names the kind of place a path is.
func site(p string) string {
	rel, below := strings.CutPrefix(p, crashData)
	if !below {
		return "above the data directory"
	}
	rel = strings.Trim(rel, "/")
	dir, file := path.Split(rel)
	dir = strings.Trim(dir, "/")
	switch {
	case rel == "":
		return "the data directory"
	case rel == "log", rel == "state":
		return rel + " directory"
	case dir == "log" || dir == "state":
		switch {
		case strings.HasPrefix(file, "marker."):
			return dir + " marker"
		case strings.HasPrefix(file, "MANIFEST-"):
			return dir + " MANIFEST"
		case strings.HasPrefix(file, "OPTIONS-"):
			return dir + " OPTIONS"
		case path.Ext(file) == ".log":
			return dir + " WAL"
		}
		return dir + " table"
	case rel == "blobs":
		return "blob directory"
	case dir == "blobs":
		return "blob fan"
	case strings.HasPrefix(rel, "blobs/tmp/"):
		return "blob file"
	case strings.HasPrefix(rel, "blobs/staged/"):
		return "uploaded file"
	}
	return strings.TrimSuffix(rel, ".tmp")
}

// TestPowerLossFindsMissingSyncs leaves the syncs of one kind of place out after the other: the same crashes must find out,
// or that kind of sync would be of no use, or the test not.
func TestPowerLossFindsMissingSyncs(t *testing.T) {
	t.Parallel()
	for _, at := range syncSites {
		t.Run(at, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			// What was just acknowledged is what a missing sync loses, so it is enough to look then. Some syncs only keep
			// files in step with each other (all lost is as good as none): what is torn shows those, by chance.
			s := newSweep(*powerlossSeed, func(s *sweep, _ string) []int {
				s.mu.Lock()
				defer s.mu.Unlock()
				if len(s.faults) > 0 {
					cancel()
				}
				if len(s.faults) > 0 || !s.fresh() || s.led.version() == s.seen {
					return nil
				}
				return []int{0, 50, 50, 50}
			})
			s.skip = func(p string) bool { return site(p) == at }
			err := s.run(ctx)
			err = errors.Join(errors.Join(s.faults...), err)
			if s.skipped == 0 {
				t.Fatalf("nothing at %s is ever synced", at)
			}
			if err == nil {
				t.Fatalf("%d syncs of %s were left out and nobody noticed", s.skipped, at)
			}
			t.Logf("%d syncs left out: %v", s.skipped, strings.SplitN(err.Error(), "\n", 2)[0])
		})
	}
}
