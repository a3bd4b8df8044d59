// Package sdkguest carries the SDK for guests: it starts new projects with a copy of it and builds them.
//
// It does not run guests. Building needs the go command on the machine; starting a project needs nothing.
package sdkguest

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/wattlehq/wattle/internal/fault"
)

// FS holds the SDKs, a folder for each language.
//
//go:embed all:go
var FS embed.FS

//go:embed all:templates
var templates embed.FS

// sdkPath is where the SDK is imported from in this repository, and what a copy's own path replaces.
const sdkPath = "github.com/wattlehq/wattle/sdk-guest/go"

// projectName is what works as a module path, a folder and a part of a file name alike.
var projectName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// reserved would be taken for something else by the go command.
var reserved = map[string]bool{"main": true, "test": true, "std": true, "cmd": true, "all": true, "tool": true, "work": true, "internal": true, "vendor": true, "testdata": true}

// Languages are those NewProject knows.
func Languages() []string { return []string{"go"} }

// NewProject writes a project with one function to dir, which must be empty or not be there. lang "" is "go".
func NewProject(dir, name, lang string) error {
	if lang == "" {
		lang = "go"
	}
	if lang != "go" {
		return fault.New(fault.Invalid, "unknown_language", "there is no template for the language %q", lang).
			With("language", lang).Hint("choose one of: %s; other languages can use the ABI directly, see docs/abi.md", strings.Join(Languages(), ", "))
	}
	if !projectName.MatchString(name) || reserved[name] || standardPackage(name) {
		return fault.New(fault.Invalid, "bad_name", "%q cannot be the name of a project", name).
			With("name", name).Hint("use small letters, digits, - and _, beginning with a letter, up to 63, and none of the names that Go keeps for itself")
	}
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fault.New(fault.Exists, "dir_not_empty", "the folder %s is not empty", dir).
			With("dir", dir).Hint("choose another folder, or empty this one")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look into the new project's folder: %w", err)
	}
	if err := copyTemplates(dir, name); err != nil {
		return fmt.Errorf("write the new project: %w", err)
	}
	if err := copySDK(filepath.Join(dir, "wattle", "guest"), name); err != nil {
		return fmt.Errorf("write the SDK into the new project: %w", err)
	}
	return nil
}

// standardPackage tells whether a module of that name would hide a package of the standard library.
func standardPackage(name string) bool {
	switch name {
	case "archive", "bufio", "builtin", "bytes", "cmp", "compress", "container", "context", "crypto", "database", "debug",
		"embed", "encoding", "errors", "expvar", "flag", "fmt", "go", "hash", "html", "image", "index", "io", "iter", "log",
		"maps", "math", "mime", "net", "os", "path", "plugin", "reflect", "regexp", "runtime", "slices", "sort", "strconv",
		"strings", "structs", "sync", "syscall", "testing", "text", "time", "unicode", "unique", "unsafe", "weak":
		return true
	}
	return false
}

func copyTemplates(dir, name string) error {
	const from = "templates/go"
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

// copySDK copies the SDK without its own tests, as part of module name.
func copySDK(dir, name string) error {
	return fs.WalkDir(FS, "go", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(p, "_test.go") || path.Ext(p) != ".go" {
			return err
		}
		b, err := FS.ReadFile(p)
		if err != nil {
			return err
		}
		b = bytes.ReplaceAll(b, []byte(sdkPath), []byte(name+"/wattle/guest"))
		return write(filepath.Join(dir, filepath.FromSlash(strings.TrimPrefix(p, "go/"))), b)
	})
}

func write(file string, b []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o644)
}

// BuildGo builds the Go guest in dir into the file out. What the compiler says is the message of the fault, as it is.
func BuildGo(ctx context.Context, dir, out string) error {
	tool, err := exec.LookPath("go")
	if err != nil {
		return fault.New(fault.Precondition, "no_go", "building a Go guest needs the go command, which is not on the PATH").
			Hint("install Go 1.24 or newer from https://go.dev/dl/ and try again")
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, tool, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = dir
	// -buildvcs looks at the repository around the project, which may be broken or slow, and changes the module's
	// digest with every commit.
	cmd.Env = append(cmd.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -buildvcs=false"))
	text, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		f := fault.New(fault.Invalid, "build_failed", "%s", or(strings.TrimSpace(string(text)), err.Error())).
			With("dir", dir).Hint("mend what the compiler complains about; Go 1.24 or newer is needed")
		f.Cause = err
		return f
	}
	return nil
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
