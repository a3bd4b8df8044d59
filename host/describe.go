package host

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/samber/lo"

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
	// ABI is how the host speaks to the module: "wattle" or "wasi-command".
	ABI string
	// Functions are sorted by name.
	Functions []Function
}

const (
	abiNative  = "wattle"
	abiCommand = "wasi-command"

	maxFunctions   = 1000
	maxName        = 128
	maxDescription = 4 << 10
)

// describeLimits bound wattle_describe together with the host's defaults.
var describeLimits = Limits{Timeout: 10 * time.Second, Output: 1 << 20, Log: 16 << 10}

// describe finds out what functions the module of e has.
func (h *Host) describe(ctx context.Context, e *entry) error {
	exports := e.program.exports()
	e.dispatcher = exports["wattle_call"] == shapeStatus
	described := exports["wattle_describe"] == shapeStatus
	e.info = Info{ABI: abiNative}
	if !e.dispatcher && !described && exports["_start"] == shapeVoid {
		e.info = Info{ABI: abiCommand, Functions: []Function{{Name: "main"}}}
		return nil
	}
	found := map[string]Function{}
	if !e.dispatcher {
		for name, s := range exports {
			if s == shapeStatus && nameFault(name) == "" {
				found[name] = Function{Name: name}
			}
		}
	}
	if described {
		var out bytes.Buffer
		var logged []string
		call := &Call{Function: "wattle_describe", Output: &out, Log: func(_ Level, line string) { logged = append(logged, line) }}
		limits := describeLimits.Or(h.config.Defaults)
		if _, err := run(ctx, e, call, limits, "wattle_describe"); err != nil {
			f := badDescription("wattle_describe failed: %w", err)
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
		return fault.New(fault.Invalid, "no_functions", "the module has no functions to call").
			Hint("export functions of type () -> i32, or _start (a WASI command); names that begin with _ or wattle_ do not count. Go guests are built with -buildmode=c-shared and register functions in init or main's package variables")
	}
	if len(found) > maxFunctions {
		return badDescription("%d functions are too many; the most is %d", len(found), maxFunctions)
	}
	e.info.Functions = lo.Values(found)
	slices.SortFunc(e.info.Functions, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	return nil
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
	case name[0] == '_', strings.HasPrefix(name, "wattle_"):
		return "is reserved: it begins with _ or wattle_"
	case !utf8.ValidString(name), strings.ContainsFunc(name, func(r rune) bool { return r == '/' || !unicode.IsGraphic(r) || unicode.IsSpace(r) }):
		return "has characters that are not allowed: use letters, digits and . - _"
	}
	return ""
}

func badDescription(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "bad_description", "the module's description of itself is wrong: "+format, args...).
		Hint("wattle_describe has to write {\"abi\":1,\"functions\":[{\"name\":...,\"kind\":...}]}: see docs/abi.md")
}
