// Package abi is what lies between a guest and its host: the host's functions as an interface, with the real host
// behind it in WebAssembly and a stand-in of guesttest's everywhere else. It gives nothing to the authors of guests.
package abi

// Host is one call as the guest sees it. docs/abi.md of Wattle says what the methods do.
type Host interface {
	InputLen() int64
	InputRead(p []byte, off int64) int
	OutputWrite(p []byte)
	ErrorWrite(p []byte)
	Log(level int32, line []byte)
	Emit(batch []byte)
	// Context and Function are operations of host_call.
	Context() []byte
	Function() string
	// Ask makes any other request with host_call: code is what that answers, and reply is there unless it is -1.
	Ask(op uint32, request []byte) (reply []byte, code int64)
}

// Operations of host_call.
const (
	OpConfig   = 5
	OpSecret   = 6
	OpHTTP     = 7
	OpCall     = 8
	OpCacheGet = 9
	OpCachePut = 10
)

// Run runs the function that h names and answers its status; Describe writes the description of all functions. The
// package guest sets them.
var (
	Run      func(h Host) int32
	Describe func(h Host) int32
)
