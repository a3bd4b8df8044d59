package host

import (
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// finder calls visit with the runs of pages in b that are in memory and not a file's, as offsets into b and in order,
// until that answers false.
type finder func(b []byte, visit func(from, to uint64) bool) error

// dirty answers the best finder the kernel has, or nil where it has none.
var dirty = sync.OnceValue(func() finder {
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil
	}
	p := &pagemap{f}
	for _, way := range []finder{p.scan, p.read} {
		if finds(way) {
			return way
		}
	}
	_ = f.Close() // it was only read
	return nil
})

// finds tries it where the answer is known: sandboxed kernels may open the file and not tell the truth.
func finds(way finder) bool {
	const pages = 4
	content := make([]byte, pages*osPage)
	for i := range content {
		content[i] = 1
	}
	img, err := newImage(content, nil, false)
	if err != nil {
		return false
	}
	defer img.free()
	all, err := unix.Mmap(img.file.fd, 0, len(content), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		return false
	}
	defer unix.Munmap(all) //nolint:errcheck // it answered the range itself
	_ = all[0]
	all[osPage], all[3*osPage] = 2, all[2*osPage]+1
	var found []uint64
	err = way(all, func(from, to uint64) bool {
		found = append(found, from, to)
		return true
	})
	return err == nil && len(found) == 4 && found[0] == osPage && found[1] == 2*osPage && found[2] == 3*osPage && found[3] == 4*osPage
}

type pagemap struct{ file *os.File }

// What linux/fs.h says of PAGEMAP_SCAN, in Linux since 6.7.
const (
	pagemapScan   = 0xc0606610
	pageIsFile    = 1 << 2
	pageIsPresent = 1 << 3
	pageIsSwapped = 1 << 4
)

type scanArg struct {
	size, flags, start, end, walkEnd, vec, vecLen, maxPages     uint64
	categoryInverted, categoryMask, categoryAnyOf, returnedMask uint64
}

type pageRegion struct{ start, end, _ uint64 }

// scratch is what one question to the kernel needs. It is on the heap, since the kernel is given addresses as numbers.
type scratch struct {
	arg     scanArg
	regions [64]pageRegion
	entries [512]uint64
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// scan asks for the runs alone. It looks at page tables only where there are any.
func (p *pagemap) scan(b []byte, visit func(from, to uint64) bool) error {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	base := uint64(uintptr(unsafe.Pointer(&b[0])))
	arg := &s.arg
	*arg = scanArg{
		size: uint64(unsafe.Sizeof(scanArg{})), start: base, end: base + uint64(len(b)),
		vec: uint64(uintptr(unsafe.Pointer(&s.regions))), vecLen: uint64(len(s.regions)),
		categoryInverted: pageIsFile, categoryMask: pageIsFile, categoryAnyOf: pageIsPresent | pageIsSwapped,
		returnedMask: pageIsPresent,
	}
	for arg.start < arg.end {
		n, _, errno := unix.RawSyscall(unix.SYS_IOCTL, p.file.Fd(), pagemapScan, uintptr(unsafe.Pointer(arg)))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		for _, r := range s.regions[:n] {
			if !visit(r.start-base, r.end-base) {
				return nil
			}
		}
		if arg.walkEnd <= arg.start {
			return io.ErrNoProgress
		}
		arg.start = arg.walkEnd
	}
	return nil
}

// read goes through an entry of 8 bytes for each page: bit 63 means present, 62 swapped out, 61 a file's.
func (p *pagemap) read(b []byte, visit func(from, to uint64) bool) error {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	buf := unsafe.Slice((*byte)(unsafe.Pointer(&s.entries)), int(unsafe.Sizeof(s.entries)))
	first := int64(uintptr(unsafe.Pointer(&b[0])) / osPage)
	from, to := uint64(0), uint64(0) // the run so far
	for at, pages := 0, len(b)/osPage; at < pages; {
		n, err := p.file.ReadAt(buf[:8*min(len(s.entries), pages-at)], (first+int64(at))*8)
		if n < 8 {
			return err
		}
		for _, e := range s.entries[:n/8] {
			if page := uint64(at) * osPage; e>>62 != 0 && e>>61&1 == 0 {
				if to != page {
					if to > from && !visit(from, to) {
						return nil
					}
					from = page
				}
				to = page + osPage
			}
			at++
		}
	}
	if to > from {
		visit(from, to)
	}
	return nil
}

// pageFaults counts those of the calling thread so far. A page that the kernel copies for it, in whatever way it wrote to it, is one.
func pageFaults() (n uint64, ok bool) {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0, false
	}
	return uint64(u.Minflt) + uint64(u.Majflt), true
}
