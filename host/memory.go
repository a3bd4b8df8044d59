package host

import (
	"github.com/tetratelabs/wazero/experimental"
)

// guestMemory is the linear memory of one call. It bounds and counts what wazero asks for, and is freed by the call
// and not by wazero alone: wazero forgets to when a start function fails or when a trap and a deadline meet.
type guestMemory struct {
	limit    uint64
	portable bool // take memory from the Go heap even where the system offers better
	peak     uint64
	refused  uint64 // the size last refused for the limit, 0 if none
	failed   uint64 // the size that the system could not give, 0 if none
	buffers  []linear
}

// linear is memory that grows in place where it can. Bytes beyond its length are never visible to the guest.
type linear interface {
	// grow makes it size bytes long, or answers nil when there is no memory.
	grow(size uint64) []byte
	free()
}

// Allocate implements experimental.MemoryAllocator.
func (m *guestMemory) Allocate(_, most uint64) experimental.LinearMemory {
	l := m.reserve(min(most, roundToPage(m.limit)))
	m.buffers = append(m.buffers, l)
	return &boundedMemory{owner: m, linear: l}
}

func (m *guestMemory) reserve(size uint64) linear {
	if !m.portable {
		if l := newMapped(size); l != nil {
			return l
		}
	}
	return &heapMemory{}
}

func (m *guestMemory) free() {
	for _, b := range m.buffers {
		b.free()
	}
	m.buffers = nil
}

const wasmPage = 1 << 16

func roundToPage(n uint64) uint64 { return n / wasmPage * wasmPage }

type boundedMemory struct {
	owner  *guestMemory
	linear linear
}

// Reallocate implements experimental.LinearMemory. nil makes memory.grow answer -1, as the standard has it; for a
// module's first memory wazero would panic, which is why modules are checked for that before.
func (b *boundedMemory) Reallocate(size uint64) []byte {
	if size > b.owner.limit {
		b.owner.refused = size
		return nil
	}
	buf := b.linear.grow(size)
	if buf == nil {
		b.owner.failed = size
		return nil
	}
	b.owner.peak = max(b.owner.peak, size)
	return buf
}

// Free implements experimental.LinearMemory.
func (b *boundedMemory) Free() { b.linear.free() }

// heapMemory is the fallback in plain Go.
type heapMemory struct{ buf []byte }

func (h *heapMemory) grow(size uint64) []byte {
	if h.buf != nil && size <= uint64(cap(h.buf)) {
		// Bytes between the old length and cap were made zero and never handed out: memory does not shrink.
		h.buf = h.buf[:size]
		return h.buf
	}
	next := make([]byte, size, size+size/4)
	copy(next, h.buf)
	h.buf = next
	return h.buf
}

func (h *heapMemory) free() { h.buf = nil }
