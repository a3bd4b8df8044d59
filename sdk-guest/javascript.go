package sdkguest

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"unicode/utf8"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/sdk-guest/quickjs"
)

// enginePackage is the npm package whose engine runs JavaScript, in the version that the tests use.
const enginePackage = "quickjs-wasi@3.6.2"

// scriptEntry is the program's first file in a project.
const scriptEntry = "app.js"

// IsScript tells whether a file is JavaScript, by its name.
func IsScript(file string) bool {
	ext := filepath.Ext(file)
	return ext == ".js" || ext == ".mjs"
}

func buildJavaScript(_ context.Context, dir, out string) error {
	module, err := BuildScript(filepath.Join(dir, scriptEntry))
	if err != nil {
		return err
	}
	return write(out, module)
}

// BuildScript makes a module of a JavaScript file and of those that it imports: the engine, which it takes from the node_modules of
// the file's folder or of one around it, with the sources inside.
func BuildScript(file string) ([]byte, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	dir, entry := filepath.Split(file)
	sources := map[string]string{}
	if err := collect(dir, entry, sources); err != nil {
		return nil, err
	}
	for _, name := range []string{"wattle.js", "records.js", "capabilities.js"} {
		// A project's copy is its own; a file by itself has none.
		b, err := os.ReadFile(filepath.Join(dir, "wattle", name))
		if errors.Is(err, fs.ErrNotExist) {
			b, err = FS.ReadFile("javascript/" + name)
		}
		if err != nil {
			return nil, err
		}
		sources["wattle/"+name] = string(b)
	}
	wasm, ok := nodeModule(filepath.Clean(dir), filepath.Join("quickjs-wasi", "quickjs.wasm"))
	if !ok {
		return nil, fault.New(fault.Precondition, "no_engine", "a JavaScript guest is built around the engine of the npm package quickjs-wasi, which is not in %s", filepath.Join(dir, "node_modules")).
			Hint("run npm install %s in %s; npm comes with Node.js, on Debian: apt-get install nodejs npm", enginePackage, filepath.Clean(dir))
	}
	engine, err := os.ReadFile(wasm)
	if err != nil {
		return nil, err
	}
	script, err := script(entry, sources)
	if err != nil {
		return nil, err
	}
	module, err := quickjs.Link(engine, script)
	if err != nil {
		f := fault.New(fault.Precondition, "bad_engine", "%s is not an engine that can be used: %w", wasm, err)
		return nil, f.Hint("run npm install %s in %s", enginePackage, filepath.Clean(dir))
	}
	return module, nil
}

// script writes what the engine evaluates first: all sources, and the start of the program.
func script(entry string, sources map[string]string) (string, error) {
	all, err := json.Marshal(sources)
	if err != nil {
		return "", err
	}
	name, err := json.Marshal(entry)
	if err != nil {
		return "", err
	}
	return `globalThis.sources = {"__proto__":null,` + string(all[1:]) + `;
import("wattle/wattle.js").then(({ start }) => start(globalThis.host, () => import(` + string(name) + `)));`, nil
}

// imports finds the files of the project that a source names. What it takes for an import and is none does no harm: at worst a file
// is in the module that nobody asks for.
var imports = regexp.MustCompile(`\b(?:from|import)\s*\(?\s*["'](\.{1,2}/[^"'\n]+)["']`)

// collect reads a file and those that it imports. A file that is missing shows when the program is started, with the line that
// imports it.
func collect(dir, name string, sources map[string]string) error {
	if _, ok := sources[name]; ok {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil && len(sources) > 0 {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Invalid, "no_script", "there is no file %s", filepath.Join(dir, name)).
			Hint("a JavaScript project begins in %s; wattle new NAME --lang javascript makes one", scriptEntry)
	}
	if err != nil {
		return err
	}
	if !utf8.Valid(b) {
		return fault.New(fault.Invalid, "bad_script", "%s is not UTF-8", filepath.Join(dir, name)).Hint("save it as UTF-8")
	}
	sources[name] = string(b)
	for _, m := range imports.FindAllStringSubmatch(string(b), -1) {
		next := path.Join(path.Dir(name), m[1])
		if !filepath.IsLocal(filepath.FromSlash(next)) {
			continue // outside of the project: the program says so when it is started
		}
		if err := collect(dir, next, sources); err != nil {
			return err
		}
	}
	return nil
}
