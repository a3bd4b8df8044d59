//go:build unix

package host

import "golang.org/x/sys/unix"

// mapped reserves address space for the most a memory may become and makes it accessible as it grows, so that
// growing copies nothing and garbage collection never sees it.
type mapped struct {
	all  []byte
	open uint64
}

// newMapped answers nil where the system refuses.
func newMapped(size uint64) linear {
	if size == 0 {
		return nil
	}
	all, err := unix.Mmap(-1, 0, int(size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil
	}
	return &mapped{all: all}
}

func (m *mapped) grow(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	if size > m.open {
		if unix.Mprotect(m.all[m.open:size], unix.PROT_READ|unix.PROT_WRITE) != nil {
			return nil
		}
		m.open = size
	}
	return m.all[:size:size]
}

func (m *mapped) free() {
	if m.all == nil {
		return
	}
	// Munmap fails only for ranges that Mmap did not answer.
	_ = unix.Munmap(m.all)
	m.all, m.open = nil, 0
}
