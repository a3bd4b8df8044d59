package sdkguest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// Build builds the project in dir, whatever its language is, into the file out.
func Build(ctx context.Context, dir, out string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	l, err := languageOf(dir)
	if err != nil {
		return err
	}
	return l.build(ctx, dir, out)
}

// languageOf tells a project's language by its files.
func languageOf(dir string) (*language, error) {
	for _, l := range languages() {
		for _, mark := range l.marks {
			if found, _ := filepath.Glob(filepath.Join(dir, mark)); len(found) > 0 {
				return l, nil
			}
		}
	}
	if _, err := os.Stat(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return nil, fault.New(fault.Invalid, "no_project", "%s holds no guest project", dir).
		With("dir", dir).Hint("wattle new NAME makes one")
}

// command runs a tool in dir and answers all it says.
func command(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), env...)
	cmd.WaitDelay = time.Second // what a canceled tool leaves running is not waited for
	return cmd.CombinedOutput()
}

// compiled makes what a compiler said when it failed an error.
func compiled(ctx context.Context, dir string, text []byte, err error, hint string) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return nil
	}
	f := fault.New(fault.Invalid, "build_failed", "%s", or(strings.TrimSpace(string(text)), err.Error())).With("dir", dir).Hint("%s", hint)
	f.Cause = err
	return f
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
