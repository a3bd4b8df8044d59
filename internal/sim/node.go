package sim

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store/memory"
)

// node is one data directory and the process over it, if it runs. Machines are where they stand: a machine whose disk
// was lost goes on with another node.
type node struct {
	w        *world
	id       shard.NodeID
	machine  int
	disk     disk
	engine   *shard.Engine
	worker   *worker
	drive    *shard.Manual
	skew     time.Duration
	since    time.Duration // when it went up or down
	starts   int           // counts them, so that what was planned for a process that ended does not happen to the next
	paused   bool
	retired  bool // its disk is gone
	rotten   bool // something on its disk cannot be read, which nobody may have found yet
	planned  [shard.Parts]bool
	slowDisk bool
	// crashAt is the disk operation from now at which the machine loses power; zero is none.
	crashAt int
	full    bool
	// blinking tells that it loses power now and then right after it wrote to its log, and is back at once.
	blinking bool
}

const tick = 100 * time.Millisecond

func (w *world) node(id shard.NodeID) *node {
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// alive are the nodes that have not lost their disk.
func (w *world) alive() (all []*node) {
	for _, n := range w.nodes {
		if !n.retired {
			all = append(all, n)
		}
	}
	return all
}

func (w *world) pick() *node {
	all := w.alive()
	return all[w.rng.IntN(len(all))]
}

// found makes a cluster, whose shards begin on the first machines.
func (w *world) found(machines int) {
	var founders []shard.NodeID
	for i := range machines {
		n := w.machine(i)
		if i < w.want {
			founders = append(founders, n.id)
		}
	}
	for i, n := range w.alive() {
		if i < w.want {
			n.found(founders)
		} else {
			n.found(nil)
		}
		if c := w.cfg.Cut; c != nil && c.Machine == i {
			n.crashAt = c.Op
		}
		n.start()
	}
}

// machine puts a node with an empty disk on a machine.
func (w *world) machine(i int) *node {
	n := &node{w: w, id: shard.NodeID(fmt.Sprintf("n%d", len(w.nodes)+1)), machine: i}
	if n.skew = w.between(-10*time.Second, 10*time.Second); w.cfg.Off["skew"] {
		n.skew = 0
	}
	if n.disk = (&memoryDisk{d: memory.Disk{Fault: n.fault}}); w.cfg.newDisk != nil {
		n.disk = w.cfg.newDisk()
	}
	w.nodes = append(w.nodes, n)
	return n
}

func (n *node) found(founders []shard.NodeID) {
	s, err := n.disk.open()
	n.w.must(err)
	_, _, err = shard.Found(s, shard.Founding{Identity: &storev1.Identity{NodeId: string(n.id)}, Table: n.w.table, Nodes: founders})
	n.w.must(err)
	n.disk.crash(1, n.w.rng)
}

// epoch is when every run begins.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clock is the time as the node takes it.
func (n *node) clock() time.Time { return epoch.Add(n.w.now + n.skew) }

func (n *node) up() bool { return n.engine != nil && !n.paused }

// start starts the process.
func (n *node) start() {
	if n.engine != nil || n.retired {
		return
	}
	n.w.note(fmt.Sprintf("start %s", n.id))
	n.starts++
	n.since = n.w.now
	n.planned = [shard.Parts]bool{}
	n.guard(func() {
		s, err := n.disk.open()
		if err != nil {
			panic(&machine.Broken{Err: err})
		}
		e, err := shard.New(shard.Config{
			Store: s, Table: n.w.table, Node: n.id, Machines: machines, Sink: sink{n}, Run: n.w.rng.Uint64(),
			Now:         n.clock,
			Tick:        tick,
			TrimEntries: 20,
			ChunkBytes:  256,
			Send:        func(to shard.NodeID, ms []*peerv1.ShardMessage) { n.w.net.send(n, to, ms) },
		})
		if err != nil {
			panic(&machine.Broken{Err: err})
		}
		n.engine, n.drive, n.worker = e, e.Manual(), newWorker(n)
		n.drive.Begin()
	})
	n.plan("tick", n.w.between(0, tick), n.tick)
	n.wake()
}

// resume ends a pause.
func (n *node) resume() {
	if n.engine != nil && n.paused {
		n.paused, n.since = false, n.w.now
		n.wake()
		n.worker.poke()
	}
}

// plan has something happen to this process, if it is still the same then.
func (n *node) plan(what string, after time.Duration, do func()) {
	start := n.starts
	n.w.after(after, string(n.id)+" "+what, func() {
		if n.starts == start && n.engine != nil {
			n.guard(do)
		}
	})
}

func (n *node) tick() {
	if n.up() {
		n.guard(n.drive.Tick)
		n.wake()
	}
	if n.engine != nil {
		n.plan("tick", tick, n.tick)
	}
}

var partNames = [shard.Parts]string{"loop", "appender", "applier", "courier"}

// wake plans the steps of the parts that have something to do.
func (n *node) wake() {
	for p := range shard.Part(shard.Parts) {
		if n.up() && !n.planned[p] && n.drive.Pending(p) {
			n.planned[p] = true
			n.plan(partNames[p], n.latency(p), func() { n.step(p) })
		}
	}
}

func (n *node) latency(p shard.Part) time.Duration {
	if p == shard.Loop {
		return n.w.between(0, 50*time.Microsecond)
	}
	if n.slowDisk && n.w.chance(5) {
		return n.w.between(0, 400*time.Millisecond)
	}
	return n.w.between(20*time.Microsecond, 500*time.Microsecond)
}

func (n *node) step(p shard.Part) {
	n.planned[p] = false
	if n.up() {
		n.guard(func() { n.drive.Step(p) })
		n.w.audit.look(n)
		if n.blinking && p == shard.Appender && n.w.chance(3) {
			n.crash("blinks")
			n.w.after(n.w.between(0, 5*time.Millisecond), "blink", n.start)
		}
		n.wake()
	}
}

// guard runs a part and ends the process where it must end.
func (n *node) guard(f func()) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		err := broken(p)
		switch {
		case err == nil:
			if _, ok := p.(finding); ok {
				panic(p)
			}
			n.w.note(string(debug.Stack()))
			n.w.find("%s panics: %v", n.id, p)
		case errors.Is(err, errCrash):
			n.crash("power")
		case fault.KindOf(err) == fault.Corrupt:
			n.w.count("damaged")
			n.w.note(fmt.Sprintf("%s: %v", n.id, err))
			n.crash("damaged: " + err.Error())
			n.replace()
			return
		case errors.Is(err, errDisk):
			n.crash(err.Error())
		default:
			n.w.find("%s: %w", n.id, err)
		}
		n.w.after(n.w.between(0, 3*time.Second), "restart", n.start)
	}()
	f()
}

// crash ends the process and takes away what the disk had not synced, or some of it.
func (n *node) crash(why string) {
	mode := n.w.rng.IntN(3)
	if c := n.w.cfg.Cut; c != nil {
		mode = c.Mode
	}
	n.lose(mode, why)
}

// lose ends the process, and with it what was not synced, as the mode says: see disk.
func (n *node) lose(mode int, why string) {
	if n.engine == nil {
		return
	}
	n.w.note(fmt.Sprintf("crash %s: %s", n.id, why))
	n.w.count("crash")
	n.tally()
	n.engine, n.drive, n.paused, n.since = nil, nil, false, n.w.now
	n.disk.crash(mode, n.w.rng)
	if n.w.chance(2) {
		n.missed()
	}
}

// missed has the others find out that nobody listens where the process was. It may run again by then.
func (n *node) missed() {
	for _, o := range n.w.alive() {
		if o != n {
			o.plan("misses "+string(n.id), n.w.between(0, 200*time.Millisecond), func() {
				if o.up() {
					o.worker.d.Gone(string(n.id))
					o.worker.poke()
				}
			})
		}
	}
}

// tally adds up what the process has done.
func (n *node) tally() {
	c, l := n.engine.Counts(), n.worker.d.Counts()
	for what, k := range map[string]uint64{
		"joint changes": c.Joint, "snapshots installed": c.Installed, "entries trimmed": c.Trimmed, "tails truncated": c.Truncated, "entries replayed": c.Replayed,
		"adopted": l.Adopted, "returned": l.Returned, "leases lost": l.Lost,
	} {
		n.w.stats[what] += int(k)
	}
}

// replace puts a new node in the place of one whose disk cannot be trusted.
func (n *node) replace() *node {
	if n.retired {
		return nil
	}
	n.crash("replaced")
	n.retired = true
	n.w.count("replaced")
	fresh := n.w.machine(n.machine)
	fresh.found(nil)
	n.w.after(n.w.between(0, 2*time.Second), "replace", fresh.start)
	return fresh
}

var errDisk = errors.New("the disk failed")

// fault decides what becomes of a disk operation.
func (n *node) fault(memory.Op) error {
	n.w.count("disk")
	if n.full {
		return errDisk
	}
	if n.crashAt > 0 {
		if n.crashAt--; n.crashAt == 0 {
			return errCrash
		}
	}
	return nil
}

// sink tells the auditor and the worker. Effects are hints: some get lost, and with the next leader they come again.
type sink struct{ n *node }

func (s sink) Lead(id shard.ID, term uint64, effects []machine.Effect) {
	s.n.w.audit.lead(s.n, id, term)
	s.n.worker.lead(id, term, s.heard(id, effects))
}

func (s sink) Applied(id shard.ID, term uint64, effects []machine.Effect) {
	if term != 0 {
		s.n.worker.applied(s.heard(id, effects))
	}
}

func (sink) Installed(shard.ID) {}

func (s sink) Yield(id shard.ID) {
	s.n.worker.d.Yield(uint32(id))
	s.n.worker.h.Yield(uint32(id))
}

// heard are the effects that do not get lost.
func (s sink) heard(id shard.ID, effects []machine.Effect) []machine.Effect {
	w := s.n.w
	if w.calm || len(effects) == 0 || w.cfg.Cut != nil || w.cfg.Off["effects"] || !w.chance(40) {
		return effects
	}
	w.count("effects dropped")
	s.n.plan("is told to hand over", w.between(0, 2*time.Second), func() { s.n.handOver(id) })
	return nil
}

// handOver sees to it that a shard gets another leader, or this one again.
func (n *node) handOver(id shard.ID) {
	s, ok := n.w.replica(n, id)
	if !ok || !s.Leading {
		return
	}
	all := s.Members.Replicas()
	n.engine.TransferLeader(id, all[n.w.rng.IntN(len(all))])
	n.wake()
	n.plan("is asked whether it handed over", time.Second, func() {
		if now, ok := n.w.replica(n, id); ok && now.Leading && now.Term == s.Term {
			n.handOver(id)
		}
	})
}
