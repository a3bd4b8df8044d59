package sim

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	seeds = flag.Int("seeds", 300, "how many seeds to run")
	start = flag.Uint64("start", 1, "the first seed")
	first = flag.Bool("first", false, "end with the first seed that fails")
	off   = flag.String("off", "", "kinds of faults that do not happen, with commas between them: to find out which ones a seed needs")
	last  = flag.Duration("faults", DefaultFaults, "how long things go wrong")
	one   = flag.Uint64("seed", 0, "run this seed and tell what happens")
)

func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // a run leaves much behind and keeps little
	os.Exit(m.Run())
}

// TestSeeds runs clusters in which everything goes wrong.
func TestSeeds(t *testing.T) {
	total := map[string]int{}
	n, from := *seeds, *start
	if testing.Short() && n == 300 {
		n = 30
	}
	cfg := Config{Off: map[string]bool{}, Faults: *last}
	for kind := range strings.SplitSeq(*off, ",") {
		if cfg.Off[kind] = true; kind != "" && !slices.Contains(Kinds(), kind) {
			t.Fatalf("-off %s: want some of %v", kind, Kinds())
		}
	}
	if *one != 0 {
		n, from = 1, *one
		cfg.Log = func(s string) { fmt.Println(s) }
	}
	failed := 0
	for i := range uint64(n) {
		cfg.Seed = from + i
		r := Run(cfg)
		for k, v := range r.Stats {
			total[k] += v
		}
		if r.Err != nil {
			failed++
			t.Errorf("%v\ngo test ./internal/sim -run TestSeeds -v -args -seed=%d -faults=%v -off=%s", r.Err, cfg.Seed, cfg.Faults, *off)
			if *first {
				return
			}
			if failed <= 3 && *one == 0 {
				small := Shrink(cfg)
				t.Errorf("shrunk: %v\ngo test ./internal/sim -run TestSeeds -v -args -seed=%d -faults=%v -off=%s",
					Run(small).Err, small.Seed, small.Faults, strings.Join(slices.Sorted(maps.Keys(small.Off)), ","))
			}
		}
	}
	t.Log(total)
	// Runs in which none of this happens would find nothing.
	for _, what := range []string{
		"snapshots installed", "joint changes", "transfer", "tails truncated", "replaced", "damaged", "placed", "placed leaders", "strays",
		"crash", "partition", "lost", "doubled", "delayed", "effects dropped", "fenced", "restarted", "output lost", "overtaken", "aliases", "jobs", "read",
		"given", "adopted", "returned", "leases lost",
	} {
		if n >= 300 && total[what] == 0 {
			t.Errorf("not once: %s", what)
		}
	}
}

// TestSameSeedSameTrace looks for whatever is not drawn from the seed.
func TestSameSeedSameTrace(t *testing.T) {
	for seed := range uint64(5) {
		a, b := Run(Config{Seed: seed + 1}), Run(Config{Seed: seed + 1})
		if a.Trace != b.Trace {
			t.Errorf("seed %d: %x and %x", seed+1, a.Trace, b.Trace)
		}
	}
}

// TestPebble runs a few clusters over real databases, which do things of their own beside: such runs are not the same twice.
func TestPebble(t *testing.T) {
	n := 10
	if testing.Short() {
		n = 3
	}
	for i := range uint64(n) {
		if r := Run(Config{Seed: 1_000_000 + i, newDisk: newPebbleDisk}); r.Err != nil {
			t.Error(r.Err)
		}
	}
}

// TestCuts has each machine of a small cluster lose power at every second of its disk operations, with what was not synced gone,
// kept, and in part, so that each operation has its turn. The same things happen in all runs up to there: jobs run, aliases move, replicas as well, logs are trimmed.
func TestCuts(t *testing.T) {
	runs := 0
	for machine := range 3 {
		for mode := range 3 {
			for op := 1 + mode%2; ; op += 2 {
				if testing.Short() {
					op += 10
				}
				r := Run(Config{Seed: 183, Faults: 3 * time.Second, Cut: &Cut{Machine: machine, Op: op, Mode: mode}})
				if r.Err != nil {
					t.Errorf("machine %d, operation %d, mode %d: %v", machine, op, mode, r.Err)
				}
				if r.Stats["crash"] == 0 {
					for _, what := range []string{"jobs", "tasks completed", "aliases", "added", "joint changes", "entries trimmed", "given", "acquired"} {
						if r.Stats[what] == 0 {
							t.Errorf("not once: %s", what)
						}
					}
					break // it has fewer
				}
				if runs++; op > 5000 {
					t.Fatal("it does not end")
				}
			}
		}
	}
	t.Logf("%d runs", runs)
}
