package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	sdkguest "github.com/wattlehq/wattle/sdk-guest"
)

// guestSource has the same functions in every language.
//
//go:embed guests
var guestSource embed.FS

// guestLanguages are in the order of the tables.
var guestLanguages = []string{"c", "rust", "as", "go"}

// buildGuest builds the measured functions in one language.
func buildGuest(ctx context.Context, lang string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "wattle-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	src, err := fs.Sub(guestSource, "guests/"+lang)
	if err != nil {
		return nil, err
	}
	project := filepath.Join(dir, "calls")
	if err := sdkguest.PluginProject(project, src, "calls"); err != nil {
		return nil, err
	}
	if lang == "as" {
		cmd := exec.CommandContext(ctx, "npm", "install", "--no-audit", "--no-fund", "--silent")
		cmd.Dir = project
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("npm install: %w: %s", err, out)
		}
	}
	file := filepath.Join(dir, "calls.wasm")
	if err := sdkguest.Build(ctx, project, file); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}
