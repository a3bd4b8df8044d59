package sim

import (
	"fmt"
	"time"

	"github.com/wattlehq/wattle/shard"
)

// kinds of what goes wrong. A run draws some of them, so that each also happens without the others.
var kinds = []struct {
	name string
	// every is how often it happens, on average.
	every time.Duration
	do    func(*world)
}{
	{"crash", 4 * time.Second, func(w *world) {
		n := w.pick()
		n.crash("killed")
		w.after(w.between(0, 3*time.Second), "restart", n.start)
	}},
	{"power", 4 * time.Second, func(w *world) { w.pick().crashAt = 1 + w.rng.IntN(20) }},
	{"blink", 4 * time.Second, func(w *world) {
		for _, n := range w.alive() {
			if w.chance(2) {
				n.blinking = true
				w.after(w.between(0, 3*time.Second), "blinked", func() { n.blinking = false })
			}
		}
	}},
	{"pause", 4 * time.Second, func(w *world) {
		n := w.pick()
		if n.engine == nil {
			return
		}
		n.paused, n.since = true, w.now
		n.plan("resume", w.between(0, 5*time.Second), n.resume)
	}},
	{"partition", 3 * time.Second, func(w *world) {
		alone := w.pick().machine
		both := w.chance(2)
		for _, n := range w.alive() {
			if n.machine != alone && !w.chance(4) {
				w.net.cut[[2]int{alone, n.machine}] = true
				if both {
					w.net.cut[[2]int{n.machine, alone}] = true
				}
			}
		}
		w.count("partition")
		w.after(w.between(0, 4*time.Second), "heal", func() { clear(w.net.cut) })
	}},
	{"wipe", 8 * time.Second, func(w *world) {
		if w.redundant() {
			w.pick().replace()
		}
	}},
	{"rot", 8 * time.Second, func(w *world) {
		n := w.pick()
		db := []string{"log", "state"}[w.rng.IntN(2)]
		if w.redundant() && n.disk.damage(db, w.rng) {
			n.rotten = true
			w.count("rot")
		}
	}},
	{"full", 6 * time.Second, func(w *world) {
		n := w.pick()
		n.full = true
		w.after(w.between(0, 3*time.Second), "room", func() { n.full = false })
	}},
	{"transfer", time.Second, func(w *world) {
		n := w.pick()
		if !n.up() {
			return
		}
		for _, s := range n.engine.Status() {
			if all := s.Members.Replicas(); s.Leading {
				// To two at once, so that they stand against each other.
				for range 1 + w.rng.IntN(2) {
					n.engine.TransferLeader(s.ID, all[w.rng.IntN(len(all))])
				}
				w.count("transfer")
			}
		}
		n.wake()
	}},
}

// faults plans what goes wrong.
func (w *world) faults() {
	if w.cfg.Cut != nil {
		return
	}
	for _, k := range kinds {
		if w.chance(2) || w.cfg.Off[k.name] {
			continue
		}
		w.note("with " + k.name)
		var again func()
		again = func() {
			if w.now < w.cfg.Faults {
				w.note(k.name)
				k.do(w)
				w.after(w.between(0, 2*k.every), "again", again)
			}
		}
		w.after(w.between(0, 2*k.every), "begin", again)
	}
	for _, f := range []struct {
		name string
		rate *int
	}{{"lose", &w.net.lose}, {"double", &w.net.double}, {"delay", &w.net.delay}} {
		if w.chance(2) && !w.cfg.Off[f.name] {
			*f.rate = 5 + w.rng.IntN(100)
			w.note(fmt.Sprintf("with %s: 1 in %d", f.name, *f.rate))
		}
	}
	for _, n := range w.alive() {
		if w.chance(4) && !w.cfg.Off["slow"] {
			n.slowDisk = true
		}
	}
	w.unlucky = w.chance(3) && !w.cfg.Off["unlucky"]
}

// changed strikes right after a change of members came to its end: all machines lose power, with all that was not synced, and one does
// not come back. What they remember of the change then is no more than what they are bound to.
func (w *world) changed(id shard.ID) {
	if w.calm || !w.unlucky || !w.chance(3) {
		return
	}
	strike := func() {
		if w.intact(id) {
			w.pick().replace()
		}
		for _, n := range w.alive() {
			n.lose(0, "bad luck")
			w.after(w.between(0, time.Second), "restart", n.start)
		}
	}
	// Only where one replica takes the place of another that is there: while there are fewer than wanted, none can be spared, and those
	// who remember nothing but the change on its way need a quorum of what was before as well.
	replaces := false
	var wait func()
	wait = func() {
		if l, ok := w.leader(id); ok && !w.calm {
			if !l.Members.Joint() && !replaces {
				return
			}
			voters := 0
			for _, r := range l.Members.Replicas() {
				if n := w.node(l.Members.Node(r)); l.Members.Voter(r) && n != nil && !n.retired && !n.rotten {
					voters++
				}
			}
			if replaces = replaces || voters > w.want && l.Members.Before() >= w.want; !l.Members.Joint() {
				w.after(w.between(0, 4*time.Millisecond), "bad luck", strike)
				return
			}
			w.after(200*time.Microsecond, "bad luck waits", wait)
		}
	}
	wait()
}

// heal ends everything that goes wrong.
func (w *world) heal() {
	w.note("all is well")
	w.calm = true
	clear(w.net.cut)
	w.net.lose, w.net.double, w.net.delay = 0, 0, 0
	for _, n := range w.alive() {
		n.slowDisk, n.full, n.blinking, n.crashAt = false, false, false, 0
		n.resume()
		n.start()
	}
}
