package host

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	"github.com/tetratelabs/wazero/sys"

	"github.com/wattlehq/wattle/host/instrument"
)

// wazeroInstance is an instance on wazero.
type wazeroInstance struct {
	mod       api.Module
	ctx       *callContext
	mem       api.Memory // nil where there is none
	left      api.MutableGlobal
	mutable   []api.MutableGlobal
	functions map[string]*function // those called before: each has a call stack of its own
	running   *function
	values    [2]uint64 // arguments, then results
}

// function is an exported function, ready to be called.
type function struct {
	api.Function
	stack *[]byte // inside wazero; nil where this wazero has none of that name
}

// maxStacks bounds the functions an instance keeps ready.
const maxStacks = 8

// keptStack is how large a call stack may be to be kept.
const keptStack = 64 << 10

func (p *wazeroProgram) instantiate(c *running, m *guestMemory, mounts []Mount) (i instance, err error) {
	// wazero panics where the allocator refuses a first memory.
	defer func() {
		if r := recover(); r != nil {
			i, err = nil, fmt.Errorf("instantiate: %v", r)
		}
	}()
	ctx := &callContext{Context: context.Background(), call: c}
	config := p.engine.base.WithNanosleep(c.sleep).WithStderr(&c.stderr)
	if c.abi == abiCommand {
		config = config.WithArgs("main").WithStdin(stdin{c}).WithStdout(stdout{c})
	} else {
		config = config.WithStdout(&c.stdout)
	}
	if len(mounts) > 0 {
		files := wazero.NewFSConfig()
		for _, m := range mounts {
			files = files.(sysfs.FSConfig).WithSysFSMount(&guestFiles{Mount: m, call: c}, m.Path)
		}
		config = config.WithFSConfig(files)
	}
	mod, err := p.engine.rt.InstantiateModule(experimental.WithMemoryAllocator(ctx, m), p.module, config)
	if err != nil {
		return nil, err
	}
	w := &wazeroInstance{mod: mod, ctx: ctx, mem: mod.ExportedMemory(instrument.MemoryExport), functions: map[string]*function{}}
	w.left = mod.ExportedGlobal(instrument.FuelExport).(api.MutableGlobal)
	for n := range p.globals {
		w.mutable = append(w.mutable, mod.ExportedGlobal(instrument.GlobalExport(n)).(api.MutableGlobal))
	}
	return w, nil
}

func (w *wazeroInstance) call(export string, arguments ...uint64) ran {
	f := w.functions[export]
	if f == nil {
		of := w.mod.ExportedFunction(export)
		if of == nil {
			return ran{}
		}
		f = &function{Function: of, stack: stackOf(of)}
		if len(w.functions) == maxStacks {
			clear(w.functions)
		}
		w.functions[export] = f
	}
	w.running, w.values = f, [2]uint64{}
	copy(w.values[:], arguments)
	if err := f.CallWithStack(w.ctx, w.values[:]); err != nil {
		return ended(err)
	}
	return ran{status: api.DecodeU32(w.values[0])}
}

func ended(err error) ran {
	if exit := (*sys.ExitError)(nil); errors.As(err, &exit) {
		return ran{status: exit.ExitCode(), exited: true}
	}
	return ran{err: err}
}

func (w *wazeroInstance) fuel() int64     { return int64(w.left.Get()) }
func (w *wazeroInstance) setFuel(n int64) { w.left.Set(uint64(n)) }

func (w *wazeroInstance) globals() []uint64 {
	values := make([]uint64, len(w.mutable))
	for i, g := range w.mutable {
		values[i] = g.Get()
	}
	return values
}

func (w *wazeroInstance) setGlobals(values []uint64) {
	for i, g := range w.mutable {
		g.Set(values[i])
	}
}

// resize grows through the public API. WebAssembly knows no shrinking, nor does wazero: it holds a memory in an exported
// field of an internal type, which reflection may set, and growing by a page afterwards tells the compiled code.
// Where another wazero is built otherwise, false costs an instance, and a test fails.
func (w *wazeroInstance) resize(size uint64) bool {
	if w.mem == nil {
		return size == 0
	}
	now := uint64(w.mem.Size())
	if size > now {
		_, ok := w.mem.Grow(uint32((size - now) / wasmPage))
		return ok
	}
	if size == now {
		return true
	}
	if size == 0 {
		return false
	}
	buffer := reflect.ValueOf(w.mem).Elem().FieldByName("Buffer")
	if !buffer.IsValid() || !buffer.CanSet() || buffer.Kind() != reflect.Slice {
		return false
	}
	short := int(size - wasmPage)
	buffer.Set(buffer.Slice3(0, short, short))
	_, ok := w.mem.Grow(1)
	return ok && uint64(w.mem.Size()) == size
}

// stackOf finds the slice that wazero keeps a function's call stack in.
func stackOf(f api.Function) *[]byte {
	v := reflect.ValueOf(f).Elem().FieldByName("stack")
	if !v.IsValid() || v.Type() != reflect.TypeFor[[]byte]() {
		return nil
	}
	return (*[]byte)(v.Addr().UnsafePointer())
}

func (f *function) size() uint64 {
	if f == nil || f.stack == nil {
		return 0
	}
	return uint64(len(*f.stack))
}

func (w *wazeroInstance) stack() uint64 { return w.running.size() }

func (w *wazeroInstance) trim() {
	if w.running.size() > keptStack {
		clear(w.functions)
		w.running = nil
	}
}

func (w *wazeroInstance) close() {
	// What files it has open were only read.
	_ = w.mod.Close(context.Background())
}

// callContext carries the state of a call to the host's functions.
type callContext struct {
	context.Context
	call *running
}

type callKey struct{}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	if key == (callKey{}) {
		return c.call
	}
	return nil
}

// callOf finds the state of the call that ctx belongs to.
func callOf(ctx context.Context) *running {
	if c, ok := ctx.(*callContext); ok {
		return c.call
	}
	return ctx.Value(callKey{}).(*running) // wrapped while an instance is made
}
