package host

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/samber/lo"

	"github.com/wattlehq/wattle/host/instrument"
	"github.com/wattlehq/wattle/internal/fault"
)

// Kind says what a function takes and gives.
type Kind uint8

// The kinds.
const (
	KindCall Kind = iota
	KindMap
	KindReduce
	KindCombine
)

var kindNames = [...]string{"call", "map", "reduce", "combine"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", k)
}

// Function is one function of a module.
type Function struct {
	Name        string
	Kind        Kind
	Description string
}

// Info is what a module offers.
type Info struct {
	// ABI is how the host speaks to the module: "wattle", "wasi-command", "extism" or "wapc".
	ABI string
	// Functions are sorted by name.
	Functions []Function
	// LeftOut says which exported functions cannot be called, and why: for each reason, the names in quotes and the reason.
	LeftOut []string
	// Memory is what a call needs at least, in bytes: what the module's memory has when it begins.
	Memory uint64
	// Fresh says why each call gets an instance of its own; empty where calls share instances that are put back to
	// a snapshot in between.
	Fresh string
}

const (
	abiNative  = "wattle"
	abiCommand = "wasi-command"
	abiExtism  = "extism"
	abiWapc    = "wapc"

	// AnyFunction stands for every name, where a module does not tell which functions it has.
	AnyFunction = "*"

	maxFunctions   = 1000
	maxName        = 128
	maxDescription = 4 << 10
)

// startLimits bound a module's start and wattle_describe, together with the host's defaults.
var startLimits = Limits{Timeout: 10 * time.Second, Output: 1 << 20, Log: 16 << 10}

// classify finds out how to speak to the module of e: from what it imports, then from what it exports.
func (e *entry) classify() {
	exports := e.program.exports()
	e.dispatcher = exports["wattle_call"] == shapeStatus
	e.describes = exports["wattle_describe"] == shapeStatus
	from := lo.SliceToMap(e.module.Imports, func(i instrument.Import) (string, bool) { return i.Module, true })
	if e.module.HasStart {
		e.starts = append(e.starts, instrument.StartExport)
	}
	reactor := exports["_initialize"] == shapeVoid
	if reactor {
		e.starts = append(e.starts, "_initialize")
	}
	switch {
	case from[extismModule]:
		e.info.ABI = abiExtism
		if !reactor && from[wasiModule] && exports["__wasm_call_ctors"] == shapeVoid {
			e.starts = append(e.starts, "__wasm_call_ctors")
		}
		if exports["hs_init"] == shapeTwo {
			e.starts = append(e.starts, "hs_init")
		}
	case exports["__guest_call"] == shapeCall && (from[wapcModule] || !e.dispatcher):
		e.info.ABI = abiWapc
		for _, start := range []string{"_start", "wapc_init"} {
			if exports[start] == shapeVoid && !(reactor && start == "_start") {
				e.starts = append(e.starts, start)
			}
		}
	case !e.dispatcher && !e.describes && exports["_start"] == shapeVoid:
		e.info.ABI = abiCommand
		e.starts = lo.Without(e.starts, "_initialize")
	default:
		e.info.ABI = abiNative
	}
	if len(e.module.Uncapturable) > 0 {
		e.info.Fresh = "its state cannot be captured: " + strings.Join(e.module.Uncapturable, "; ")
	}
}

// exported sorts the functions that a module exports: those that can be called, and why others cannot. What belongs to the host or to
// the runtime that a compiler links in is neither.
func (e *entry) exported() (functions []Function, leftOut []string) {
	command, extism := e.info.ABI == abiCommand, e.info.ABI == abiExtism
	wrongType := "the type is not () -> i32"
	if extism {
		wrongType = "the type is neither () -> i32 nor () -> ()"
	}
	if command {
		functions = append(functions, Function{Name: "main"})
	}
	faulty := map[string][]string{}
	exports := e.program.exports()
	for _, name := range slices.Sorted(maps.Keys(exports)) {
		s, start := exports[name], extism && name == "_start"
		switch {
		case slices.Contains(e.starts, name), reserved(name) && !start, command && name == "main", extism && haskell[name]:
		case s != shapeStatus && !(extism && s == shapeVoid):
			faulty[wrongType] = append(faulty[wrongType], name)
		case nameFault(name) != "" && !start:
			why := "the name " + nameFault(name)
			faulty[why] = append(faulty[why], name)
		default:
			functions = append(functions, Function{Name: name})
		}
	}
	for _, why := range slices.Sorted(maps.Keys(faulty)) {
		names := lo.Map(faulty[why], func(name string, _ int) string { return fmt.Sprintf("%.60q", name) })
		leftOut = append(leftOut, shorten(names)+": "+why)
	}
	slices.SortFunc(functions, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	return functions, leftOut
}

// haskell are functions of its runtime that modules export.
var haskell = map[string]bool{"hs_exit": true, "hs_perform_gc": true, "hs_lock_stable_ptr_table": true, "hs_lock_stable_tables": true, "hs_unlock_stable_ptr_table": true, "hs_unlock_stable_tables": true}

// describe finds out what functions the module of e has, whose start has run in s.
func (h *Host) describe(ctx context.Context, e *entry, s *slot, limits Limits) error {
	if e.info.ABI == abiWapc {
		e.info.Functions = []Function{{Name: AnyFunction, Description: "any operation: waPC guests do not tell which they have"}}
		return nil
	}
	native := e.info.ABI == abiNative
	if !native || !e.dispatcher {
		e.info.Functions, e.info.LeftOut = e.exported()
	}
	found := lo.SliceToMap(e.info.Functions, func(f Function) (string, Function) { return f.Name, f })
	if native && e.describes {
		var out bytes.Buffer
		var logged []string
		call := &Call{Function: "wattle_describe", Output: &out, Log: func(_ Level, line string) { logged = append(logged, line) }}
		if _, err := s.run(ctx, call, limits, "wattle_describe"); err != nil {
			f := fault.New(fault.Invalid, "bad_description", "the module failed while it was asked for its functions: %w", err).
				Hint("mend what failed, build it again, and publish that")
			f.Cause = err
			return f.With("log", strings.Join(logged, "\n"))
		}
		functions, err := parseDescription(out.Bytes())
		if err != nil {
			return err
		}
		for _, f := range functions {
			if _, ok := found[f.Name]; !ok && !e.dispatcher {
				return badDescription("it describes %q, but there is no export of that name and type () -> i32", f.Name)
			}
			found[f.Name] = f
		}
	}
	if len(found) == 0 {
		return noFunctions(e.info.LeftOut)
	}
	if native && len(found) > maxFunctions {
		return badDescription("%d functions are too many; the most is %d", len(found), maxFunctions)
	}
	e.info.Functions = lo.Values(found)
	slices.SortFunc(e.info.Functions, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

func noFunctions(leftOut []string) error {
	return fault.New(fault.Invalid, "no_functions", "%s", strings.Join(append([]string{"the module has no functions to call"}, leftOut...), "; ")).
		Hint("export functions of type () -> i32, or _start (a WASI command); names that begin with _ or wattle_ do not count. Go guests are built with -buildmode=c-shared and register functions in init or main's package variables")
}

// parseDescription reads what wattle_describe writes. Unknown fields are ignored: later SDKs may say more.
func parseDescription(b []byte) ([]Function, error) {
	var d struct {
		ABI       int `json:"abi"`
		Functions []struct{ Name, Kind, Description string }
	}
	if err := json.Unmarshal(b, &d); err != nil {
		return nil, badDescription("it is not JSON of the right form: %w", err)
	}
	if d.ABI != 1 {
		return nil, badDescription("it speaks version %d of the ABI; this host speaks 1", d.ABI)
	}
	if len(d.Functions) > maxFunctions {
		return nil, badDescription("%d functions are too many; the most is %d", len(d.Functions), maxFunctions)
	}
	seen := map[string]bool{}
	var out []Function
	for _, f := range d.Functions {
		if why := nameFault(f.Name); why != "" {
			return nil, badDescription("the function name %.140q %s", f.Name, why)
		}
		if seen[f.Name] {
			return nil, badDescription("function %s is described twice", f.Name)
		}
		seen[f.Name] = true
		kind := slices.Index(kindNames[:], f.Kind)
		switch {
		case f.Kind == "":
			kind = int(KindCall)
		case kind < 0:
			return nil, badDescription("function %s is of the unknown kind %.40q; the kinds are %s", f.Name, f.Kind, strings.Join(kindNames[:], ", "))
		}
		if len(f.Description) > maxDescription {
			return nil, badDescription("the description of %s has %d bytes; the most is %d", f.Name, len(f.Description), maxDescription)
		}
		out = append(out, Function{Name: f.Name, Kind: Kind(kind), Description: f.Description})
	}
	return out, nil
}

// nameFault says what is wrong with a function's name, or nothing.
func nameFault(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > maxName:
		return fmt.Sprintf("is longer than %d bytes", maxName)
	case reserved(name):
		return "is reserved: it begins with _ or wattle_"
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return r == '/' || !unicode.IsGraphic(r) || unicode.IsSpace(r) }):
		return "has characters that are not allowed: use letters, digits and . - _"
	}
	return ""
}

func reserved(name string) bool {
	return strings.HasPrefix(name, "_") || strings.HasPrefix(name, "wattle_")
}

func badDescription(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "bad_description", "the module's description of itself is wrong: "+format, args...).
		Hint("wattle_describe has to write {\"abi\":1,\"functions\":[{\"name\":...,\"kind\":...}]}: see docs/abi.md")
}
