package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// client makes requests, one at a time.
type client struct {
	w  *world
	id int
	// idle tells that it has its answer and wants nothing more.
	idle bool
	// turn tells answers to what it asks now from late ones.
	turn int
}

func (c *client) waits() bool { return !c.idle }

// clients are of some of the kinds there are, some of each.
func (w *world) clients() {
	id := 0
	begin := func(kind string, n int, make func(c client) (next func(), waits func() bool)) {
		for range n {
			if id++; w.cfg.Off[kind] {
				continue
			}
			next, waits := make(client{w: w, id: id})
			w.audit.clients = append(w.audit.clients, waits)
			w.after(w.between(0, time.Second), "client", next)
		}
	}
	begin("lists", 1+w.rng.IntN(4), func(c client) (func(), func() bool) {
		l := &lister{client: c, slot: machine.Slot(w.rng.IntN(3) * machine.Slots / 3)}
		return l.next, l.waits
	})
	begin("aliases", w.rng.IntN(3), func(c client) (func(), func() bool) {
		p := &pusher{client: c, numbers: map[uint64]string{}}
		return p.next, p.waits
	})
	begin("jobs", w.rng.IntN(4), func(c client) (func(), func() bool) {
		s := &submitter{client: c}
		return s.next, s.waits
	})
	begin("jobs", 1+w.rng.IntN(3), func(c client) (func(), func() bool) {
		o := &outsider{client: c}
		return o.next, func() bool { return o.task != nil }
	})
}

// pause is how long a client thinks, or waits before it asks again.
func (c *client) pause() time.Duration { return c.w.between(time.Millisecond, 200*time.Millisecond) }

// ask sends a request to some node, again and again until one answers; then comes next. Answers that come late are of no use.
func (c *client) ask(what string, next func(), request func(n *node, done func(error))) {
	c.turn++
	turn := c.turn
	again := func() {
		if c.turn == turn {
			c.ask(what, next, request)
		}
	}
	n := c.w.pick()
	if !n.up() {
		c.w.after(c.pause(), what+" elsewhere", again)
		return
	}
	c.w.after(c.w.between(2*time.Second, 4*time.Second), what+" timeout", again)
	n.guard(func() {
		request(n, func(err error) {
			if c.turn != turn {
				return
			}
			c.turn++
			if err != nil {
				turn = c.turn
				c.w.after(c.pause(), fmt.Sprintf("%s: %v", what, err), again)
				return
			}
			c.w.after(c.pause(), what+" done", next)
		})
	})
	n.wake()
}

// lister is a client that adds numbers to a list and reads it.
type lister struct {
	client
	slot machine.Slot
	sent uint64
}

func (c *lister) next() {
	if c.w.now >= c.w.cfg.Faults {
		c.idle = true
		return
	}
	if c.w.chance(3) {
		c.read(c.w.audit.known(c.slot))
		return
	}
	c.sent++
	c.add(uint64(c.id+1)<<32 | c.sent)
}

func (c *lister) add(v uint64) {
	c.ask(fmt.Sprintf("client %d adds %x", c.id, v), c.next, func(n *node, done func(error)) {
		c.w.audit.asked(c.slot, v)
		n.drive.Propose(shard.Proposal{Slot: c.slot, Machine: listsID, Body: binary.BigEndian.AppendUint64(nil, v)}, func(r machine.Result, err error) {
			if err == nil {
				c.w.audit.added(c.slot, v, number(r.Value))
			}
			done(err)
		})
	})
}

// read reads a list that was known to be so long when it began to.
func (c *lister) read(least uint64) {
	c.ask(fmt.Sprintf("client %d reads", c.id), c.next, func(n *node, done func(error)) {
		var got []uint64
		n.drive.Read(c.slot, listsID, func(r machine.Reader) error {
			got = list(r)
			return nil
		}, func(err error) {
			if err == nil {
				c.w.audit.read(n, c.slot, least, got)
			}
			done(err)
		})
	})
}
