package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/samber/lo"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// wazeroEngine runs guests on wazero.
//
// Guests are stopped by WithCloseOnContextDone: it checks at loop heads. Recursion without loops and without end
// hits the bound of the call stack instead.
type wazeroEngine struct {
	rt      wazero.Runtime
	cache   wazero.CompilationCache
	workers int
	offers  map[string]api.FunctionDefinition // by "module.name"
	base    wazero.ModuleConfig
}

func newWazero(ctx context.Context, cacheDir string, workers int) (engine, error) {
	cache := wazero.NewCompilationCache()
	if cacheDir != "" {
		var err error
		if cache, err = wazero.NewCompilationCacheWithDir(cacheDir); err != nil {
			return nil, fmt.Errorf("open the cache of compiled code in %s: %w", cacheDir, err)
		}
	}
	e := &wazeroEngine{cache: cache, workers: workers, offers: map[string]api.FunctionDefinition{}}
	e.rt = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCloseOnContextDone(true).
		WithCompilationCache(cache).
		WithDebugInfoEnabled(false))
	e.base = wazero.NewModuleConfig().
		WithName(""). // nameless modules may exist many times
		WithStartFunctions().
		WithSysWalltime().
		WithSysNanotime().
		WithOsyield(runtime.Gosched).
		WithRandSource(rand.Reader)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, e.rt); err != nil {
		return nil, errors.Join(fmt.Errorf("start WASI: %w", err), e.close(ctx))
	}
	if err := instantiateABI(ctx, e.rt); err != nil {
		return nil, errors.Join(fmt.Errorf("start the guest ABI: %w", err), e.close(ctx))
	}
	for _, module := range []string{wasi_snapshot_preview1.ModuleName, abiModule} {
		for name, def := range e.rt.Module(module).ExportedFunctionDefinitions() {
			e.offers[module+"."+name] = def
		}
	}
	return e, nil
}

func (e *wazeroEngine) offered() []string { return lo.Keys(e.offers) }

func (e *wazeroEngine) compile(ctx context.Context, wasm []byte) (p program, err error) {
	// The module is a stranger's: whatever makes the decoder panic must not take the node with it.
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("the compiler failed: %v", r)
		}
	}()
	m, err := e.rt.CompileModule(experimental.WithCompilationWorkers(ctx, e.workers), wasm)
	if err != nil {
		return nil, err
	}
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		def, ok := e.offers[module+"."+name]
		if !ok {
			continue // refused before, by name
		}
		if !slices.Equal(def.ParamTypes(), f.ParamTypes()) || !slices.Equal(def.ResultTypes(), f.ResultTypes()) {
			err := fmt.Errorf("it imports %s.%s as %s, but that is %s", module, name, signature(f), signature(def))
			return nil, errors.Join(err, m.Close(ctx))
		}
	}
	return &wazeroProgram{engine: e, module: m}, nil
}

// cacheDamaged goes by words, since wazero has no type for these errors. A test holds it to them.
func (e *wazeroEngine) cacheDamaged(err error) bool {
	return strings.Contains(err.Error(), "compilationcache:")
}

func signature(f api.FunctionDefinition) string {
	names := func(t []api.ValueType) []string {
		return lo.Map(t, func(v api.ValueType, _ int) string { return api.ValueTypeName(v) })
	}
	return fmt.Sprintf("%v -> %v", names(f.ParamTypes()), names(f.ResultTypes()))
}

func (e *wazeroEngine) close(ctx context.Context) error {
	return errors.Join(e.rt.Close(ctx), e.cache.Close(ctx))
}

type wazeroProgram struct {
	engine *wazeroEngine
	module wazero.CompiledModule
}

func (p *wazeroProgram) exports() map[string]shape {
	return lo.MapValues(p.module.ExportedFunctions(), func(f api.FunctionDefinition, _ string) shape {
		in, out := f.ParamTypes(), f.ResultTypes()
		switch {
		case len(in) == 0 && len(out) == 0:
			return shapeVoid
		case len(in) == 0 && len(out) == 1 && out[0] == api.ValueTypeI32:
			return shapeStatus
		}
		return shapeOther
	})
}

func (p *wazeroProgram) close(ctx context.Context) error { return p.module.Close(ctx) }

func (p *wazeroProgram) run(c *running, entry string) (r ran) {
	ctx := &callContext{Context: c.ctx, call: c}
	mod, err := p.instantiate(ctx, c)
	if mod != nil {
		defer mod.Close(context.WithoutCancel(c.ctx)) //nolint:errcheck // closes no files: guests have none
	}
	if err != nil {
		return ended(err)
	}
	if f := mod.ExportedFunction("_initialize"); f != nil && entry != "_start" {
		if err := f.CallWithStack(ctx, nil); err != nil {
			return ended(err)
		}
	}
	var stack [1]uint64
	if err := mod.ExportedFunction(entry).CallWithStack(ctx, stack[:]); err != nil {
		return ended(err)
	}
	return ran{status: api.DecodeU32(stack[0])}
}

func (p *wazeroProgram) instantiate(ctx context.Context, c *running) (mod api.Module, err error) {
	// wazero panics where the allocator refuses a first memory.
	defer func() {
		if r := recover(); r != nil {
			mod, err = nil, fmt.Errorf("instantiate: %v", r)
		}
	}()
	config := p.engine.base.WithNanosleep(c.sleep).WithStderr(&c.stderr)
	if c.command {
		config = config.WithArgs("main").WithStdin(stdin{c}).WithStdout(stdout{c})
	} else {
		config = config.WithStdout(&c.stdout)
	}
	return p.engine.rt.InstantiateModule(experimental.WithMemoryAllocator(ctx, &c.memory), p.module, config)
}

func ended(err error) ran {
	if exit := (*sys.ExitError)(nil); errors.As(err, &exit) {
		// Codes of this kind stand for an ended context; a guest may exit with them, too, and that is a
		// failure like another.
		return ran{status: exit.ExitCode(), exited: true}
	}
	return ran{err: err}
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
	return c.Context.Value(key)
}

// callOf finds the state of the call that ctx belongs to.
func callOf(ctx context.Context) *running {
	if c, ok := ctx.(*callContext); ok {
		return c.call
	}
	return ctx.Value(callKey{}).(*running) // wrapped while a start function runs
}
