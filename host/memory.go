package host

import (
	"runtime"

	"github.com/tetratelabs/wazero/experimental"
)

const (
	wasmPage = 1 << 16
	// maxMemory is what 32-bit addresses reach, but for the last page: with it wazero's sizes would be 0.
	maxMemory = 1<<32 - wasmPage
)

// guestMemory is the linear memory of one instance. It bounds and counts what wazero asks for, for one call at a time,
// and is freed by its instance and not by wazero alone: wazero forgets to when a start function fails.
type guestMemory struct {
	budget   *budget
	portable bool // take memory from the Go heap even where the system offers better
	region   region
	size     uint64 // as the guest sees it
	charged  uint64 // to the budget, for what the call that runs can reach
	kept     uint64 // charged for the pages that stay between calls
	watched  bool   // the goroutine is bound to its thread, whose page faults are counted
	faults   uint64 // of the thread when that began

	// Of the call that runs now:
	limit   uint64
	peak    uint64
	refused uint64 // the size last refused for the limit, 0 if none
	failed  uint64 // the size that the node could not give, 0 if none
}

// region is memory that grows and can be put back to a snapshot. Bytes beyond its length are never visible to the guest.
type region interface {
	// grow makes it size bytes long, or answers nil when there is no memory.
	grow(size uint64) []byte
	// adopt makes img what restore goes back to. The region holds those very bytes.
	adopt(img *image) error
	// restore puts the size bytes back that the guest sees, and answers how many bytes of its own the region keeps.
	// Bytes beyond the image are zero and out of the guest's reach when it grows again. quiet says that no page
	// has become the region's own since the last restore.
	restore(size uint64, quiet bool) (kept uint64, err error)
	// settled tells whether calls seem to need no further pages.
	settled() bool
	// bytes answers the first size bytes.
	bytes(size uint64) []byte
	free()
}

// begin prepares for a call.
func (m *guestMemory) begin(limit uint64) {
	m.limit, m.peak, m.refused, m.failed = limit, m.size, 0, 0
}

// watch begins to watch whether a call needs pages that the region does not have: none comes without a page fault of
// the thread that runs the call. Asking how many there were is cheaper than to ask which pages are there, and contends for nothing.
// It binds the goroutine to its thread until unwatch.
func (m *guestMemory) watch() {
	if m.region == nil || !m.region.settled() {
		return
	}
	runtime.LockOSThread()
	var ok bool
	if m.faults, ok = pageFaults(); !ok {
		runtime.UnlockOSThread()
		return
	}
	m.watched = true
}

// quiet ends watching, and tells whether there was no fault.
func (m *guestMemory) quiet() bool {
	if !m.watched {
		return false
	}
	now, ok := pageFaults()
	m.unwatch()
	return ok && now == m.faults
}

// unwatch gives up watching: before a call waits, which another thread may end, or where it takes long anyway.
func (m *guestMemory) unwatch() {
	if m.watched {
		m.watched = false
		runtime.UnlockOSThread()
	}
}

// Allocate implements experimental.MemoryAllocator.
func (m *guestMemory) Allocate(_, most uint64) experimental.LinearMemory {
	if !m.portable {
		m.region = newMapped(min(most, maxMemory))
	}
	if m.region == nil {
		m.region = &heapRegion{buf: []byte{}}
	}
	return m
}

// Reallocate implements experimental.LinearMemory. nil makes memory.grow answer -1, as the standard has it; for a
// module's first memory wazero would panic, which is why modules are checked for that before.
func (m *guestMemory) Reallocate(size uint64) []byte {
	if size <= m.size { // a memory that was shrunk, on its way back
		return m.region.bytes(size)
	}
	if size > m.limit {
		m.refused = size
		return nil
	}
	if size > m.charged {
		if !m.budget.take(size - m.charged) {
			m.failed = size
			return nil
		}
		m.charged = size
	}
	b := m.region.grow(size)
	if b == nil {
		m.failed = size
		return nil
	}
	m.size = size
	m.peak = max(m.peak, size)
	return b
}

// Free implements experimental.LinearMemory; see release.
func (m *guestMemory) Free() {}

// mapped tells whether images can be mapped into it.
func (m *guestMemory) mapped() bool {
	_, heap := m.region.(*heapRegion)
	return m.region != nil && !heap
}

// keep ends a call that leaves so many bytes of pages, and answers what the budget gets back. It may be short of what
// stays, which is charged regardless.
func (m *guestMemory) keep(n uint64) (back uint64) {
	back = m.charged + m.kept
	m.charged, m.kept = 0, n
	if n > back {
		m.budget.used.Add(n - back)
		return 0
	}
	return back - n
}

// release frees the memory. What it was charged with is for its slot to give back.
func (m *guestMemory) release() {
	if m.region != nil {
		m.region.free()
		m.region = nil
	}
	m.size, m.charged, m.kept = 0, 0, 0
}

// image is what a module's memory and globals hold once it is initialised. It does not change.
type image struct {
	memory  []byte // without the zeros at its end
	length  uint64 // with them
	globals []uint64
	file    *imageFile // where regions can map the memory from; nil in portable memory
}

// held is what it takes.
func (i *image) held() uint64 { return uint64(len(i.memory)) }

func (i *image) free() {
	if i.file != nil {
		i.file.free()
	}
	i.memory, i.file = nil, nil
}

// heapRegion is the fallback in plain Go: it is put back by copying all of it.
type heapRegion struct {
	buf []byte
	img *image
}

func (h *heapRegion) bytes(size uint64) []byte { return h.buf[:size:size] }

func (h *heapRegion) grow(size uint64) []byte {
	if size > uint64(cap(h.buf)) {
		next := make([]byte, size, size+size/4)
		copy(next, h.buf)
		h.buf = next
	}
	// Bytes between the old length and cap are zero: they were never handed out, or restore cleared them.
	h.buf = h.buf[:size]
	return h.buf[:size:size]
}

func (h *heapRegion) adopt(img *image) error {
	h.img = img
	return nil
}

func (h *heapRegion) settled() bool { return false }

func (h *heapRegion) restore(size uint64, _ bool) (uint64, error) {
	n := h.img.length
	clear(h.buf[copy(h.buf, h.img.memory):size])
	h.buf = h.buf[:n]
	return n, nil
}

func (h *heapRegion) free() { h.buf, h.img = nil, nil }

func portableImage(memory []byte, globals []uint64) *image {
	return &image{memory: append([]byte(nil), memory...), length: uint64(len(memory)), globals: globals}
}
