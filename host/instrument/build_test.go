package instrument_test

import (
	"context"
	"maps"
	"slices"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/host/instrument"
)

// parts are the contents of the sections of a module, by section id. Custom sections come last.
type parts struct {
	sections map[byte][]byte
	custom   [][]byte
}

// sectionOrder is the one that modules have.
var sectionOrder = []byte{1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11}

func (p parts) wasm() []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	for _, id := range sectionOrder {
		if content, ok := p.sections[id]; ok {
			b = section(b, id, content)
		}
	}
	for _, c := range p.custom {
		b = section(b, 0, c)
	}
	return b
}

func (p parts) with(id byte, content []byte) parts {
	p.sections = maps.Clone(p.sections)
	p.sections[id] = content
	return p
}

// function is one function of a module that consists of functions, exported as "f0" and so on.
type function struct {
	in, out []valueType
	locals  []byte // groups
	code    []byte // without the end
}

// module puts functions together with a memory of 64 pages, a table of 4 entries, and a mutable global of i32.
func module(functions ...function) parts {
	var types, indices, exports, bodies [][]byte
	for i, f := range functions {
		t := append(append(u32([]byte{0x60}, len(f.in)), f.in...), append(u32(nil, len(f.out)), f.out...)...)
		types, indices = append(types, t), append(indices, u32(nil, i))
		exports = append(exports, u32(append(text(nil, "f"+string(rune('0'+i))), 0), i))
		locals := f.locals
		if locals == nil {
			locals = []byte{0}
		}
		body := append(append(slices.Clone(locals), f.code...), 0x0b)
		bodies = append(bodies, append(u32(nil, len(body)), body...))
	}
	exports = append(exports, append(text(nil, "memory"), 2, 0))
	return parts{sections: map[byte][]byte{
		1: list(types...), 3: list(indices...), 4: list([]byte{0x70, 0, 4}), 5: list([]byte{0, 64}),
		6: list([]byte{i32, 1, 0x41, 0, 0x0b}), 7: list(exports...), 10: list(bodies...),
	}}
}

// metered starts a module rewritten, with slices of a size.
func metered(t *testing.T, wasm []byte, slice int64) (api.Module, *meter) {
	t.Helper()
	m, err := instrument.Rewrite(wasm, instrument.Options{Features: instrument.Features(allFeatures)})
	if err != nil {
		t.Fatal(err)
	}
	f := &meter{slice: slice}
	return start(t, m.Wasm, f), f
}

func start(t *testing.T, wasm []byte, f *meter) api.Module {
	t.Helper()
	ctx := t.Context()
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(allFeatures))
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	if f != nil {
		f.offer(t, ctx, rt)
	}
	mod, err := rt.Instantiate(ctx, wasm)
	if err != nil {
		t.Fatal(err)
	}
	return mod
}

func call(t *testing.T, mod api.Module, name string, args ...uint64) []uint64 {
	t.Helper()
	out, err := mod.ExportedFunction(name).Call(t.Context(), args...)
	if err != nil {
		t.Fatalf("%s(%d): %v", name, args, err)
	}
	return out
}

// join puts pieces of code together.
func join(pieces ...[]byte) []byte { return slices.Concat(pieces...) }

// repeat is a piece of code many times.
func repeat(n int, piece ...byte) []byte { return slices.Repeat(piece, n) }
