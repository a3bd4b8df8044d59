package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// fault is something that goes wrong. What it does stays so until the network is healed.
type fault struct {
	kind string
	// hold is how long it stays, at least and at most.
	least, most time.Duration
	do          func(f *faulty)
}

// faulty is what a fault may draw on.
type faulty struct {
	*run
	rng *rand.Rand // its own: what one fault draws does not change the next
	// a, b and c are all machines, in the order drawn.
	a, b, c *machine
}

// alone is the fault that must not come together with another: what it destroys must be elsewhere.
const alone = "wipe"

func (r *run) faulty() *faulty {
	f := &faulty{run: r, rng: rand.New(rand.NewPCG(r.rng.Uint64(), 2))}
	ms := slices.Clone(r.net.machines)
	r.rng.Shuffle(len(ms), func(i, j int) { ms[i], ms[j] = ms[j], ms[i] })
	f.a, f.b, f.c = ms[0], ms[1], ms[2]
	return f
}

// kinds are all faults. LeaseTime of package dag is 5 s: a node may be frozen for less and for more.
var kinds = []fault{
	{"kill-leader", time.Second, 6 * time.Second, func(f *faulty) { f.leader().kill(syscall.SIGKILL) }},
	{"kill-worker", time.Second, 6 * time.Second, func(f *faulty) { f.worker().kill(syscall.SIGKILL) }},
	{"kill-two", time.Second, 4 * time.Second, func(f *faulty) { f.a.kill(syscall.SIGKILL); f.b.kill(syscall.SIGKILL) }},
	{"kill-all", 0, 2 * time.Second, func(f *faulty) { f.a.kill(syscall.SIGKILL); f.b.kill(syscall.SIGKILL); f.c.kill(syscall.SIGKILL) }},
	{"kill-again-and-again", 0, time.Second, func(f *faulty) {
		for range 4 {
			f.a.kill(syscall.SIGKILL)
			f.a.start()
			f.rest(2 * time.Second)
		}
	}},
	{"restart", 0, time.Second, func(f *faulty) { f.leader().kill(syscall.SIGTERM) }},
	{"freeze-leader", 6 * time.Second, 10 * time.Second, func(f *faulty) { f.leader().freeze() }},
	{"freeze-worker", 6 * time.Second, 10 * time.Second, func(f *faulty) { f.worker().freeze() }},
	{"freeze-briefly", 500 * time.Millisecond, 4 * time.Second, func(f *faulty) { f.leader().freeze() }},
	{"freeze-two", 6 * time.Second, 8 * time.Second, func(f *faulty) { f.a.freeze(); f.b.freeze() }},
	{"partition", 3 * time.Second, 10 * time.Second, func(f *faulty) { f.apart(f.a, f.b); f.apart(f.a, f.c) }},
	{"partition-leader", 3 * time.Second, 10 * time.Second, func(f *faulty) {
		l := f.leader()
		for _, m := range f.net.machines {
			f.apart(l, m)
		}
	}},
	{"partition-of-two", 3 * time.Second, 8 * time.Second, func(f *faulty) { f.apart(f.a, f.b) }},
	{"partition-all", 3 * time.Second, 8 * time.Second, func(f *faulty) { f.apart(f.a, f.b); f.apart(f.a, f.c); f.apart(f.b, f.c) }},
	{"deaf", 3 * time.Second, 8 * time.Second, func(f *faulty) { f.b.lose(f.a); f.c.lose(f.a) }},
	{"mute", 3 * time.Second, 8 * time.Second, func(f *faulty) { f.a.lose(f.b); f.a.lose(f.c) }},
	{"deaf-to-one", 3 * time.Second, 8 * time.Second, func(f *faulty) { f.leader().lose(f.a); f.b.lose(f.c) }},
	{"flapping", 0, time.Second, func(f *faulty) {
		for range 5 {
			f.apart(f.a, f.b)
			f.apart(f.a, f.c)
			f.rest(1500 * time.Millisecond)
			for _, m := range f.net.machines {
				m.mend()
			}
			f.rest(time.Second)
		}
	}},
	{"kill-in-partition", 2 * time.Second, 6 * time.Second, func(f *faulty) {
		f.apart(f.a, f.b)
		f.apart(f.a, f.c)
		f.rest(2 * time.Second)
		f.b.kill(syscall.SIGKILL)
	}},
	{"start-in-partition", time.Second, 4 * time.Second, func(f *faulty) {
		f.a.kill(syscall.SIGKILL)
		f.apart(f.a, f.b)
		f.apart(f.a, f.c)
		f.a.start()
		f.a.awaitReady() // calls need nobody else
	}},
	{alone, 0, time.Second, func(f *faulty) {
		// What is lost must be elsewhere, before and again afterwards.
		if !f.awaitWhole() {
			return
		}
		f.a.kill(syscall.SIGKILL)
		f.a.wipe()
		f.a.start()
		f.a.awaitReady()
		f.awaitWhole()
	}},
	{"slow-link", 4 * time.Second, 10 * time.Second, func(f *faulty) {
		if len(f.net.shape) > 0 {
			f.leader().slow(f.net.shape[f.rng.IntN(len(f.net.shape))])
		}
	}},
	{"full-disk", 4 * time.Second, 10 * time.Second, func(f *faulty) {
		if err := f.leader().fill(f.rng.Int64N(2) * f.rng.Int64N(512<<10)); err != nil {
			f.t.Error("the disk cannot be filled: ", err)
		}
	}},
}

// breakThings lets faults come, one after another, until the time is over: every kind once before any comes again.
func (r *run) breakThings(ctx context.Context) {
	some := slices.DeleteFunc(slices.Clone(kinds), func(f fault) bool {
		return *chaosKinds != "" && !slices.Contains(strings.Split(*chaosKinds, ","), f.kind)
	})
	if len(some) == 0 {
		r.t.Fatalf("-chaos.faults=%s names no kind of fault", *chaosKinds)
	}
	for round := 0; ; round++ {
		r.rng.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		mix(some)
		for _, k := range some {
			before, hold := r.draw(500*time.Millisecond, 3*time.Second), r.draw(k.least, k.most)
			both := []fault{k}
			// From the second round on, some come while another one is there.
			if second := some[r.rng.IntN(len(some))]; round > 0 && r.rng.IntN(3) == 0 && k.kind != alone && second.kind != alone {
				both = append(both, second)
			}
			if !pause(ctx, before) {
				return
			}
			for _, k := range both {
				f := r.faulty()
				r.logf("%s, machines %d %d %d, for %s", k.kind, f.a.n, f.b.n, f.c.n, hold.Round(100*time.Millisecond))
				r.faults[k.kind]++
				k.do(f)
			}
			more := pause(ctx, hold)
			r.heal()
			if !more {
				return
			}
		}
		// Between the rounds it must be able to recover under load.
		r.awaitWhole()
	}
}

// mix brings one of every family forward: a short run shall have something of everything.
func mix(all []fault) {
	family := func(f fault) string { name, _, _ := strings.Cut(f.kind, "-"); return name }
	earlier, nth := map[string]int{}, map[string]int{}
	for _, f := range all {
		nth[f.kind] = earlier[family(f)]
		earlier[family(f)]++
	}
	slices.SortStableFunc(all, func(a, b fault) int { return nth[a.kind] - nth[b.kind] })
}

func (r *run) draw(least, most time.Duration) time.Duration {
	return least + time.Duration(r.rng.Int64N(int64(most-least)+1))
}

// heal ends everything that is wrong, and waits until all nodes are ready.
func (r *run) heal() {
	for _, m := range r.net.machines {
		m.heal()
	}
	for _, m := range r.net.machines {
		m.awaitReady()
	}
}

// awaitWhole waits, while nothing is wrong but clients work, until every shard has all its replicas.
func (r *run) awaitWhole() bool {
	ok := r.until(drainTime, r.whole)
	if !ok && r.ctx.Err() == nil {
		r.violate("not whole %s after the last fault: %s", drainTime, r.whole())
	}
	return ok
}

// rest waits for up to so long.
func (f *faulty) rest(most time.Duration) { pause(f.ctx, time.Duration(f.rng.Int64N(int64(most)))) }

// apart lets two machines lose everything they send to each other.
func (f *faulty) apart(a, b *machine) {
	a.lose(b)
	b.lose(a)
}

// leader returns the machine that leads the most shards, worker one that runs the most tasks, as far as a node knows.
func (f *faulty) leader() *machine {
	return f.most("leads", func(n *wattlev1.Node) uint32 { return n.Leading })
}

func (f *faulty) worker() *machine {
	return f.most("runs", func(n *wattlev1.Node) uint32 { return n.Running })
}

func (f *faulty) most(does string, of func(*wattlev1.Node) uint32) *machine {
	ctx, cancel := context.WithTimeout(f.ctx, callTime)
	defer cancel()
	res, err := f.b.client.Nodes.ListNodes(ctx, connect.NewRequest(&wattlev1.ListNodesRequest{}))
	if err != nil {
		f.logf("who %s the most is not known: %v", does, err)
		return f.a
	}
	best, most := f.a, uint32(0)
	for _, n := range res.Msg.Nodes {
		for _, m := range f.net.machines {
			if n.Addr == m.addr && of(n) > most {
				best, most = m, of(n)
			}
		}
	}
	f.logf("  it is machine %d, which %s %s", best.n, does, fmt.Sprint(most))
	return best
}
