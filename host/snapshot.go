package host

import "context"

// prepare starts the module of e once, asks it what it offers, and takes the snapshot that all calls begin with.
func (h *Host) prepare(ctx context.Context, e *entry) error {
	e.classify()
	e.weigh()
	if !h.budget.take(e.need()) {
		return h.budget.exhausted(e.need())
	}
	s, err := h.newSlot(e, true, nil)
	if err != nil {
		return notValid(err)
	}
	limits := startLimits.Or(h.config.Defaults)
	limits.Memory = max(limits.Memory, e.module.MinMemory)
	limits.Timeout = min(limits.Timeout, h.config.Defaults.Timeout)
	if err = s.initialize(ctx, &Call{Function: "_initialize"}, limits); err == nil {
		err = h.describe(ctx, e, s, limits)
	}
	e.info.Memory = e.reach()
	if err != nil || e.info.Fresh != "" {
		s.close()
		e.point()
		return err
	}
	e.point()
	if err := h.capture(e, s); err != nil {
		s.close()
		return err
	}
	e.info.Memory = e.reach()
	h.putBack(s)
	return nil
}

// capture takes the snapshot of s, which becomes the first slot.
func (h *Host) capture(e *entry, s *slot) error {
	var memory []byte
	if s.memory.region != nil {
		memory = s.memory.region.bytes(s.memory.size)
	}
	img, err := newImage(memory, s.instance.globals(), !s.memory.mapped())
	if err != nil {
		return err
	}
	if !h.budget.take(img.held()) {
		img.free()
		return h.budget.exhausted(img.held())
	}
	e.image, s.fresh = img, false
	return s.adopt(img)
}
