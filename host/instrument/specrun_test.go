package instrument_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/host/instrument"
)

// specScript is what wast2json makes of one file of the suite.
type specScript struct {
	Source   string        `json:"source_filename"`
	Commands []specCommand `json:"commands"`
	dir      string
}

type specCommand struct {
	Type       string      `json:"type"`
	Line       int         `json:"line"`
	Name       string      `json:"name"`
	Filename   string      `json:"filename"`
	As         string      `json:"as"`
	Action     specAction  `json:"action"`
	Expected   []specValue `json:"expected"`
	ModuleType string      `json:"module_type"`
	Text       string      `json:"text"`
}

type specAction struct {
	Type   string      `json:"type"`
	Args   []specValue `json:"args"`
	Field  string      `json:"field"`
	Module string      `json:"module"`
}

// specRun is one run through a script.
type specRun struct {
	ctx     context.Context
	script  *specScript
	rt      wazero.Runtime
	rewrite func([]byte) ([]byte, error) // nil: as they are
	modules map[string]api.Module
	last    api.Module
}

// runScript answers how each command came out: "ok", "skip: why" or "fail: why".
func runScript(t *testing.T, s *specScript, features api.CoreFeatures, host []byte, rewrite func([]byte) ([]byte, error)) []string {
	t.Helper()
	ctx := t.Context()
	r := &specRun{ctx: ctx, script: s, rewrite: rewrite, modules: map[string]api.Module{}}
	r.rt = wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features))
	defer r.rt.Close(ctx)
	if _, err := r.rt.InstantiateWithConfig(ctx, host, wazero.NewModuleConfig()); err != nil {
		t.Fatal(err)
	}
	if rewrite != nil {
		(&meter{slice: 1000}).offer(t, ctx, r.rt)
	}
	out := make([]string, len(s.Commands))
	for i, c := range s.Commands {
		as := ""
		if i+1 < len(s.Commands) && s.Commands[i+1].Type == "register" {
			as = s.Commands[i+1].As
		}
		switch err := r.command(c, as); {
		case err == nil:
			out[i] = "ok"
		case errors.As(err, new(specSkip)):
			out[i] = "skip: " + err.Error()
		default:
			text, _, _ := strings.Cut(err.Error(), "\n")
			out[i] = "fail: " + text
		}
	}
	return out
}

type specSkip string

func (s specSkip) Error() string { return string(s) }

func (r *specRun) command(c specCommand, as string) error {
	switch c.Type {
	case "module":
		mod, err := r.instantiate(c, as)
		r.last = mod
		if c.Name != "" {
			r.modules[c.Name] = mod
		}
		return err
	case "register":
		return nil // with the module before it
	case "assert_return", "action":
		return r.returns(c)
	case "assert_trap", "assert_exhaustion", "assert_exception":
		return r.traps(c)
	case "assert_malformed", "assert_invalid", "assert_unlinkable", "assert_uninstantiable":
		if c.ModuleType == "text" {
			return specSkip("the text format, which no engine reads")
		}
		_, err := r.instantiate(c, "")
		// wazero keeps an instance whose tables could not be filled, as the suite's later commands want.
		if wanted := c.Text != "out of bounds table access" || c.Type != "assert_uninstantiable"; wanted != (err != nil) {
			return fmt.Errorf("%s: %w", c.Type, errors.Join(errors.New("instantiated: "+fmt.Sprint(err == nil)), err))
		}
		return nil
	}
	return specSkip("unknown command " + c.Type)
}

func (r *specRun) instantiate(c specCommand, as string) (api.Module, error) {
	wasm, err := os.ReadFile(filepath.Join(r.script.dir, c.Filename))
	if err != nil {
		return nil, err
	}
	if r.rewrite != nil {
		if wasm, err = r.rewrite(wasm); err != nil {
			return nil, err
		}
	}
	mod, err := r.rt.InstantiateWithConfig(r.ctx, wasm, wazero.NewModuleConfig().WithName(as).WithStartFunctions())
	if err != nil || r.rewrite == nil {
		return mod, err
	}
	if start := mod.ExportedFunction(instrument.StartExport); start != nil {
		if _, err := start.Call(r.ctx); err != nil {
			return nil, errors.Join(err, mod.Close(r.ctx))
		}
	}
	return mod, nil
}

func (r *specRun) module(c specCommand) (api.Module, error) {
	m := r.last
	if c.Action.Module != "" {
		m = r.modules[c.Action.Module]
	}
	if m == nil {
		return nil, errors.New("its module is not there")
	}
	return m, nil
}

func (r *specRun) invoke(c specCommand) ([]uint64, error) {
	m, err := r.module(c)
	if err != nil {
		return nil, err
	}
	f := m.ExportedFunction(c.Action.Field)
	if f == nil {
		return nil, fmt.Errorf("no function %q", c.Action.Field)
	}
	var args []uint64
	for _, a := range c.Action.Args {
		args = append(args, a.bits()...)
	}
	return f.Call(r.ctx, args...)
}

func (r *specRun) returns(c specCommand) error {
	if c.Action.Type == "get" {
		m, err := r.module(c)
		if err != nil {
			return err
		}
		g := m.ExportedGlobal(c.Action.Field)
		if g == nil {
			return fmt.Errorf("no global %q", c.Action.Field)
		}
		return c.Expected[0].compare([]uint64{g.Get()})
	}
	got, err := r.invoke(c)
	if err != nil {
		return err
	}
	for _, want := range c.Expected {
		n := want.words()
		if len(got) < n {
			return errors.New("too few results")
		}
		if err := want.compare(got[:n]); err != nil {
			return err
		}
		got = got[n:]
	}
	if c.Type == "assert_return" && len(got) > 0 {
		return errors.New("too many results")
	}
	return nil
}

// trapTexts says how wazero calls the suite's traps, where it is not the same.
var trapTexts = map[string]string{
	"indirect call": "indirect call type mismatch", "undefined element": "invalid table access",
	"undefined": "invalid table access", "out of bounds table access": "invalid table access",
	"null": "null reference", "null function reference": "null reference", "null function": "null reference",
	"call stack exhausted": "stack overflow", "unhandled exception": "uncaught exception",
}

func (r *specRun) traps(c specCommand) error {
	_, err := r.invoke(c)
	if err == nil {
		return errors.New("no trap")
	}
	want := c.Text
	switch {
	case c.Type == "assert_exception":
		want = "uncaught exception"
	case strings.HasPrefix(want, "uninitialized"):
		want = "invalid table access"
	case trapTexts[want] != "":
		want = trapTexts[want]
	}
	got, _, _ := strings.Cut(err.Error(), "\n")
	if got = strings.TrimPrefix(got, "wasm error: "); got != want {
		return fmt.Errorf("trap %q instead of %q", got, want)
	}
	return nil
}
