package quickjs

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
)

// fakeEngine has the shape of the real one, which the repository does not carry, and does nothing.
func fakeEngine() []byte {
	e := &engine{}
	type named struct {
		name string
		s    signature
	}
	imports := []named{{"wasi_snapshot_preview1.random_get", "ii>i"}, {"wasi_snapshot_preview1.fd_close", "i>i"}}
	var functions []named
	for name, s := range engineFunctions {
		functions = append(functions, named{name, s})
	}
	slices.SortFunc(functions, func(a, b named) int { return strings.Compare(a.name, b.name) })
	for _, f := range glue() {
		if strings.HasPrefix(f.name, "env.") {
			// Between the others, so that numbers do not just shift.
			imports = slices.Insert(imports, 1, named{f.name, f.signature})
		}
	}
	var im, fn, ex, code []byte
	for _, i := range imports {
		module, name, _ := strings.Cut(i.name, ".")
		im = appendU32(append(appendBytes(appendBytes(im, module), name), 0), e.typeOf(i.s))
	}
	ex = append(appendBytes(ex, "memory"), 2, 0)
	for i, f := range functions {
		fn = appendU32(fn, e.typeOf(f.s))
		ex = appendU32(append(appendBytes(ex, f.name), 0), uint32(len(imports)+i))
		body := []byte{0, opUnreachable, 0x0b}
		if f.name == "_initialize" {
			// Calls an import of WASI and one that the glue stands in for, in all the ways there are.
			body = []byte{1, 3, i32, 0x41, 0, 0x10, byte(len(imports) - 1), 0x1a, 0xd2, 1, 0x1a, 0x44, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 0x0b}
		}
		code = appendBytes(code, body)
	}
	types := appendU32(nil, uint32(len(e.types)))
	for _, t := range e.types {
		types = append(types, t...)
	}
	counted := func(n int, b []byte) []byte { return append(appendU32(nil, uint32(n)), b...) }
	out := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range []section{
		{sectionCustom, appendBytes(nil, "name")},
		{sectionType, types},
		{sectionImport, counted(len(imports), im)},
		{sectionFunction, counted(len(functions), fn)},
		{sectionTable, []byte{1, 0x70, 0, 5}},
		{sectionMemory, []byte{1, 0, 1}},
		{sectionGlobal, []byte{1, i32, 1, 0x41, 0, 0x0b}},
		{sectionExport, counted(len(functions)+1, ex)},
		{sectionElement, []byte{1, 0, 0x41, 1, 0x0b, 2, 1, byte(len(imports))}},
		{sectionDataCount, []byte{1}},
		{sectionCode, counted(len(functions), code)},
		{sectionData, []byte{1, 0, 0x41, 0, 0x0b, 1, 'x'}},
	} {
		out = appendBytes(append(out, s.id), s.body)
	}
	return out
}

// What Link makes is a valid module with the imports and exports of a guest, and the engine's calls still mean what they meant.
func TestLink(t *testing.T) {
	t.Parallel()
	module, err := Link(fakeEngine(), "the script")
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigInterpreter())
	defer r.Close(ctx)
	compiled, err := r.CompileModule(ctx, module)
	if err != nil {
		t.Fatal(err)
	}
	exports := compiled.ExportedFunctions()
	for _, name := range []string{"_initialize", "wattle_call", "wattle_describe"} {
		if exports[name] == nil {
			t.Errorf("no export %s", name)
		}
	}
	if len(exports) != 3 || len(compiled.ExportedMemories()) != 1 {
		t.Errorf("%d functions and %d memories are exported", len(exports), len(compiled.ExportedMemories()))
	}
	for _, f := range compiled.ImportedFunctions() {
		if module, name, _ := f.Import(); module != "wattle" && module != "wasi_snapshot_preview1" {
			t.Errorf("%s.%s is imported", module, name)
		}
	}
	if !bytes.Contains(module, []byte("the script\x00")) {
		t.Error("the script is not in the module")
	}
	parts, err := sections(module)
	if err != nil {
		t.Fatal(err)
	}
	code := parts[slices.IndexFunc(parts, func(s section) bool { return s.id == sectionCode })].body
	// fd_close is the last but one of the imports now; the import behind random_get is the glue's last function.
	want := []byte{0x10, byte(len(hostFunctions) + 1), 0x1a, 0xd2}
	want = append(appendU32(want, uint32(len(hostFunctions)+2+len(engineFunctions)+len(glue())-1)), 0x1a, 0x44, 1)
	if !bytes.Contains(code, want) {
		t.Errorf("the engine's calls are not renumbered to % x", want)
	}
}

func TestLinkRefuses(t *testing.T) {
	t.Parallel()
	good := fakeEngine()
	replaced := func(old, now string) []byte { return bytes.Replace(good, []byte(old), []byte(now), 1) }
	swapped := bytes.Replace(replaced("JS_FreeValue", "............"), []byte("JS_NewObject"), []byte("JS_FreeValue"), 1)
	swapped = bytes.Replace(swapped, []byte("............"), []byte("JS_NewObject"), 1)
	for name, c := range map[string]struct {
		wasm []byte
		want string
	}{
		"text":       {[]byte("console.log(1)"), "no WebAssembly module"},
		"cut":        {good[:len(good)-3], "ends too soon"},
		"no export":  {replaced("JS_Eval", "JS_Evil"), "does not export the function JS_Eval"},
		"type":       {swapped, "is not of the type"},
		"import":     {replaced("host_interrupt", "host_interrupd"), "imports env.host_interrupd, which is not known here"},
		"no memory":  {replaced("memory", "mymory"), "exports no memory"},
		"opcode":     {replaced("\x41\x00\x10", "\xfd\x00\x10"), "the instruction 0xfd"},
		"no section": {good[:8], "exports no memory"},
	} {
		if _, err := Link(c.wasm, ""); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func FuzzLink(f *testing.F) {
	f.Add(fakeEngine())
	f.Add([]byte("\x00asm\x01\x00\x00\x00\x01\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, wasm []byte) {
		out, err := Link(wasm, "script")
		if err == nil && len(out) > 16*len(wasm)+64<<10 {
			t.Errorf("%d bytes became %d", len(wasm), len(out))
		}
	})
}
