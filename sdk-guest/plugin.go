package sdkguest

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/wattlehq/wattle/internal/fault"
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
	if err := PluginProject(project, src, name); err != nil {
		return err
	}
	return Build(ctx, project, out)
}

// PluginProject writes such a program as a project of its own: its source in the place of the template's.
func PluginProject(dir string, src fs.FS, name string) error {
	l := pluginLanguage(src)
	if l == nil {
		return fault.New(fault.Invalid, "no_project", "the source of %s is in no language of the SDKs", name)
	}
	if err := NewProject(dir, name, l.name); err != nil {
		return err
	}
	if l.name == "go" {
		for _, f := range []string{"main.go", "main_test.go"} {
			if err := os.Remove(filepath.Join(dir, f)); err != nil {
				return err
			}
		}
	}
	return fs.WalkDir(src, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || l.name == "go" && (path.Dir(p) != "." || strings.HasSuffix(p, "_test.go")) {
			return err
		}
		b, err := fs.ReadFile(src, p)
		if err != nil {
			return err
		}
		return write(filepath.Join(dir, filepath.FromSlash(p)), bytes.ReplaceAll(b, []byte(sdkPath), []byte(name+"/wattle/guest")))
	})
}

func pluginLanguage(src fs.FS) *language {
	for _, l := range languages() {
		for _, mark := range l.marks {
			if found, _ := fs.Glob(src, mark); len(found) > 0 {
				return l
			}
		}
	}
	return nil
}
