package host

import (
	"context"

	"github.com/wattlehq/wattle/host/instrument"
)

// engine is all the host asks of a WebAssembly implementation, so that another can take its place.
type engine interface {
	// offered lists "module.name" of all functions that guests may import.
	offered() []string
	compile(ctx context.Context, m instrument.Module) (program, error)
	// cacheDamaged tells whether compile failed because of what it found in its cache.
	cacheDamaged(err error) bool
	close(ctx context.Context) error
}

// program is one compiled module.
type program interface {
	// exports tells the exported functions by name.
	exports() map[string]shape
	// instantiate makes an instance for the calls of c, with memory from m. Nothing of it has run.
	instantiate(c *running, m *guestMemory, mounts []Mount) (instance, error)
	close(ctx context.Context) error
}

// instance is one instance of a module. Only one goroutine may use it at a time.
type instance interface {
	// call runs one export. ran.err tells how the guest itself ended; how the host stopped it is in its running.
	call(export string, arguments ...uint64) ran
	// fuel is what is left of the slice; below zero when it is used up.
	fuel() int64
	setFuel(int64)
	// globals are the mutable ones, in their order.
	globals() []uint64
	setGlobals([]uint64)
	// resize makes the memory size bytes long; that may be less than now. false means that it cannot be done.
	resize(size uint64) bool
	// stack is how many bytes of call stack the call that runs has taken.
	stack() uint64
	// trim lets go of an overly large call stack, which the engine keeps for the next call otherwise.
	trim()
	close()
}

// shape is what the host cares for in a function's type.
type shape uint8

const (
	shapeOther  shape = iota
	shapeStatus       // () -> i32
	shapeVoid         // () -> ()
	shapeTwo          // (i32, i32) -> ()
	shapeCall         // (i32, i32) -> i32
)

type ran struct {
	status uint32
	exited bool // through proc_exit, with that status
	err    error
}
