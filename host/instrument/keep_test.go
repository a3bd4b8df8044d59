package instrument_test

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"

	"github.com/wattlehq/wattle/host/instrument"
)

// nameSection has the names of two functions, one imported, and of the locals of both.
var nameSection = join(text(nil, "name"),
	section(nil, 0, text(nil, "mod")),
	section(nil, 1, list(append([]byte{0}, text(nil, "imported")...), append([]byte{1}, text(nil, "mine")...))),
	section(nil, 2, list(append([]byte{0, 1, 0}, text(nil, "x")...), append([]byte{1, 1, 0}, text(nil, "y")...))),
	section(nil, 4, list(append([]byte{0}, text(nil, "type")...))))

// named is a module with an imported function and a defined one, which traps.
func named() parts {
	p := module(function{in: []valueType{i32}, code: []byte{0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0, 0x00}})
	p = p.with(2, list(append(text(text(nil, "env"), "f"), 0, 0))).with(7, list(append(text(nil, "f0"), 0, 1)))
	p.custom = [][]byte{nameSection}
	return p
}

func compiled(t *testing.T, wasm []byte) wazero.CompiledModule {
	t.Helper()
	rt := wazero.NewRuntimeWithConfig(t.Context(), wazero.NewRuntimeConfigInterpreter().WithCustomSections(true))
	t.Cleanup(func() { _ = rt.Close(context.Background()) })
	c, err := rt.CompileModule(t.Context(), wasm)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Functions keep their names under their new numbers.
func TestNames(t *testing.T) {
	t.Parallel()
	m, err := instrument.Rewrite(named().wasm(), instrument.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := compiled(t, m.Wasm)
	if got := c.Name(); got != "mod" {
		t.Errorf("the module is %q", got)
	}
	f := c.ExportedFunctions()["f0"]
	if f.Name() != "mine" || f.Index() != 2 || !slices.Equal(f.ParamNames(), []string{"y"}) {
		t.Errorf("function %d is %q of %q", f.Index(), f.Name(), f.ParamNames())
	}
	var imports []string
	for _, f := range c.ImportedFunctions() {
		module, name, _ := f.Import()
		imports = append(imports, f.Name()+" "+module+" "+name)
	}
	if want := []string{"imported env f", "wattle:hook.slice wattle:hook slice"}; !slices.Equal(imports, want) {
		t.Errorf("%q instead of %q", imports, want)
	}
	want := section(nil, 1, list(append([]byte{0}, text(nil, "imported")...), append([]byte{1}, text(nil, "wattle:hook.slice")...),
		append([]byte{2}, text(nil, "mine")...), append([]byte{3}, text(nil, "memory.fill")...)))
	if !bytes.Contains(m.Wasm, want) {
		t.Errorf("%q is not in %q", want, m.Wasm)
	}
	if want := section(nil, 4, list(append([]byte{0}, text(nil, "type")...))); !bytes.Contains(m.Wasm, want) {
		t.Errorf("the names of types are gone: %q", m.Wasm)
	}
}

// Names that are malformed are left out, part by part.
func TestBadNames(t *testing.T) {
	t.Parallel()
	good := section(nil, 2, list(append([]byte{0, 1, 0}, text(nil, "x")...)))
	for name, functions := range map[string][]byte{
		"order":     list([]byte{1, 1, 'a'}, []byte{0, 1, 'b'}),
		"twice":     list([]byte{1, 1, 'a'}, []byte{1, 1, 'b'}),
		"too short": {1, 0, 5, 'a'},
		"a lie":     {0xff, 0xff, 0xff, 0xff, 0x0f},
		"not UTF-8": list([]byte{0, 1, 0xff}),
	} {
		p := named()
		p.custom = [][]byte{join(text(nil, "name"), section(nil, 1, functions), good)}
		m, err := instrument.Rewrite(p.wasm(), instrument.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := compiled(t, m.Wasm).ImportedFunctions()[0]; got.Name() != "" || !slices.Equal(got.ParamNames(), []string{"x"}) {
			t.Errorf("%s: %q %q", name, got.Name(), got.ParamNames())
		}
	}
}

func TestCustomSections(t *testing.T) {
	t.Parallel()
	p := module(function{})
	for _, name := range []string{"producers", ".debug_line", "wattle", "sourceMappingURL", "metadata.code.branch_hint", "target_features", "reloc.CODE"} {
		p.custom = append(p.custom, append(text(nil, name), "content of "+name...))
	}
	m, err := instrument.Rewrite(p.wasm(), instrument.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range compiled(t, m.Wasm).CustomSections() {
		got = append(got, s.Name()+": "+string(s.Data()))
	}
	want := []string{"producers: content of producers", "wattle: content of wattle", "target_features: content of target_features"}
	if !slices.Equal(got, want) {
		t.Errorf("%q instead of %q", got, want)
	}
}

// What a snapshot needs is exported, and what it would miss is said.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	p := module(function{code: []byte{0x41, 7, 0x24, 0}}).with(8, []byte{0}).with(6, list(
		[]byte{i32, 1, 0x41, 5, 0x0b}, []byte{i64, 0, 0x42, 6, 0x0b}, []byte{f64, 1, 0x44, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b}))
	m, err := instrument.Rewrite(p.wasm(), instrument.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Globals != 2 || len(m.Uncapturable) != 0 || !m.HasStart || !m.HasMemory || m.MinMemory != 64<<16 || m.Functions != 1 {
		t.Errorf("%+v", m)
	}
	f := &meter{slice: 1000}
	mod := start(t, m.Wasm, f)
	if got := mod.ExportedGlobal(instrument.GlobalExport(0)).Get(); got != 5 {
		t.Errorf("the start function ran: the global is %d", got)
	}
	call(t, mod, instrument.StartExport)
	if got := mod.ExportedGlobal(instrument.GlobalExport(0)).Get(); got != 7 {
		t.Errorf("the start function left %d", got)
	}
	if got := mod.ExportedGlobal(instrument.GlobalExport(1)).Type(); got != f64 {
		t.Errorf("the second captured global is of type %x", got)
	}
	if mod.ExportedMemory(instrument.MemoryExport) == nil || mod.ExportedGlobal(instrument.GlobalExport(2)) != nil {
		t.Error("no memory, or too many globals")
	}
}

func TestUncapturable(t *testing.T) {
	t.Parallel()
	code := func(b ...byte) parts { return module(function{code: b}) }
	null := []byte{0xd0, 0x70}
	imports := func(what ...byte) parts { return code().with(2, list(append(text(text(nil, "env"), "x"), what...))) }
	withData := func(p parts) parts { return p.with(12, []byte{1}).with(11, list([]byte{1, 0})) }
	withElement := func(p parts) parts { return p.with(9, list([]byte{1, 0, 0})) }
	threeConst := []byte{0x41, 0, 0x41, 0, 0x41, 0}
	importsMemory := imports(2, 0, 1).with(7, list())
	delete(importsMemory.sections, 5)
	for want, p := range map[string]parts{
		"":                                     withData(code(join(threeConst, []byte{0xfc, 8, 0, 0})...)), // memory.init
		"function 0 uses table.set":            code(join([]byte{0x41, 0}, null, []byte{0x26, 0})...),
		"function 0 uses table.grow":           code(join(null, []byte{0x41, 0, 0xfc, 15, 0, 0x1a})...),
		"function 0 uses table.fill":           code(join([]byte{0x41, 0}, null, []byte{0x41, 0, 0xfc, 17, 0})...),
		"function 0 uses table.copy":           code(join(threeConst, []byte{0xfc, 14, 0, 0})...),
		"function 0 uses table.init":           withElement(code(join(threeConst, []byte{0xfc, 12, 0, 0})...)),
		"function 0 uses elem.drop":            withElement(code(0xfc, 13, 0)),
		"function 0 uses data.drop":            withData(code(0xfc, 9, 0)),
		"global 0 is mutable and not a number": code().with(6, list(append([]byte{0x70, 1}, 0xd0, 0x70, 0x0b))),
		"global 1 is mutable and not a number": code().with(6, list(
			[]byte{0x70, 0, 0xd0, 0x70, 0x0b}, join([]byte{v128, 1, 0xfd, 0x0c}, make([]byte, 16), []byte{0x0b}))),
		"it imports the table env.x":           imports(1, 0x70, 0, 1),
		"it imports the mutable global env.x":  imports(3, i32, 1),
		"it imports the memory env.x":          importsMemory,
		"its memory is shared between threads": code().with(5, list([]byte{3, 1, 1})),
	} {
		m, err := instrument.Rewrite(p.wasm(), instrument.Options{})
		if err != nil {
			t.Errorf("%s: %v", want, err)
		} else if got := strings.Join(m.Uncapturable, "; "); got != want {
			t.Errorf("%q instead of %q", got, want)
		}
	}
	// Names make it readable, and there is an end to it.
	p := module(slices.Repeat([]function{{code: repeat(5, 0x41, 0, 0xd0, 0x70, 0x26, 0)}}, 9)...)
	p.custom = [][]byte{join(text(nil, "name"), section(nil, 1, list(append([]byte{1}, text(nil, "resize")...))))}
	m, err := instrument.Rewrite(p.wasm(), instrument.Options{})
	if err != nil || len(m.Uncapturable) != 8 || m.Uncapturable[1] != "function 1 (resize) uses table.set" {
		t.Errorf("%q, %v", m.Uncapturable, err)
	}
}
