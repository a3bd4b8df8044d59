package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/wattlehq/wattle/host/instrument"
)

// plain is what one gets from wazero alone: the guests' imports with nothing around them. It measures nothing, stops
// nobody and leaves in an instance what calls leave there.
type plain struct {
	rt     wazero.Runtime
	module wazero.CompiledModule
}

// plainCall is the state of a call.
type plainCall struct {
	context.Context
	function string
	in, out  []byte
	reply    []byte
	fuel     api.MutableGlobal // of metered modules
}

type plainKey struct{}

func (c *plainCall) Value(key any) any {
	if key == (plainKey{}) {
		return c
	}
	return nil
}

func newPlain(ctx context.Context, wasm []byte, config wazero.RuntimeConfig) (*plain, error) {
	p := &plain{rt: wazero.NewRuntimeWithConfig(ctx, config)}
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, p.rt); err != nil {
		return nil, err
	}
	const i32, i64 = api.ValueTypeI32, api.ValueTypeI64
	type types = []api.ValueType
	b := p.rt.NewHostModuleBuilder("wattle")
	export := func(name string, params, results types, f func(c *plainCall, m api.Memory, s []uint64)) {
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, s []uint64) {
			f(ctx.Value(plainKey{}).(*plainCall), m.Memory(), s)
		}), params, results).Export(name)
	}
	view := func(m api.Memory, at, n uint64) []byte {
		b, ok := m.Read(api.DecodeU32(at), api.DecodeU32(n))
		if !ok {
			panic("out of bounds")
		}
		return b
	}
	export("input_len", nil, types{i64}, func(c *plainCall, _ api.Memory, s []uint64) { s[0] = uint64(len(c.in)) })
	export("input_read", types{i32, i32, i64}, types{i32}, func(c *plainCall, m api.Memory, s []uint64) {
		s[0] = uint64(copy(view(m, s[0], s[1]), c.in[min(s[2], uint64(len(c.in))):]))
	})
	export("output_write", types{i32, i32}, nil, func(c *plainCall, m api.Memory, s []uint64) { c.out = append(c.out, view(m, s[0], s[1])...) })
	for _, name := range []string{"error_write", "emit"} {
		export(name, types{i32, i32}, nil, func(*plainCall, api.Memory, []uint64) {})
	}
	export("log", types{i32, i32, i32}, nil, func(*plainCall, api.Memory, []uint64) {})
	export("host_call", types{i32, i32, i32}, types{i64}, func(c *plainCall, m api.Memory, s []uint64) {
		switch api.DecodeU32(s[0]) {
		case 0:
			s[0] = uint64(copy(view(m, s[1], s[2]), c.reply))
			return
		case 1:
			c.reply = []byte(`{"input":"bytes"}`)
		default:
			c.reply = append(c.reply[:0], c.function...)
		}
		s[0] = uint64(len(c.reply))
	})
	if _, err := b.Instantiate(ctx); err != nil {
		return nil, err
	}
	hooks := p.rt.NewHostModuleBuilder(instrument.HookModule)
	hooks.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) {
		ctx.Value(plainKey{}).(*plainCall).fuel.Set(1 << 17)
	}), nil, nil).Export("slice")
	if _, err := hooks.Instantiate(ctx); err != nil {
		return nil, err
	}
	var err error
	p.module, err = p.rt.CompileModule(ctx, wasm)
	return p, err
}

func (p *plain) close(ctx context.Context) { p.rt.Close(ctx) }

// instance makes an instance that is ready for the calls of c.
func (p *plain) instance(c *plainCall) (api.Module, error) {
	m, err := p.rt.InstantiateModule(c, p.module, wazero.NewModuleConfig().WithName("").
		WithStartFunctions().WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader))
	if err != nil {
		return nil, err
	}
	if g := m.ExportedGlobal(instrument.FuelExport); g != nil {
		c.fuel = g.(api.MutableGlobal)
		c.fuel.Set(1 << 17)
	}
	if f := m.ExportedFunction("_initialize"); f != nil {
		_, err = f.Call(c)
	}
	return m, err
}

// warm answers a way to call a function of one instance again and again.
func (p *plain) warm(ctx context.Context, function string, in []byte) (func() error, error) {
	c := &plainCall{Context: ctx, function: function, in: in}
	m, err := p.instance(c)
	if err != nil {
		return nil, err
	}
	f := m.ExportedFunction(function)
	if d := m.ExportedFunction("wattle_call"); d != nil {
		f = d
	}
	return func() error {
		c.out = c.out[:0]
		stack := [1]uint64{}
		if err := f.CallWithStack(c, stack[:]); err != nil || stack[0] != 0 {
			return fmt.Errorf("status %d, %v", stack[0], err)
		}
		return nil
	}, nil
}

// fresh calls a function of a new instance.
func (p *plain) fresh(ctx context.Context, function string, in []byte) error {
	c := &plainCall{Context: ctx, function: function, in: in}
	m, err := p.instance(c)
	if err != nil {
		return err
	}
	defer m.Close(ctx)
	f := m.ExportedFunction(function)
	if d := m.ExportedFunction("wattle_call"); d != nil {
		f = d
	}
	_, err = f.Call(c)
	return err
}

// computes answers a way to call an export that takes and gives numbers only.
func (p *plain) computes(ctx context.Context, function string, n uint64) (func() error, error) {
	c := &plainCall{Context: ctx}
	m, err := p.instance(c)
	if err != nil {
		return nil, err
	}
	f := m.ExportedFunction(function)
	return func() error {
		stack := [1]uint64{n}
		return f.CallWithStack(c, stack[:])
	}, nil
}
