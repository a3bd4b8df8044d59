package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// slot is an instance that runs one call after another, each from the state of the module's image. A fresh one runs one
// call only.
type slot struct {
	entry    *entry
	fresh    bool // for one call only
	instance instance
	memory   guestMemory
	running  running
}

// newSlot makes an instance of e whose state is that of its image; when it is to be fresh, nothing has run in it. The budget has
// been charged with e.need() for it.
func (h *Host) newSlot(e *entry, fresh bool, mounts []Mount) (*slot, error) {
	s := &slot{entry: e, fresh: fresh}
	s.memory = guestMemory{budget: &h.budget, portable: h.config.portableMemory, charged: e.reach()}
	s.memory.begin(maxMemory)
	c := &s.running
	c.turns, c.memory, c.abi = &h.turns, &s.memory, e.info.ABI
	c.stdout = printed{level: LevelInfo, to: &c.log, in: &c.in, cost: c.charge}
	c.stderr = printed{level: LevelInfo, to: &c.log, in: &c.in, also: &c.words, cost: c.charge}
	c.files = len(mounts) > 0
	i, err := e.program.instantiate(c, &s.memory, mounts)
	if err != nil {
		s.close()
		return nil, err
	}
	s.instance, c.instance = i, i
	if img := e.image; !fresh {
		if err := s.adopt(img); err != nil {
			s.close()
			return nil, fmt.Errorf("bring an instance to its snapshot: %w", err)
		}
	}
	return s, nil
}

func (s *slot) adopt(img *image) error {
	if !s.instance.resize(img.length) {
		return errors.New("its memory does not reach the snapshot's size")
	}
	if img.length > 0 {
		if err := s.memory.region.adopt(img); err != nil {
			return err
		}
		if _, err := s.memory.region.restore(img.length, false); err != nil {
			return err
		}
	}
	s.instance.setGlobals(img.globals)
	return nil
}

// reset brings the slot back to its image. An error means that it cannot be used again.
func (s *slot) reset() error {
	img, kept, quiet := s.entry.image, uint64(0), s.memory.quiet()
	if s.memory.region != nil {
		var err error
		if kept, err = s.memory.region.restore(s.memory.size, quiet); err != nil {
			return err
		}
		if s.memory.size > img.length && !s.instance.resize(img.length) {
			return errors.New("its memory cannot shrink")
		}
		s.memory.size = img.length
	}
	s.instance.setGlobals(img.globals)
	s.instance.trim()
	s.memory.budget.give(s.memory.keep(kept))
	return s.verify()
}

// close frees the slot and gives what it held of the budget back.
func (s *slot) close() {
	s.memory.unwatch()
	s.memory.budget.give(s.free())
	s.running.endTurn()
}

// free frees the slot and answers what it held of the budget.
func (s *slot) free() (held uint64) {
	if s.instance != nil {
		s.instance.close()
	}
	held = s.entry.weight + s.memory.charged + s.memory.kept
	s.memory.release()
	return held
}

// run runs one export under limits that have no zero fields. A turn that the guest got goes on until the slot is put back, which takes
// time as well after a call that wrote much.
func (s *slot) run(ctx context.Context, call *Call, limits Limits, export string) (Stats, error) {
	start := time.Now()
	c := &s.running
	c.begin(ctx, call, limits, start)
	s.memory.begin(min(limits.Memory, maxMemory))
	s.instance.setFuel(int64(c.granted))
	if !s.fresh {
		s.memory.watch()
	}
	r := s.enter(export)
	if !c.long {
		c.turns.ended(start)
	}
	if c.abi == abiExtism {
		c.extismEnd(r)
	}
	s.memory.budget.give(c.extra)
	c.extra = 0
	c.stdout.flush()
	c.stderr.flush()
	stats := Stats{
		Duration: time.Since(start), PeakMemory: s.memory.peak, OutputBytes: c.output,
		Fuel: uint64(int64(c.granted) - s.instance.fuel()), LogDropped: c.log.full,
	}
	err := c.judge(r)
	c.call, c.ctx, c.input.in = nil, nil, nil
	return stats, err
}

// enter calls an export with what it is called with.
func (s *slot) enter(export string) (r ran) {
	c := &s.running
	switch export {
	case "__guest_call":
		defer func() {
			if p := recover(); p == errStopped { // by whole, outside of the guest
				r = ran{err: errStopped}
			} else if p != nil {
				panic(p)
			}
		}()
		r = s.instance.call(export, uint64(len(c.function)), uint64(len(c.whole())))
		switch { // 1 means success
		case r.err != nil || r.exited:
		case r.status == 1:
			r.status = statusDone
		default:
			r.status = statusFailed
		}
		return r
	case "hs_init":
		return s.instance.call(export, 0, 0)
	}
	return s.instance.call(export)
}

// initialize runs what a module runs before its first call.
func (s *slot) initialize(ctx context.Context, call *Call, limits Limits) error {
	for _, export := range s.entry.starts {
		first := *call
		first.Input, first.Output, first.Emit = nil, nil, nil
		if _, err := s.run(ctx, &first, limits, export); err != nil {
			f := fault.As(err)
			if f == nil || f.Kind != fault.Trap && f.Kind != fault.Limit {
				return err
			}
			g := *f
			g.Message = "the module's start failed: " + f.Message
			return &g
		}
	}
	return nil
}
