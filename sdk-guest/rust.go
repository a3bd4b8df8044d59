package sdkguest

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/wattlehq/wattle/internal/fault"
)

const (
	rustTarget  = "wasm32-unknown-unknown"
	installRust = "with rustup: rustup target add " + rustTarget + "; on Debian: apt-get install rustc cargo libstd-rust-dev-wasm32"
)

// buildRust builds the crate in dir with the first Rust that has the target: a machine may have several, and the one
// that comes first is often without.
func buildRust(ctx context.Context, dir, out string) error {
	cargo, rustc, err := findRust(ctx, dir, append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin"))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, cargo, "build", "--release", "--target", rustTarget, "--message-format", "json-render-diagnostics")
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "RUSTC="+rustc)
	var text bytes.Buffer
	cmd.Stderr = &text
	messages, err := cmd.Output()
	if err := compiled(ctx, dir, text.Bytes(), err, "mend what the compiler complains about; rustc 1.63 or newer is needed"); err != nil {
		return err
	}
	for line := range bytes.Lines(messages) {
		var m struct {
			Reason    string   `json:"reason"`
			Filenames []string `json:"filenames"`
		}
		if json.Unmarshal(line, &m) != nil || m.Reason != "compiler-artifact" {
			continue
		}
		for _, f := range m.Filenames {
			if filepath.Ext(f) == ".wasm" {
				b, err := os.ReadFile(f)
				if err != nil {
					return err
				}
				return write(out, b)
			}
		}
	}
	return fault.New(fault.Invalid, "build_failed", "cargo built no .wasm file from %s", dir).
		With("dir", dir).Hint("Cargo.toml needs crate-type = [\"cdylib\", \"rlib\"] below [lib]")
}

// findRust answers a cargo and a rustc that lie together in one of the folders and can build for the target.
func findRust(ctx context.Context, dir string, folders []string) (cargo, rustc string, err error) {
	without, lonely := "", ""
	for _, folder := range folders {
		rustc, err := exec.LookPath(filepath.Join(folder, "rustc"))
		if err != nil || !filepath.IsAbs(rustc) {
			continue
		}
		cmd := exec.CommandContext(ctx, rustc, "--print", "sysroot")
		cmd.Dir = dir // a rust-toolchain.toml there counts
		root, err := cmd.Output()
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(strings.TrimSpace(string(root)), "lib", "rustlib", rustTarget, "lib")); err != nil {
			without = or(without, rustc)
			continue
		}
		cargo, err := exec.LookPath(filepath.Join(folder, "cargo"))
		if err != nil {
			lonely = or(lonely, rustc)
			continue
		}
		return cargo, rustc, nil
	}
	switch {
	case lonely != "":
		return "", "", fault.New(fault.Precondition, "no_cargo", "building a Rust guest needs cargo, and there is none beside %s", lonely).Hint("%s", installRust)
	case without != "":
		return "", "", fault.New(fault.Precondition, "no_rust_target", "%s cannot build for WebAssembly: it has no standard library for %s", without, rustTarget).Hint("%s", installRust)
	}
	return "", "", fault.New(fault.Precondition, "no_rust", "building a Rust guest needs rustc and cargo, which are not on the PATH").
		Hint("from https://rustup.rs, then rustup target add %s; on Debian: apt-get install rustc cargo libstd-rust-dev-wasm32", rustTarget)
}

// rustNames would be taken for something else by cargo, or by the compiler.
func rustNames(name string) bool {
	return slices.Contains([]string{
		"alloc", "core", "proc_macro", "proc-macro", "std", "test", "build", "deps", "examples", "incremental",
		"abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else", "enum", "extern",
		"false", "final", "fn", "for", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub",
		"ref", "return", "self", "static", "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
		"where", "while", "yield",
	}, name)
}
