// Package sdkguest carries the SDKs for guests: it starts new projects with a copy of one and builds them.
//
// It does not run guests. Building needs the language's tools on the machine; starting a project needs nothing.
package sdkguest

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"

	"github.com/wattlehq/wattle/internal/fault"
)

// FS holds the SDKs, a folder for each language.
//
//go:embed all:go c/*.h rust/Cargo.toml rust/src assemblyscript javascript node
var FS embed.FS

//go:embed all:templates
var templates embed.FS

// language is what there is to know about one.
type language struct {
	name    string
	aliases []string
	marks   []string // one of these files tells that a folder is a project of the language
	sdk     string   // the folder of a project that takes the copy of the SDK
	node    bool     // tests run under Node.js
	test    string   // what runs a project's tests
	// taken tells whether a project of that name would get in the way of something.
	taken func(name string) bool
	// copied is a file of the SDK as a project gets it, nil where it gets none.
	copied func(file string, b []byte, project string) []byte
	build  func(ctx context.Context, dir, out string) error
}

// languages are in the order in which a project's files are looked at.
func languages() []*language {
	return []*language{
		{
			name: "go", marks: []string{"go.mod", "*.go"}, sdk: "wattle/guest", test: "go test ./...",
			taken: goNames, copied: goFile, build: BuildGo,
		},
		{
			name: "rust", marks: []string{"Cargo.toml", "src/lib.rs"}, sdk: "wattle", test: "cargo test",
			taken: rustNames, build: buildRust,
		},
		{
			name: "assemblyscript", aliases: []string{"as"}, marks: []string{"asconfig.json", "assembly/index.ts"}, sdk: "assembly/wattle",
			test: "npm install && npm test", node: true, build: buildAssemblyScript,
		},
		{
			name: "c", marks: []string{"*.c"}, sdk: "wattle", test: "make test",
			copied: cFile, build: buildC,
		},
		{
			name: "javascript", aliases: []string{"js"}, marks: []string{scriptEntry}, sdk: "wattle",
			test: "npm install && npm test", node: true, build: buildJavaScript,
		},
	}
}

// projectName is what works as a module path, a folder and a part of a file name alike.
var projectName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// Languages are those NewProject knows.
func Languages() []string {
	var names []string
	for _, l := range languages() {
		names = append(names, l.name)
	}
	return names
}

// TestCommand is what runs the tests of a project that NewProject wrote.
func TestCommand(lang string) string {
	if l := languageNamed(lang); l != nil {
		return l.test
	}
	return ""
}

// languageNamed answers nil where there is none of that name; "" is "go".
func languageNamed(name string) *language {
	for _, l := range languages() {
		if l.name == or(name, "go") || slices.Contains(l.aliases, name) {
			return l
		}
	}
	return nil
}

// NewProject writes a project with one function to dir, which must be empty or not be there. lang "" is "go".
func NewProject(dir, name, lang string) error {
	l := languageNamed(lang)
	if l == nil {
		return fault.New(fault.Invalid, "unknown_language", "there is no template for the language %q", lang).
			With("language", lang).Hint("choose one of: %s; other languages can use the ABI directly, see docs/abi.md", strings.Join(Languages(), ", "))
	}
	if !projectName.MatchString(name) || name == "wattle" || l.taken != nil && l.taken(name) {
		return fault.New(fault.Invalid, "bad_name", "%q cannot be the name of a project", name).
			With("name", name).Hint("use small letters, digits, - and _, beginning with a letter, up to 63, and none of the names that %s keeps for itself", l.name)
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fault.New(fault.Exists, "dir_not_empty", "the folder %s is not empty", dir).
			With("dir", dir).Hint("choose another folder, or empty this one")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into the new project's folder: %w", err)
	}
	if err := l.copyTemplates(dir, name); err != nil {
		return fmt.Errorf("write the new project: %w", err)
	}
	folders := []string{l.name}
	if l.node {
		folders = append(folders, "node")
	}
	for _, folder := range folders {
		if err := l.copySDK(folder, filepath.Join(dir, filepath.FromSlash(l.sdk)), name); err != nil {
			return fmt.Errorf("write the SDK into the new project: %w", err)
		}
	}
	return nil
}

func (l *language) copyTemplates(dir, name string) error {
	from := "templates/" + l.name
	return fs.WalkDir(templates, from, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := templates.ReadFile(p)
		if err != nil {
			return err
		}
		t, err := template.New(p).Option("missingkey=error").Parse(string(b))
		if err != nil {
			return err
		}
		var out bytes.Buffer
		if err := t.Execute(&out, struct{ Name string }{name}); err != nil {
			return err
		}
		to := strings.TrimSuffix(strings.TrimPrefix(p, from+"/"), ".tmpl")
		if to == "gitignore" {
			to = ".gitignore"
		}
		return write(filepath.Join(dir, filepath.FromSlash(to)), out.Bytes())
	})
}

func (l *language) copySDK(folder, dir, name string) error {
	return fs.WalkDir(FS, folder, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := FS.ReadFile(p)
		if err != nil {
			return err
		}
		file := strings.TrimPrefix(p, folder+"/")
		if l.copied != nil {
			if b = l.copied(file, b, name); b == nil {
				return nil
			}
		}
		return write(filepath.Join(dir, filepath.FromSlash(file)), b)
	})
}

func write(file string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}
