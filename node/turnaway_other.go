//go:build !linux

package node

import "net"

// turnAway does nothing: where the kernel cannot be told, a connection that is begun while the listener is closed may be reset.
func turnAway(net.Listener) {}
