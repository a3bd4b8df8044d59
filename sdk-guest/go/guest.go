// Package guest is for writing Wattle functions in Go. Register functions while the program starts, in func init or
// in package variables (func main never runs), and build with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o functions.wasm .
//
// It does not reach the network or files: a function gets its input, a clock, random numbers and a log. Outside of
// WebAssembly functions do nothing by themselves; package guesttest runs them in plain tests.
//
// Each call runs in an instance of its own: what a function leaves in variables is gone at the next call.
package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wattlehq/wattle/sdk-guest/go/internal/abi"
)

// The statuses of the ABI.
const (
	statusDone          = 0
	statusFailed        = 1
	statusFailedForGood = 2
)

type function struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	Description string `json:"description,omitempty"`
	run         func(ctx *Context) error
}

var (
	functions    = map[string]*function{}
	descriptions = map[string]string{}
)

func init() {
	abi.Run, abi.Describe = run, describe
}

func register(name, kind string, run func(ctx *Context) error) {
	switch {
	case name == "", strings.HasPrefix(name, "_"), strings.HasPrefix(name, "wattle_"):
		panic(fmt.Sprintf("guest: %q cannot be a function's name: it is empty or begins with _ or wattle_", name))
	case functions[name] != nil:
		panic(fmt.Sprintf("guest: two functions are named %q: give one of them another name", name))
	}
	functions[name] = &function{Name: name, Kind: kind, run: run}
}

// Handle registers a function from bytes to bytes.
func Handle(name string, f func(ctx *Context, in []byte) ([]byte, error)) {
	register(name, "call", func(ctx *Context) error {
		out, err := f(ctx, ctx.input.all())
		if err != nil {
			return err
		}
		if len(out) > 0 {
			ctx.host.OutputWrite(out)
		}
		return nil
	})
}

// HandleJSON registers a function whose input and output are JSON. Input that is not JSON of the right form fails
// for good; no input at all leaves in at its zero value.
func HandleJSON[In, Out any](name string, f func(ctx *Context, in In) (Out, error)) {
	Handle(name, func(ctx *Context, b []byte) ([]byte, error) {
		var in In
		if len(b) > 0 {
			if err := json.Unmarshal(b, &in); err != nil {
				return nil, Permanent(fmt.Errorf("the input is not the JSON that %s takes: %w", name, err))
			}
		}
		out, err := f(ctx, in)
		if err != nil {
			return nil, err
		}
		return json.Marshal(out)
	})
}

// Describe says what a function does, for those who list functions.
func Describe(name, text string) { descriptions[name] = text }

// Permanent marks an error that trying again cannot help. A job does not retry a task that fails with it.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// run runs the function that the host names.
func run(h abi.Host) int32 {
	name := h.Function()
	f := functions[name]
	if f == nil {
		h.ErrorWrite(fmt.Appendf(nil, "there is no function %q; registered are: %s", name, strings.Join(names(), ", ")))
		return statusFailedForGood
	}
	ctx := &Context{host: h, function: name, input: input{host: h}}
	err := f.run(ctx)
	if err == nil {
		err = ctx.finish()
	}
	if err == nil {
		return statusDone
	}
	h.ErrorWrite([]byte(err.Error()))
	if errors.As(err, new(permanent)) {
		return statusFailedForGood
	}
	return statusFailed
}

func names() []string {
	var all []string
	for name := range functions {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func describe(h abi.Host) int32 {
	d := struct {
		ABI       int         `json:"abi"`
		Functions []*function `json:"functions"`
	}{ABI: 1, Functions: []*function{}}
	for _, name := range names() {
		f := functions[name]
		f.Description = descriptions[name]
		d.Functions = append(d.Functions, f)
	}
	for name := range descriptions {
		if functions[name] == nil {
			h.ErrorWrite(fmt.Appendf(nil, "guest.Describe names a function %q that is not registered", name))
			return statusFailedForGood
		}
	}
	b, err := json.Marshal(d)
	if err != nil {
		h.ErrorWrite([]byte(err.Error()))
		return statusFailedForGood
	}
	h.OutputWrite(b)
	return statusDone
}
