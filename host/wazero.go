package host

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/samber/lo"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wattlehq/wattle/host/instrument"
)

// wazeroEngine runs guests on wazero. It does not use wazero's own way to stop them, which makes loops several times
// slower and misses recursion: see host/instrument.
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
		WithCompilationCache(cache).
		WithDebugInfoEnabled(false))
	e.base = wazero.NewModuleConfig().
		WithName(""). // nameless modules may exist many times
		WithStartFunctions().
		WithSysWalltime().
		WithSysNanotime().
		WithRandSource(rand.Reader)
	for _, start := range []func(context.Context, wazero.Runtime) error{instantiateWASI, instantiateABI, instantiateExtism, instantiateWapc, instantiateHooks} {
		if err := start(ctx, e.rt); err != nil {
			return nil, errors.Join(fmt.Errorf("start the host's functions: %w", err), e.close(ctx))
		}
	}
	for _, module := range []string{wasi_snapshot_preview1.ModuleName, abiModule, extismModule, wapcModule} {
		for name, def := range e.rt.Module(module).ExportedFunctionDefinitions() {
			e.offers[module+"."+name] = def
		}
	}
	return e, nil
}

func (e *wazeroEngine) offered() []string { return lo.Keys(e.offers) }

func (e *wazeroEngine) compile(ctx context.Context, in instrument.Module) (p program, err error) {
	// The module is a stranger's: whatever makes the decoder panic must not take the node with it.
	defer func() {
		if r := recover(); r != nil {
			p, err = nil, fmt.Errorf("the compiler failed: %v", r)
		}
	}()
	workers := e.workers
	if ctx.Value(backgroundKey{}) != nil {
		workers = max(1, workers/2)
	}
	m, err := e.rt.CompileModule(experimental.WithCompilationWorkers(ctx, workers), in.Wasm)
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
	return &wazeroProgram{engine: e, module: m, globals: in.Globals}, nil
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
	engine  *wazeroEngine
	module  wazero.CompiledModule
	globals int // captured mutable ones
}

func (p *wazeroProgram) exports() map[string]shape {
	return lo.MapValues(p.module.ExportedFunctions(), func(f api.FunctionDefinition, _ string) shape {
		in, out := f.ParamTypes(), f.ResultTypes()
		switch {
		case len(in) == 0 && len(out) == 0:
			return shapeVoid
		case len(in) == 0 && len(out) == 1 && out[0] == api.ValueTypeI32:
			return shapeStatus
		case slices.Equal(in, []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}) && len(out) == 0:
			return shapeTwo
		case slices.Equal(in, []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}) && slices.Equal(out, []api.ValueType{api.ValueTypeI32}):
			return shapeCall
		}
		return shapeOther
	})
}

func (p *wazeroProgram) close(ctx context.Context) error { return p.module.Close(ctx) }
