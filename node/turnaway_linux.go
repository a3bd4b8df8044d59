package node

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// turnAwayTime is how long connections that were about to be made when turnAway was called may take to be there: a round trip, or
// nothing within this machine.
func turnAwayTime(addr string) time.Duration {
	if isLoopback(addr) {
		return time.Millisecond
	}
	return 200 * time.Millisecond
}

// turnAwayPatience is how long those may take to be accepted.
const turnAwayPatience = 2 * time.Second

// turnAway has the kernel begin no new connections, and returns when those that were begun are handed out. A listener that is closed
// resets those, although their clients have been told that they are connected, and may have sent a request. Who is turned away tries
// again a second later, and is refused then.
func turnAway(l net.Listener) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	// Of the packets for this port, drop those with SYN and without ACK: their flags are in the 14th byte.
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: 13},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: 0x12},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: 0x02, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff},
	}
	waiting := func() (n uint32) {
		_ = raw.Control(func(fd uintptr) {
			// Of a listener this is the number of connections that are made and not accepted.
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				n = info.Unacked
			}
		})
		return n
	}
	_ = raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	})
	if err != nil {
		return
	}
	patience := time.Now().Add(turnAwayPatience)
	for wait := turnAwayTime(l.Addr().String()); ; {
		if time.Sleep(wait); waiting() == 0 || time.Now().After(patience) {
			return
		}
	}
}
