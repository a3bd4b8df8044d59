package instrument_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/host/instrument"
)

func refusal(t *testing.T, wasm []byte, o instrument.Options) *instrument.Error {
	t.Helper()
	_, err := instrument.Rewrite(wasm, o)
	var e *instrument.Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("%T is not an *instrument.Error", err)
	}
	return e
}

// Whatever a module names that is not its own was added, or would be: it is refused here, before the engine finds the
// added thing in its place.
func TestIndices(t *testing.T) {
	t.Parallel()
	// Of all these a module has what the number says.
	const functions, globals, tables, locals, types = 1, 1, 1, 1, 1
	for name, code := range map[string][]byte{
		"global.get":     {0x23, globals, 0x1a},
		"global.set":     {0x42, 0, 0x24, globals},
		"call":           {0x10, functions},
		"call helper":    {0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 0, 0x41, 0, 0x41, 0, 0x41, 0, 0x10, functions + 1},
		"ref.func":       {0xd2, functions, 0x1a},
		"return_call":    {0x12, functions},
		"call_indirect":  {0x41, 0, 0x11, types, 0},
		"another table":  {0x41, 0, 0x11, 0, tables},
		"table.get":      {0x41, 0, 0x25, tables, 0x1a},
		"local.get":      {0x20, locals, 0x1a},
		"local.set":      {0xd0, 0x70, 0x41, 0, 0xfc, 15, 0, 0x21, locals}, // table.grow needs locals of its own
		"block type":     {0x02, types, 0x0b},
		"label":          {0x0c, 1},
		"label of table": {0x41, 0, 0x0e, 1, 2, 0},
		"memory.init":    {0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 8, 0, 0},
		"data.drop":      {0xfc, 9, 0},
		"table.init":     {0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 12, 0, 0},
		"elem.drop":      {0xfc, 13, 0},
		"throw":          {0x08, 0},
		"call_ref":       {0xd0, 0x70, 0x14, types},
		"ref.null":       {0xd0, types, 0x1a},
		"select":         {0x41, 0, 0x41, 0, 0x41, 0, 0x1c, 1, 0x63, types, 0x1a},
		"memory 1":       {0x3f, 1, 0x1a},
		"fill memory 1":  {0x41, 0, 0x41, 0, 0x41, 0, 0xfc, 11, 1},
		"block not left": {0x02, 0x40},
		"left too often": {0x0b},
		"else":           {0x05},
		"cut off":        {0x41},
		"long number":    {0xfd, 0x8c, 0},
	} {
		wasm := module(function{in: []valueType{i32}, code: code}).wasm()
		if e := refusal(t, wasm, instrument.Options{Features: instrument.Features(allFeatures)}); e == nil || e.Code != "invalid_wasm" {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	plain := module(function{})
	export := func(name string, kind, index byte) []byte { return list(append(text(nil, name), kind, index)) }
	imports := func(module, name string, what ...byte) []byte {
		return list(append(text(text(nil, module), name), what...))
	}
	body := func(b ...byte) []byte { return list(append(u32(nil, len(b)), b...)) }
	code := func(b ...byte) []byte { return module(function{code: b}).wasm() }
	for _, c := range []struct {
		name, code, says string
		wasm             []byte
	}{
		{"empty", "not_wasm", "starts with", nil},
		{"text", "not_wasm", "(module", []byte("(module)")},
		{"magic alone", "truncated_wasm", "3 bytes", []byte("\x00as")},
		{"no version", "truncated_wasm", "6 bytes", []byte("\x00asm\x01\x00")},
		{"component", "component", "component model", []byte("\x00asm\x0d\x00\x01\x00")},
		{"future", "invalid_wasm", "version 2", []byte("\x00asm\x02\x00\x00\x00")},
		{"cut off", "truncated_wasm", "cut off", plain.wasm()[:40]},
		{"unknown section", "invalid_wasm", "section id 14", append(plain.wasm(), 14, 0)},
		{"section twice", "invalid_wasm", "out of order", append(plain.wasm(), 10, 1, 0)},
		{"section too long", "invalid_wasm", "memory section", plain.with(5, []byte{1, 0, 1, 0}).wasm()},
		{"import of the hook", "reserved_name", "wattle:hook", plain.with(2, imports("wattle:hook", "slice", 0, 0)).wasm()},
		{"hidden export", "reserved_name", `"\x01fuel"`, plain.with(7, export("\x01fuel", 0, 0)).wasm()},
		{"export of the fuel", "invalid_wasm", `exports "x"`, plain.with(7, export("x", 3, 1)).wasm()},
		{"export of the hook", "invalid_wasm", `exports "x"`, plain.with(7, export("x", 0, 1)).wasm()},
		{"start that is not there", "invalid_wasm", "start function 1", plain.with(8, []byte{1}).wasm()},
		{"start with arguments", "invalid_wasm", "start function 0", module(function{in: []valueType{i32}}).with(8, []byte{0}).wasm()},
		{"element of the hook", "invalid_wasm", "element section", plain.with(9, list([]byte{1, 0, 1, 1})).wasm()},
		{"global of the hook", "invalid_wasm", "global section", plain.with(6, list([]byte{0x70, 0, 0xd2, 1, 0x0b})).wasm()},
		{"null that cannot be", "invalid_wasm", "global section", plain.with(6, list([]byte{0x64, 0, 0, 0xd0, 0x70, 0x0b})).wasm()},
		{"function without body", "invalid_wasm", "declares 1 functions and defines 0", plain.with(10, []byte{0}).wasm()},
		{"two memories", "invalid_wasm", "2 memories", plain.with(5, list([]byte{0, 1}, []byte{0, 1})).wasm()},
		{"reference to the start function alone", "invalid_wasm", "function 0", module(function{code: []byte{0xd2, 0, 0x1a}}).with(7, list()).with(8, []byte{0}).wasm()},
		{"many locals", "invalid_wasm", "50001 locals", plain.with(10, body(1, 0xd1, 0x86, 0x03, i32, 0x0b)).wasm()},
		{"a lie about locals", "invalid_wasm", "4294967295 locals", plain.with(10, body(1, 0xff, 0xff, 0xff, 0xff, 0x0f, i32, 0x0b)).wasm()},
		{"many tables", "invalid_wasm", "17 tables", plain.with(4, list(repeatItem(17, []byte{0x70, 0, 0})...)).wasm()},
		{"a large table", "invalid_wasm", "1048577 entries", plain.with(4, list([]byte{0x70, 0, 0x81, 0x80, 0x40})).wasm()},
		{"large tables", "invalid_wasm", "together", plain.with(4, list(repeatItem(2, []byte{0x70, 0, 0x80, 0x80, 0x30})...)).wasm()},
		{"many globals", "invalid_wasm", "100001 globals", plain.with(6, list(repeatItem(100_001, []byte{i32, 0, 0x41, 0, 0x0b})...)).wasm()},
		{"a lie about globals", "invalid_wasm", "global section", plain.with(6, []byte{0xff, 0xff, 0xff, 0xff, 0x0f}).wasm()},
		{"many parameters", "invalid_wasm", "1001 parameters", plain.with(1, list(join([]byte{0x60, 0xe9, 0x07}, repeat(1001, i32), []byte{0}))).wasm()},
		{"tail call", "unsupported", "return_call, which belongs to tail calls", code(0x12, 0)},
		{"exception", "unsupported", "throw_ref, which belongs to exception handling", code(0x0a)},
		{"old exception", "unsupported", "function 0 has the instruction try", code(0x06, 0x40, 0x0b)},
		{"typed reference", "unsupported", "ref.as_non_null, which belongs to typed", code(0xd0, 0x70, 0xd4, 0x1a)},
		{"atomic", "unsupported", "threads", code(0xfe, 3, 0)},
		{"garbage collection", "unsupported", "0xfb of garbage collection", code(0xfb, 0)},
		{"struct", "unsupported", "garbage collection", plain.with(1, list([]byte{0x5f, 0})).wasm()},
		{"relaxed vectors", "unsupported", "0xfd 256", code(0xfd, 0x80, 2)},
		{"unknown instruction", "unsupported", "0xff", code(0xff)},
	} {
		e := refusal(t, c.wasm, instrument.Options{})
		if e == nil || e.Code != c.code || !strings.Contains(e.Message, c.says) || e.Hint == "" {
			t.Errorf("%s: %+v instead of %s: ...%s...", c.name, e, c.code, c.says)
		}
	}
}

func repeatItem(n int, item []byte) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		out[i] = item
	}
	return out
}

// The bounds are the caller's.
func TestBounds(t *testing.T) {
	t.Parallel()
	wasm := module(function{in: []valueType{i32, i32}, locals: []byte{1, 9, i32}, code: repeat(50, unit2...)}).
		with(6, list([]byte{i32, 1, 0x41, 0, 0x0b}, []byte{i32, 1, 0x41, 0, 0x0b})).
		with(4, list([]byte{0x70, 0, 4}, []byte{0x70, 0, 0})).wasm()
	for name, o := range map[string]instrument.Options{
		"9 locals":      {MaxLocals: 8},
		"2 tables":      {MaxTables: 1},
		"table of 4":    {MaxEntries: 3},
		"2 globals":     {MaxGlobals: 1},
		"2 parameters":  {MaxParams: 1},
		"has 154 bytes": {MaxBodyBytes: 153},
	} {
		if e := refusal(t, wasm, o); e == nil || !strings.Contains(e.Message, name) {
			t.Errorf("%s: %v", name, e)
		}
	}
	if e := refusal(t, wasm, instrument.Options{MaxLocals: 9, MaxTables: 2, MaxEntries: 4, MaxGlobals: 2, MaxParams: 2, MaxBodyBytes: 154}); e != nil {
		t.Error(e)
	}
}

// The features' bits are wazero's.
func TestFeatures(t *testing.T) {
	t.Parallel()
	const v2 = 127
	if got := instrument.Features(allFeatures); got != v2|instrument.Threads|instrument.TailCall|instrument.ExtendedConst|
		instrument.ExceptionHandling|instrument.TypedFunctionReferences {
		t.Errorf("%b", got)
	}
}

// A module with nothing in it goes through, too.
func TestEmptyModule(t *testing.T) {
	t.Parallel()
	m, err := instrument.Rewrite([]byte("\x00asm\x01\x00\x00\x00"), instrument.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &meter{}
	mod := start(t, m.Wasm, f)
	if mod.ExportedGlobal(instrument.FuelExport) == nil || mod.ExportedMemory(instrument.MemoryExport) != nil {
		t.Error("there is no fuel, or a memory")
	}
	if m.HasStart || m.HasMemory || m.Globals != 0 || len(m.Uncapturable) != 0 || m.TableEntries != 0 || m.Functions != 0 {
		t.Errorf("%+v", m)
	}
}
