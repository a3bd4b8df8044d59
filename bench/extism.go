package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	extism "github.com/extism/go-sdk"

	"github.com/wattlehq/wattle/host"
)

// extism compares calls of Extism's plugins with those of its own host.
func (s *sandbox) extism(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/extism/go-sdk").Output()
	if err != nil {
		return err
	}
	for _, c := range []struct{ module, function, in string }{
		{"noop", "run_test", ""}, {"hello", "run_test", ""}, {"count_vowels", "count_vowels", strings.Repeat("hello world ", 10)},
	} {
		file := filepath.Join(strings.TrimSpace(string(out)), "wasm", c.module+".wasm")
		wasm, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		m, err := s.load(ctx, wasm)
		if err != nil {
			return err
		}
		defer m.Release()
		what := &host.Call{Function: c.function, Input: host.BytesInput([]byte(c.in)), Output: io.Discard}
		ours := func() error {
			_, err := m.Call(ctx, what)
			return err
		}
		manifest := extism.Manifest{Wasm: []extism.Wasm{extism.WasmFile{Path: file}}}
		compiled, err := extism.NewCompiledPlugin(ctx, manifest, extism.PluginConfig{EnableWasi: true}, nil)
		if err != nil {
			return err
		}
		defer compiled.Close(ctx)
		plugin, err := compiled.Instance(ctx, extism.PluginInstanceConfig{})
		if err != nil {
			return err
		}
		call := func(p *extism.Plugin) error {
			rc, _, err := p.CallWithContext(ctx, c.function, []byte(c.in))
			if err == nil && rc != 0 {
				err = fmt.Errorf("exit %d", rc)
			}
			return err
		}
		name := "Extism plugin, " + c.module
		if err := s.compare(ctx, name, "Extism's Go host, reused plugin", side(ours), side(func() error { return call(plugin) })); err != nil {
			return err
		}
		err = s.compare(ctx, name, "Extism's Go host, fresh plugin", side(ours), side(func() error {
			p, err := compiled.Instance(ctx, extism.PluginInstanceConfig{})
			if err != nil {
				return err
			}
			defer p.Close(ctx)
			return call(p)
		}))
		if err != nil {
			return err
		}
	}
	return nil
}
