package sim

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/shard"
)

// client adds numbers to a list and reads it, one request at a time. It asks one node after another until it is answered.
type client struct {
	w    *world
	id   int
	slot machine.Slot
	sent uint64
	// idle tells that it has its answer and wants nothing more.
	idle bool
	// turn tells answers to what it asks now from late ones.
	turn int
}

func (w *world) clients() {
	for i := range 3 + w.rng.IntN(4) {
		c := &client{w: w, id: i, slot: machine.Slot(w.rng.IntN(3) * machine.Slots / 3)}
		w.audit.clients = append(w.audit.clients, c)
		w.after(w.between(0, time.Second), "client", c.next)
	}
}

// next begins another request.
func (c *client) next() {
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

// pause is how long a client thinks, or waits before it asks again.
func (c *client) pause() time.Duration { return c.w.between(time.Millisecond, 200*time.Millisecond) }

// ask sends a request to some node, again and again until one answers. Answers that come late are of no use to it.
func (c *client) ask(what string, request func(n *node, done func(error))) {
	c.turn++
	turn := c.turn
	again := func() {
		if c.turn == turn {
			c.ask(what, request)
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
			if err != nil {
				c.turn++
				turn = c.turn
				c.w.after(c.pause(), fmt.Sprintf("%s: %v", what, err), again)
				return
			}
			c.turn++
			c.w.after(c.pause(), what+" done", c.next)
		})
	})
	n.wake()
}

func (c *client) add(v uint64) {
	c.ask(fmt.Sprintf("client %d adds %x", c.id, v), func(n *node, done func(error)) {
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
func (c *client) read(least uint64) {
	c.ask(fmt.Sprintf("client %d reads", c.id), func(n *node, done func(error)) {
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
