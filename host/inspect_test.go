package host

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/testdata"
)

func TestInspect(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{})
	info, err := h.Inspect(t.Context(), testdata.Wasm("describe"))
	want := []Function{{"count", KindMap, "counts"}, {"plain", KindCall, ""}, {"sum", KindCombine, ""}}
	if err != nil || info.ABI != "wattle" || !slices.Equal(info.Functions, want) {
		t.Errorf("%+v, %v", info, err)
	}
	info, err = h.Inspect(t.Context(), testdata.Wasm("start-command"))
	if err != nil || info.ABI != "wasi-command" || len(info.Functions) != 1 || info.Functions[0].Name != "main" {
		t.Errorf("%+v, %v", info, err)
	}
	m := load(t, h, testdata.Wasm("describe"))
	var out bytes.Buffer
	if _, err := m.Call(t.Context(), &Call{Function: "sum", Output: &out}); err != nil || out.String() != "sum" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

// module makes a module of sections, each given as id and body.
func module(sections ...string) []byte {
	b := []byte("\x00asm\x01\x00\x00\x00")
	for _, s := range sections {
		b = append(b, s[0])
		b = binary.AppendUvarint(b, uint64(len(s)-1))
		b = append(b, s[1:]...)
	}
	return b
}

// exporting makes a module that exports functions by name, each of type 0: () -> i32, 1: () -> (), or 2: (i32, i32) -> i32. With an import
// it is one for Extism.
func exporting(extism bool, exports map[string]byte) []byte {
	text := func(s string) string { return string(append(binary.AppendUvarint(nil, uint64(len(s))), s...)) }
	n := string(rune(len(exports)))
	sections, first := []string{"\x01\x03\x60\x00\x01\x7f\x60\x00\x00\x60\x02\x7f\x7f\x01\x7f"}, byte(0)
	if extism {
		sections, first = []string{"\x01\x04\x60\x00\x01\x7f\x60\x00\x00\x60\x02\x7f\x7f\x01\x7f\x60\x00\x01\x7e", "\x02\x01" + text("extism:host/env") + text("input_length") + "\x00\x03"}, 1
	}
	functions, names, code := "\x03"+n, "\x07"+n, "\x0a"+n
	for i, name := range slices.Sorted(maps.Keys(exports)) {
		functions += string(rune(exports[name]))
		names += text(name) + string([]byte{0, first + byte(i)})
		code += [...]string{"\x04\x00\x41\x00\x0b", "\x02\x00\x0b", "\x04\x00\x41\x00\x0b"}[exports[name]]
	}
	return module(append(sections, functions, names, code)...)
}

// Exports that are no functions to call are named with the reason, but for what belongs to compilers and hosts.
func TestInspectLeftOut(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{})
	const status, void, other = 0, 1, 2
	const oddName = "the name has characters that are not allowed: use letters, digits and . - _"
	const notStatus = "the type is not () -> i32"
	many, named := map[string]byte{"good": status}, []string{}
	for i := range 30 {
		name := fmt.Sprintf("f%02d", i)
		many[name] = other
		named = append(named, strconv.Quote(name))
	}
	for name, c := range map[string]struct {
		wasm               []byte
		abi                string
		functions, leftOut []string
	}{
		"native":       {testdata.Wasm("leftout"), abiNative, []string{"good"}, []string{`"a b", "a/b": ` + oddName, `"malloc": ` + notStatus}},
		"names":        {exporting(false, map[string]byte{"": status, "é": status, "\t": status, strings.Repeat("n", 129): status, "_x": other, "wattle_x": status}), abiNative, []string{"é"}, []string{`"\t": ` + oddName, `"": the name is empty`, `"` + strings.Repeat("n", 60) + `": the name is longer than 128 bytes`}},
		"many":         {exporting(false, many), abiNative, []string{"good"}, []string{strings.Join(named[:20], ", ") + " and 10 more: " + notStatus}},
		"command":      {exporting(false, map[string]byte{"_start": void, "main": other, "__main_void": status, "b": status, "z": status, "a b": status, "free": other}), abiCommand, []string{"b", "main", "z"}, []string{`"a b": ` + oddName, `"free": ` + notStatus}},
		"extism":       {exporting(true, map[string]byte{"_start": void, "go": void, "say": status, "a b": void, "free": other, "hs_exit": other}), abiExtism, []string{"_start", "go", "say"}, []string{`"a b": ` + oddName, `"free": the type is neither () -> i32 nor () -> ()`}},
		"dispatcher":   {testdata.Wasm("describe"), abiNative, []string{"count", "plain", "sum"}, nil},
		"any function": {testdata.Wasm("wapc"), abiWapc, []string{AnyFunction}, nil},
	} {
		info, err := h.Inspect(t.Context(), c.wasm)
		var functions []string
		for _, f := range info.Functions {
			functions = append(functions, f.Name)
		}
		if err != nil || info.ABI != c.abi || !slices.Equal(functions, c.functions) || !slices.Equal(info.LeftOut, c.leftOut) {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	_, err := h.Inspect(t.Context(), exporting(false, map[string]byte{"a b": status, "add": other}))
	wantFaultInside(t, err, fault.Invalid, "no_functions", `no functions to call; "a b": `+oddName+`; "add": `+notStatus)
}

func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	noop := testdata.Wasm("noop")
	for name, c := range map[string]struct {
		wasm            []byte
		reason, message string
	}{
		"empty":            {nil, "not_wasm", ""},
		"text":             {[]byte("(module)"), "not_wasm", "(module)"},
		"header cut":       {noop[:6], "truncated_wasm", ""},
		"magic cut":        {noop[:3], "truncated_wasm", ""},
		"cut":              {noop[:len(noop)-3], "truncated_wasm", ""},
		"component":        {[]byte("\x00asm\x0d\x00\x01\x00rest"), "component", ""},
		"version":          {[]byte("\x00asm\x02\x00\x00\x00"), "invalid_wasm", "version 2"},
		"unknown import":   {testdata.Wasm("badimport"), "unknown_import", "env.launch_rocket"},
		"wrong signature":  {testdata.Wasm("badsignature"), "invalid_wasm", "wattle.input_len"},
		"no functions":     {testdata.Wasm("nofunctions"), "no_functions", ""},
		"empty module":     {module(), "no_functions", ""},
		"bad description":  {testdata.Wasm("baddescribe"), "bad_description", "ghost"},
		"too large":        {append(slices.Clone(noop), make([]byte, 1<<20)...), "module_too_large", ""},
		"four G locals":    {module("\x01\x01\x60\x00\x00", "\x03\x01\x00", "\x0a\x01\x08\x01\xff\xff\xff\xff\x0f\x7f\x0b"), "invalid_wasm", "4294967295 locals"},
		"four G types":     {module("\x01\xff\xff\xff\xff\x0f\x60"), "invalid_wasm", ""},
		"four G params":    {module("\x01\x01\x60\xff\xff\xff\xff\x0f"), "invalid_wasm", ""},
		"four G elements":  {module("\x09\x01\x01\x00\xff\xff\xff\xff\x0f"), "invalid_wasm", ""},
		"four G name":      {module("\x07\x01\xff\xff\xff\xff\x0f\x00\x00"), "invalid_wasm", ""},
		"many params":      {module("\x01\x01\x60\x80\x10" + strings.Repeat("\x7f", 2048) + "\x00"), "invalid_wasm", ""},
		"large table":      {module("\x04\x01\x70\x00\x80\x80\x80\x20"), "invalid_wasm", "table"},
		"many tables":      {module("\x04\x64" + strings.Repeat("\x70\x00\x01", 100)), "invalid_wasm", "100 tables"},
		"imported memory":  {module("\x02\x01\x03env\x06memory\x02\x00\x01"), "unknown_import", "env.memory"},
		"deep loops":       {module("\x01\x01\x60\x00\x00", "\x03\x01\x00", "\x0a\x01\xe1\x0b\x00"+strings.Repeat("\x03\x40", 501)+strings.Repeat("\x0b", 502)), "invalid_wasm", "501 of them loops"},
		"sections unknown": {module("\x7f"), "invalid_wasm", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, Config{MaxModuleBytes: 1 << 20})
			_, err := h.Inspect(t.Context(), c.wasm)
			if f := wantFaultInside(t, err, fault.Invalid, c.reason, c.message); f.Help == "" {
				t.Error("it does not say what to do")
			}
		})
	}
}

func wantFaultInside(t *testing.T, err error, kind fault.Kind, reason, message string) *fault.Error {
	t.Helper()
	f := fault.As(err)
	if f == nil || f.Kind != kind || f.Reason != reason || !strings.Contains(f.Message, message) {
		t.Fatalf("got %v (%s), want reason %s and a message with %q", err, fault.Reason(err), reason, message)
	}
	return f
}

func TestDescriptions(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		``:                                       "not JSON",
		`{"abi":2}`:                              "version 2",
		`{"abi":1,"functions":[{}]}`:             "is empty",
		`{"abi":1,"functions":[{"name":"_a"}]}`:  "reserved",
		`{"abi":1,"functions":[{"name":"a b"}]}`: "not allowed",
		`{"abi":1,"functions":[{"name":"a"},{"name":"a"}]}`:                   "twice",
		`{"abi":1,"functions":[{"name":"a","kind":"mop"}]}`:                   "unknown kind",
		`{"abi":1,"functions":[{"name":"` + strings.Repeat("a", 200) + `"}]}`: "longer",
	} {
		_, err := parseDescription([]byte(in))
		wantFaultInside(t, err, fault.Invalid, "bad_description", want)
	}
}

func FuzzInspect(f *testing.F) {
	for _, name := range testdata.Names() {
		f.Add(testdata.Wasm(name))
	}
	h := newHost(f, Config{MaxModuleBytes: 1 << 16, MaxModules: 4, Defaults: Limits{Memory: 1 << 20, Timeout: 1e8, Output: 1 << 16}})
	f.Fuzz(func(t *testing.T, b []byte) {
		info, err := h.Inspect(t.Context(), b)
		if err != nil {
			if fault.As(err) == nil {
				t.Errorf("not a fault: %v", err)
			}
			return
		}
		m, err := h.Load(t.Context(), digest.Of(b), func() ([]byte, error) { return b, nil })
		if err != nil {
			t.Fatal(err)
		}
		defer m.Release()
		for _, fn := range info.Functions[:min(len(info.Functions), 3)] {
			if _, err := m.Call(t.Context(), &Call{Function: fn.Name}); err != nil && fault.As(err) == nil {
				t.Errorf("not a fault: %v", err)
			}
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte("\x01k\x01v"))
	f.Add([]byte("\x80\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff\x0f"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if checkRecords(b) != nil {
			return
		}
		// What is well-formed can be read to the end and written again as it was.
		var again []byte
		for at := 0; at < len(b); {
			n, used := shortUvarint(b[at:])
			again = binary.AppendUvarint(again, n)
			again = append(again, b[at+used:at+used+int(n)]...)
			at += used + int(n)
		}
		if !bytes.Equal(again, b) {
			t.Errorf("%x was read as %x", b, again)
		}
	})
}
