package sdkguest

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// BuildPlugin builds one of the repository's own guest programs from its source in src, away from the repository: beside a
// copy of the SDK, in a folder it removes again. It is how an installed binary has guests to show.
func BuildPlugin(ctx context.Context, src fs.FS, name, out string) error {
	dir, err := os.MkdirTemp("", "wattle-"+name+"-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	project := filepath.Join(dir, name)
	if err := NewProject(project, name, "go"); err != nil {
		return err
	}
	for _, f := range []string{"main.go", "main_test.go"} {
		if err := os.Remove(filepath.Join(project, f)); err != nil {
			return err
		}
	}
	files, err := fs.Glob(src, "*.go")
	if err != nil {
		return err
	}
	for _, f := range files {
		if strings.HasSuffix(f, "_test.go") {
			continue
		}
		b, err := fs.ReadFile(src, f)
		if err != nil {
			return err
		}
		if err := write(filepath.Join(project, f), bytes.ReplaceAll(b, []byte(sdkPath), []byte(name+"/wattle/guest"))); err != nil {
			return err
		}
	}
	return BuildGo(ctx, project, out)
}
