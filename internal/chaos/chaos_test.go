// Package chaos breaks a real cluster, on machines of its own, while clients use it, and checks what they were told.
//
// The machines are network namespaces with a file system each; the nodes are processes of the built binary. Faults come from
// a seed: the same seed plans the same ones, as far as timing allows. "make chaos" runs it, as root.
package chaos

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	chaosTime  = flag.Duration("chaos", 0, "break things for so long")
	chaosSeed  = flag.Uint64("chaos.seed", 0, "which faults come when; 0 draws one")
	chaosKinds = flag.String("chaos.faults", "", "only these kinds of faults, separated by commas")
	chaosKeep  = flag.Bool("chaos.keep", false, "keep the nodes' logs although nothing is wrong")
)

// How long the cluster may take, at most, for what has no other bound: these are far above what it needs.
const (
	callTime  = 5 * time.Second  // a call, on any side of a partition
	readyTime = time.Minute      // a node, from its start until it is ready
	drainTime = 2 * time.Minute  // everything, from the end of all faults until all jobs are over and all replicas equal
	askTime   = 10 * time.Second // one request that may have to wait for an election
)

// TestChaos breaks a cluster of three for the time given.
func TestChaos(t *testing.T) {
	if *chaosTime <= 0 {
		t.Skip("run make chaos, as root")
	}
	seed := *chaosSeed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	ctx, stop := signal.NotifyContext(t.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := newRun(t, ctx, seed)
	r.logf("seed %d, for %s; the nodes' logs are in %s", seed, *chaosTime, r.net.dir)
	r.found()
	r.storm()
	r.finish()
}

// run is one run of everything.
type run struct {
	t     *testing.T
	ctx   context.Context
	rng   *rand.Rand // of the faults: nobody else draws from it
	begun time.Time
	net   *network
	book  *book
	calls *calls
	audit *hashes
	// faults counts them by kind.
	faults map[string]int

	mu         sync.Mutex
	violations []string
}

func newRun(t *testing.T, ctx context.Context, seed uint64) *run {
	r := &run{
		t: t, ctx: ctx, rng: rand.New(rand.NewPCG(seed, 1)), begun: time.Now(), book: newBook(), calls: newCalls(), audit: newHashes(), faults: map[string]int{},
	}
	r.net = newNetwork(r, 3)
	return r
}

func (r *run) logf(format string, args ...any) {
	r.t.Logf("%7.2f "+format, append([]any{time.Since(r.begun).Seconds()}, args...)...)
}

// violate notes that a promise was broken. The run goes on: what follows may say more.
func (r *run) violate(format string, args ...any) {
	text := fmt.Sprintf("%7.2f ", time.Since(r.begun).Seconds()) + fmt.Sprintf(format, args...)
	r.mu.Lock()
	r.violations = append(r.violations, text)
	n := len(r.violations)
	r.mu.Unlock()
	if n <= 50 {
		r.t.Logf("VIOLATED %s", text)
	}
}

func (r *run) broken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.violations)
}

// found makes the cluster, and what the load needs of it.
func (r *run) found() {
	for _, m := range r.net.machines {
		m.start()
		m.awaitReady()
	}
	if !r.until(drainTime, r.whole) {
		r.t.Fatal("the cluster did not become whole: ", r.whole())
	}
	r.publish()
	r.logf("three nodes are there, with all replicas")
}

// storm lets clients work while faults come, and ends all of them.
func (r *run) storm() {
	ctx, cancel := context.WithTimeout(r.ctx, *chaosTime)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	r.load(ctx, &wg)
	wg.Go(func() { r.sample(ctx) })
	r.breakThings(ctx)
	cancel()
	wg.Wait()
	r.heal()
}

// finish waits until everything has come to rest, and compares.
func (r *run) finish() {
	start := time.Now()
	if r.ctx.Err() != nil {
		r.t.Error("interrupted: nothing was compared in the end")
	} else {
		r.logf("the faults are over; waiting until everything is done")
		r.drain()
		r.compare()
	}
	r.report(time.Since(start))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.violations[:min(len(r.violations), 50)] {
		r.t.Error(v)
	}
	if len(r.violations) > 50 {
		r.t.Errorf("and %d more", len(r.violations)-50)
	}
}

// until polls what is wanting until it is nothing, and tells whether that came to pass in time.
func (r *run) until(limit time.Duration, wanting func() string) bool {
	for end := time.Now().Add(limit); ; {
		if wanting() == "" {
			return true
		}
		if time.Now().After(end) || !pause(r.ctx, 200*time.Millisecond) {
			return false
		}
	}
}

// pause waits, and tells whether it was not interrupted.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (r *run) report(took time.Duration) {
	var kinds []string
	for k, n := range r.faults {
		kinds = append(kinds, fmt.Sprintf("%s %d", k, n))
	}
	slices.Sort(kinds)
	r.logf("faults: %s; starts of nodes %d", strings.Join(kinds, ", "), r.net.starts.Load())
	r.logf("calls: %s", r.calls)
	r.logf("%s", r.book)
	r.logf("hashes compared at the same entry: %d; drained and compared in %s", r.audit.compared, took.Round(time.Millisecond))
	r.logf("violations: %d", r.broken())
}
