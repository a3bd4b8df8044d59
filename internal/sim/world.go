package sim

import (
	"container/heap"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// Config says what a run is like. The zero value of everything but the seed is filled in from the seed.
type Config struct {
	Seed uint64
	// Faults is how long things go wrong for, DefaultFaults by default; then all is healed and has to settle.
	Faults time.Duration
	// newDisk makes the machines' disks, if they are not to be memory.
	newDisk func() disk
	// Off names kinds of faults and load that do not happen, to find out which one matters: see Kinds.
	Off map[string]bool
	// Cut makes one machine lose power once, and nothing else go wrong.
	Cut *Cut
	// Log is told what happens, if it is set.
	Log func(string)
}

// Cut says when a machine loses power.
type Cut struct {
	// Machine counts from zero, Op, the disk operation that does not return, from one.
	Machine, Op int
	// Mode says what is left of what was not synced: nothing, all of it, or some.
	Mode int
}

// DefaultFaults is long enough for everything that can go wrong.
const DefaultFaults = 20 * time.Second

// Result is what became of a run.
type Result struct {
	// Err is what the auditor found, or nil.
	Err error
	// Trace is a hash of everything that happened.
	Trace uint64
	// Stats count what happened, by name.
	Stats map[string]int
}

// world is a run.
type world struct {
	cfg    Config
	rng    *rand.Rand
	now    time.Duration
	events events
	seq    uint64
	trace  *xxhash.Digest
	table  *shard.Table
	nodes  []*node // never shrinks: one that was wiped is another
	net    network
	audit  *auditor
	// unlucky tells that changes of members are followed by crashes.
	unlucky bool
	want    int           // replicas of a shard
	calm    bool          // nothing goes wrong any more
	moved   time.Duration // when the controller last wanted something
	stats   map[string]int
}

// finding is what the auditor panics with.
type finding struct{ err error }

// event is something that happens at a time.
type event struct {
	at   time.Duration
	seq  uint64 // among those at the same time, in the order in which they were planned
	what string
	do   func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	x := old[len(old)-1]
	*e = old[:len(old)-1]
	return x
}

// Run carries out one run.
func Run(cfg Config) (r Result) {
	seed := [32]byte{}
	binary.BigEndian.PutUint64(seed[:], cfg.Seed)
	before := crand.Reader
	crand.Reader = rand.NewChaCha8(seed)
	defer func() { crand.Reader = before }()
	w := &world{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 1)), trace: xxhash.New(), stats: map[string]int{},
	}
	if w.cfg.Faults == 0 {
		w.cfg.Faults = DefaultFaults
	}
	defer func() {
		for _, n := range w.nodes {
			if n.engine != nil {
				n.tally()
			}
			n.disk.close()
		}
		r.Trace, r.Stats = w.trace.Sum64(), w.stats
		if p := recover(); p != nil {
			f, ok := p.(finding)
			if !ok {
				panic(p)
			}
			r.Err = fmt.Errorf("seed %d at %v: %w", cfg.Seed, w.now, f.err)
		}
	}()
	w.live()
	return r
}

func (w *world) live() {
	table, err := shard.NewTable(uint32(1 + w.rng.IntN(3)))
	w.must(err)
	w.table = table
	w.audit = newAuditor(w)
	w.net = network{w: w, cut: map[[2]int]bool{}}
	machines := 3 + w.rng.IntN(3)
	if w.want = 3; machines == 5 && w.chance(2) {
		w.want = 5
	}
	w.found(machines)
	w.clients()
	w.faults()
	if w.chance(2) && !w.cfg.Off["controller"] {
		w.controller()
	} else {
		w.clumsy()
	}
	w.until(w.cfg.Faults, func() bool { return false })
	w.heal()
	// What is said to be unavailable for ever, and for no reason, is a finding too.
	if !w.until(w.now+2*time.Minute, w.settled) {
		w.find("not settled: %s", w.unsettled())
	}
	w.audit.finish()
	w.audit.checkJobs()
	w.audit.checkAliases()
}

// until lets things happen up to a time, or until done.
func (w *world) until(end time.Duration, done func() bool) bool {
	looked := w.now
	for len(w.events) > 0 && w.events[0].at <= end {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		w.note(e.what)
		e.do()
		// Not after each event: looking at everything is dear.
		if w.now-looked >= tick {
			if looked = w.now; done() {
				return true
			}
		}
	}
	w.now = max(w.now, end)
	return false
}

// after plans something.
func (w *world) after(d time.Duration, what string, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, what, do})
}

// note makes something a part of the trace.
func (w *world) note(what string) {
	var at [8]byte
	binary.BigEndian.PutUint64(at[:], uint64(w.now))
	_, _ = w.trace.Write(at[:])
	_, _ = w.trace.WriteString(what)
	if w.cfg.Log != nil {
		w.cfg.Log(fmt.Sprintf("%12v %s", w.now, what))
	}
}

func (w *world) count(what string) { w.stats[what]++ }

// find ends the run with a finding.
func (w *world) find(format string, args ...any) { panic(finding{fmt.Errorf(format, args...)}) }

func (w *world) must(err error) {
	if err != nil {
		panic(finding{err})
	}
}

// between draws a time.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.rng.Int64N(int64(most-least)+1))
}

// chance is true once in n times.
func (w *world) chance(n int) bool { return w.rng.IntN(n) == 0 }

// broken returns why a part had to end, if that is why it panicked.
func broken(p any) error {
	if b, ok := p.(*machine.Broken); ok {
		return b.Err
	}
	return nil
}

var errCrash = errors.New("crash")
