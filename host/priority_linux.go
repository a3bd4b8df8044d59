package host

import (
	"runtime"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// turnNice is how nice a thread is while a guest computes on it for long.
	turnNice = 10
	// turnSlice is what it asks the system for at a time, in nanoseconds; the most there is. Since Linux 6.12 threads that
	// ask for less, as all others do, need not wait until it is used up.
	turnSlice = 100_000_000
)

// lowerPriority has the calling goroutine's thread give way to others until restorePriority: requests shall not wait for
// guests. The goroutine is bound to its thread meanwhile.
func lowerPriority() {
	runtime.LockOSThread()
	if p := basePriority(); p.known {
		setPriority(p.nice+p.more, turnSlice)
	}
}

func restorePriority() {
	if p := basePriority(); p.known {
		setPriority(p.nice, 0)
	}
	runtime.UnlockOSThread()
}

type priority struct {
	known      bool // the process has the system's usual policy
	nice, more int32
}

// basePriority is the process's niceness, and by how much it may be more for a while: a thread that may not become less nice
// again must not become nicer.
var basePriority = sync.OnceValue(func() (p priority) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never undone: the thread ends with the goroutine, whatever its niceness is then
		attr := unix.SchedAttr{Size: unix.SizeofSchedAttr}
		_, _, errno := unix.RawSyscall6(unix.SYS_SCHED_GETATTR, 0, uintptr(unsafe.Pointer(&attr)), unix.SizeofSchedAttr, 0, 0, 0)
		if errno != 0 || attr.Policy != unix.SCHED_NORMAL {
			return
		}
		p.known, p.nice = true, attr.Nice
		if setPriority(p.nice+turnNice, 0) && setPriority(p.nice, 0) {
			p.more = turnNice
		}
	}()
	<-done
	return p
})

// setPriority tells whether the system let the thread have it; a slice of 0 is the system's own.
func setPriority(nice int32, slice uint64) bool {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL, Nice: nice, Runtime: slice}
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETATTR, 0, uintptr(unsafe.Pointer(&attr)), 0)
	return errno == 0
}
