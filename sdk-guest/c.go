package sdkguest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/wattlehq/wattle/internal/fault"
)

const installC = "on Debian: apt-get install clang lld wasi-libc libclang-rt-dev-wasm32; elsewhere unpack a release of " +
	"https://github.com/WebAssembly/wasi-sdk and set WASI_SDK_PATH to its folder"

// buildC builds all C files right in dir but tests, with the clang of $WASI_SDK_PATH or the one on the PATH.
func buildC(ctx context.Context, dir, out string) error {
	clang, err := findClang()
	if err != nil {
		return err
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	all, err := filepath.Glob(filepath.Join(dir, "*.c"))
	if err != nil {
		return err
	}
	// The stack comes first in memory, so that one that overflows is stopped rather than runs into the data.
	args := []string{
		"--target=wasm32-wasi", "-O2", "-mexec-model=reactor", "-Wl,--strip-all", "-Wl,--stack-first", "-Wl,-z,stack-size=262144", "-o", out,
	}
	sources := 0
	for _, f := range all {
		if f = filepath.Base(f); !strings.HasSuffix(f, "_test.c") {
			args = append(args, "./"+f)
			sources++
		}
	}
	if sources == 0 {
		return fault.New(fault.Invalid, "no_project", "%s holds C tests, but no other C files to build", dir).Hint("wattle new NAME --lang c shows how a project looks")
	}
	text, err := command(ctx, dir, nil, clang, args...)
	if err != nil && ctx.Err() == nil {
		if lacks := cLacks(ctx, clang); lacks != nil {
			return lacks
		}
	}
	return compiled(ctx, dir, text, err, "mend what the compiler complains about")
}

func findClang() (string, error) {
	if sdk := os.Getenv("WASI_SDK_PATH"); sdk != "" {
		clang := filepath.Join(sdk, "bin", "clang")
		if _, err := exec.LookPath(clang); err != nil {
			return "", fault.New(fault.Precondition, "no_clang", "WASI_SDK_PATH is set, but there is no compiler at %s", clang).Hint("%s", installC)
		}
		return clang, nil
	}
	clang, err := exec.LookPath("clang")
	if err != nil {
		return "", fault.New(fault.Precondition, "no_clang", "building a C guest needs clang, which is not on the PATH").Hint("%s", installC)
	}
	return clang, nil
}

// cLacks tells a clang that cannot build anything for WebAssembly from one that complains about the project.
func cLacks(ctx context.Context, clang string) error {
	dir, err := os.MkdirTemp("", "wattle-c-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "probe.c")
	if err := os.WriteFile(file, []byte("#include <stdlib.h>\nint probe(long double x) { return abs((int)(x * x)); }\n"), 0o600); err != nil {
		return err
	}
	text, err := command(ctx, dir, nil, clang, "--target=wasm32-wasi", "-mexec-model=reactor", "-Wl,--export=probe", "-o", file+".wasm", file)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	f := fault.New(fault.Precondition, "no_wasi_libc", "%s cannot build for WebAssembly: %s", clang, or(strings.TrimSpace(string(text)), err.Error())).Hint("%s", installC)
	f.Cause = err
	return f
}

var ownInclude = regexp.MustCompile(`(?m)^#include "(records|input|json|capabilities)\.h"\n`)

// cFile makes one header of the SDK: here it is in pieces that can be read at once, a project has it as one file.
func cFile(file string, b []byte, _ string) []byte {
	switch file {
	case "wattle_test.h":
		return b
	case "wattle.h":
		return ownInclude.ReplaceAllFunc(b, func(line []byte) []byte {
			piece, err := FS.ReadFile("c/" + string(ownInclude.FindSubmatch(line)[1]) + ".h")
			if err != nil {
				panic(err) // it is embedded
			}
			return append(piece, '\n')
		})
	}
	return nil
}
