package host

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const osPage = 1 << 12 // the kernel's smallest; larger ones only make the answers coarser

// copiedPages is how many pages a region keeps and copies back after each call. A page that a call wrote to once is
// copied from then on, which is cheaper than the fault that taking it away would cost the next call; with more of
// them than this, calls hardly need them all.
const copiedPages = 512

// mapped reserves address space for the most a memory may become and makes it accessible as it grows, so that
// growing copies nothing and garbage collection never sees it. Once it has an image, its pages are those of the
// image's file until they are written to.
type mapped struct {
	all  []byte
	open uint64 // accessible
	used uint64 // up to where it may have pages of its own
	img  *image

	own    []run // the pages of its own, as of the last restore
	pages  uint64
	stable bool // those of the one before it were the same
}

// run is a stretch of pages, as offsets into the memory.
type run struct{ from, to uint64 }

// newMapped answers nil where the system refuses.
func newMapped(size uint64) region {
	if size == 0 || os.Getpagesize() != osPage || dirty() == nil {
		return nil
	}
	all, err := unix.Mmap(-1, 0, int(size), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	// With huge pages one written byte would look like two megabytes of them. A kernel without them says no.
	_ = unix.Madvise(all, unix.MADV_NOHUGEPAGE)
	return &mapped{all: all}
}

func (m *mapped) bytes(size uint64) []byte { return m.all[:size:size] }

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

func (m *mapped) adopt(img *image) error {
	size := uint64(len(img.memory))
	if size > 0 {
		_, err := unix.MmapPtr(img.file.fd, 0, unsafe.Pointer(&m.all[0]), uintptr(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_FIXED)
		if err != nil {
			return err
		}
	}
	m.img = img
	// Beyond the file the image is zero: so are fresh pages.
	if rest := m.all[size:m.open]; len(rest) > 0 {
		return unix.Madvise(rest, unix.MADV_DONTNEED)
	}
	return nil
}

// restore copies back the pages that are the region's own: once a page of a private mapping of a file was written to, it
// is no longer the file's. Beyond the image, where calls grow, any page in memory is.
func (m *mapped) restore(size uint64, quiet bool) (uint64, error) {
	if m.used = max(m.used, size); m.used == 0 {
		return 0, nil
	}
	if !quiet {
		if err := m.find(); err != nil {
			return 0, err
		}
	}
	if m.pages > copiedPages {
		m.own, m.pages, m.stable = m.own[:0], 0, false
		err := unix.Madvise(m.all[:m.used], unix.MADV_DONTNEED)
		m.used = m.img.length
		return 0, err
	}
	file := uint64(len(m.img.memory))
	for _, r := range m.own {
		if r.from < file {
			end := min(r.to, file)
			copy(m.all[r.from:end], m.img.memory[r.from:end])
			r.from = end
		}
		clear(m.all[r.from:r.to])
	}
	return m.pages * osPage, nil
}

// find looks for the pages that are the region's own, until there are too many to copy.
func (m *mapped) find() error {
	before := m.pages
	m.own, m.pages = m.own[:0], 0
	err := dirty()(m.all[:m.used], func(from, to uint64) bool {
		m.own = append(m.own, run{from, to})
		m.pages += (to - from) / osPage
		return m.pages <= copiedPages
	})
	// Pages only come to be a region's own, so that as many as before are the same ones.
	m.stable = m.pages == before
	return err
}

func (m *mapped) settled() bool { return m.stable }

func (m *mapped) free() {
	if m.all != nil {
		// Munmap fails only for ranges that Mmap did not answer.
		_ = unix.Munmap(m.all)
	}
	*m = mapped{}
}

// imageFile is a file without a name that holds an image's memory. Pages of zeros are holes in it.
type imageFile struct {
	fd     int
	shared []byte
}

func (f *imageFile) free() {
	if f.shared != nil {
		_ = unix.Munmap(f.shared)
	}
	_ = unix.Close(f.fd)
}

// newImage copies memory, the contents of an instance, into an image.
func newImage(memory []byte, globals []uint64, portable bool) (*image, error) {
	if portable || len(memory) == 0 {
		return portableImage(memory, globals), nil
	}
	fd, err := unix.MemfdCreate("wattle-image", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	img := &image{length: uint64(len(memory)), globals: globals, file: &imageFile{fd: fd}}
	end := 0
	for at := 0; at < len(memory); at += osPage {
		page := memory[at : at+osPage]
		if isZero(page) {
			continue
		}
		if _, err := unix.Pwrite(fd, page, int64(at)); err != nil {
			img.free()
			return nil, err
		}
		end = at + osPage
	}
	if end > 0 {
		if img.file.shared, err = unix.Mmap(fd, 0, end, unix.PROT_READ, unix.MAP_SHARED); err != nil {
			img.free()
			return nil, err
		}
		img.memory = img.file.shared
	}
	return img, nil
}

var zeros [osPage]byte

func isZero(page []byte) bool { return string(page) == string(zeros[:]) }
