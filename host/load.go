package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wattlehq/wattle/host/instrument"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

type backgroundKey struct{}

// InBackground is for a Load that nobody waits for: compiling leaves half of the processors to what else there is.
func InBackground(ctx context.Context) context.Context {
	return context.WithValue(ctx, backgroundKey{}, true)
}

// Load answers the module whose bytes have digest d, compiled. open is called only where the module is not at hand,
// once for all that wait for it. The caller has to Release the module.
func (h *Host) Load(ctx context.Context, d digest.Digest, open func() ([]byte, error)) (*Module, error) {
	if err := h.begin(); err != nil {
		return nil, err
	}
	defer h.end()
	for {
		e, first := h.modules.acquire(d)
		if first {
			// Others may wait for it, and what is compiled is kept: the work outlives its first caller.
			// The reference keeps it from being thrown out half made.
			h.modules.hold(e)
			if err := h.begin(); err != nil {
				h.modules.finish(e, err)
			} else {
				go func() {
					defer h.end()
					h.modules.finish(e, h.build(context.WithoutCancel(ctx), e, open))
				}()
			}
		}
		select {
		case <-e.ready:
		case <-ctx.Done():
			h.modules.release(e)
			return nil, Interrupted(ctx)
		}
		if e.err == nil {
			m := &Module{host: h, entry: e}
			m.users.Store(1)
			return m, nil
		}
		err := e.err
		h.modules.release(e)
		if !first && ctx.Err() == nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			continue // the one who opened it gave up, which says nothing about this caller
		}
		return nil, err
	}
}

// Has tells whether a Load of the module would not have to wait.
func (h *Host) Has(d digest.Digest) bool { return h.modules.ready(d) }

// Inspect checks a module and tells what it offers. It compiles the module, which is then at hand for Load.
func (h *Host) Inspect(ctx context.Context, wasm []byte) (Info, error) {
	if int64(len(wasm)) > h.config.MaxModuleBytes {
		return Info{}, h.tooLarge(len(wasm))
	}
	m, err := h.Load(ctx, digest.Of(wasm), func() ([]byte, error) { return wasm, nil })
	if err != nil {
		return Info{}, err
	}
	defer m.Release()
	return m.Info(), nil
}

func (h *Host) tooLarge(size int) error {
	return fault.New(fault.Invalid, "module_too_large", "the module has %d bytes; the most is %d", size, h.config.MaxModuleBytes).
		With("limit", h.config.MaxModuleBytes).
		Hint("strip it (Go: -ldflags=-s -w; others: wasm-strip, wasm-opt -Oz)")
}

func (h *Host) build(ctx context.Context, e *entry, open func() ([]byte, error)) error {
	wasm, err := open()
	if err != nil {
		return err
	}
	if int64(len(wasm)) > h.config.MaxModuleBytes {
		return h.tooLarge(len(wasm))
	}
	if digest.Of(wasm) != e.digest {
		return fault.New(fault.Corrupt, "damaged_module", "the module's bytes are not those of %s", e.digest).
			With("digest", e.digest).Hint("publish it again")
	}
	e.size = len(wasm)
	m, err := instrument.Rewrite(wasm, instrument.Options{})
	if err != nil {
		return refused(err)
	}
	if err := h.checkImports(m); err != nil {
		return err
	}
	if e.program, err = h.compile(ctx, m); err != nil {
		return err
	}
	m.Wasm = nil
	e.module = m
	if err := h.prepare(ctx, e); err != nil {
		e.close(ctx, &h.budget)
		return err
	}
	return nil
}

// compile compiles one module at a time.
func (h *Host) compile(ctx context.Context, m instrument.Module) (program, error) {
	h.compiling <- struct{}{}
	defer func() { <-h.compiling }()
	p, err := h.engine.compile(ctx, m)
	if err != nil && h.config.CacheDir != "" && h.engine.cacheDamaged(err) {
		// All of it goes: its files cannot be told apart, and they can be made again.
		if err := h.emptyCache(); err != nil {
			return nil, err
		}
		p, err = h.engine.compile(ctx, m)
	}
	if err != nil {
		return nil, notValid(err)
	}
	return p, nil
}

// emptyCache removes what lies in CacheDir, one level down: the folder of this engine's version itself is in use.
func (h *Host) emptyCache() error {
	files, err := filepath.Glob(filepath.Join(h.config.CacheDir, "*", "*"))
	for _, f := range files {
		err = errors.Join(err, os.Remove(f))
	}
	if err != nil {
		return fmt.Errorf("empty the damaged cache of compiled code in %s: %w", h.config.CacheDir, err)
	}
	return nil
}

func (h *Host) checkImports(m instrument.Module) error {
	offered := h.engine.offered()
	for _, in := range m.Imports {
		full := in.Module + "." + in.Name
		if in.Kind == instrument.Function && slices.Contains(offered, full) {
			continue
		}
		what := "what is offered are functions of wattle, wasi_snapshot_preview1, extism:host/env and wapc"
		if mine := withoutPrefix(offered, in.Module+"."); len(mine) > 0 {
			what = fmt.Sprintf("%s offers %s", in.Module, strings.Join(mine, ", "))
		}
		return fault.New(fault.Invalid, "unknown_import", "the module imports %q, which no host function answers to; %s", full, what).
			With("import", full).
			Hint("build it for WASI preview 1 or without a system interface, and link everything else into it")
	}
	return nil
}

func withoutPrefix(all []string, prefix string) []string {
	var out []string
	for _, s := range all {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			out = append(out, rest)
		}
	}
	slices.Sort(out)
	return out
}

func notValid(err error) error {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return refused(&instrument.Error{Code: "invalid_wasm", Message: "the module is not valid: " + text, Hint: "build it again, with wasm features up to WebAssembly 2.0 only"})
}

// refused makes a fault of why a module cannot be used.
func refused(err error) error {
	e := (*instrument.Error)(nil)
	if !errors.As(err, &e) {
		return err
	}
	f := fault.New(fault.Invalid, e.Code, "%s", e.Message).Hint("%s", e.Hint)
	f.Cause = err
	return f
}
