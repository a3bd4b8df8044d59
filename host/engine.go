package host

import "context"

// byteMemory is a guest's memory. Read answers the guest's own bytes.
type byteMemory interface {
	Read(offset, count uint32) ([]byte, bool)
	Size() uint32
}

// engine is all the host asks of a WebAssembly implementation, so that another, or another way to stop guests, can
// take its place.
type engine interface {
	// offered lists "module.name" of all functions that guests may import.
	offered() []string
	compile(ctx context.Context, wasm []byte) (program, error)
	// cacheDamaged tells whether compile failed because of what it found in its cache.
	cacheDamaged(err error) bool
	close(ctx context.Context) error
}

// program is one compiled module.
type program interface {
	// exports tells the exported functions by name.
	exports() map[string]shape
	// run makes a fresh instance and calls one export. ran.err tells how the guest itself ended; how the
	// host stopped it is in c.
	run(c *running, entry string) ran
	close(ctx context.Context) error
}

// shape is what the host cares for in a function's type.
type shape uint8

const (
	shapeOther  shape = iota
	shapeStatus       // () -> i32
	shapeVoid         // () -> ()
)

type ran struct {
	status uint32
	exited bool // through proc_exit, with that status
	err    error
}
