package sdkguest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/internal/fault"
)

// scriptProject writes files to a folder, and answers it.
func scriptProject(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := write(filepath.Join(dir, filepath.FromSlash(name)), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// What the engine does with scripts is tested in scripts/sdks.sh: it comes from npm.
func TestBuildScriptRefuses(t *testing.T) {
	t.Parallel()
	for reason, c := range map[string]struct {
		files map[string]string
		hint  string
	}{
		"no_script":  {map[string]string{"other.js": ""}, "begins in app.js"},
		"bad_script": {map[string]string{"app.js": "\xff"}, "UTF-8"},
		"no_engine":  {map[string]string{"app.js": ""}, "npm install quickjs-wasi@"},
		"bad_engine": {map[string]string{"app.js": "", "node_modules/quickjs-wasi/quickjs.wasm": "\x00asm\x01\x00\x00\x00"}, "npm install quickjs-wasi@"},
	} {
		_, err := BuildScript(filepath.Join(scriptProject(t, c.files), "app.js"))
		if f := fault.As(err); f == nil || f.Reason != reason || !strings.Contains(f.Help, c.hint) {
			t.Errorf("%s: got %v", reason, err)
		}
	}
	if !IsScript("a/b.js") || !IsScript("b.mjs") || IsScript("b.wasm") || IsScript("js") {
		t.Error("what is a script is not told by the name")
	}
}

// A new project says what it lacks, and that can be done.
func TestNewJavaScriptProject(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "greeter")
	if err := NewProject(dir, "greeter", "js"); err != nil {
		t.Fatal(err)
	}
	if err := Build(t.Context(), dir, filepath.Join(dir, "greeter.wasm")); fault.Reason(err) != "no_engine" {
		t.Errorf("got %v", err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "package.json"))
	if name, version, _ := strings.Cut(enginePackage, "@"); err != nil || !strings.Contains(string(b), `"`+name+`": "`+version+`"`) {
		t.Errorf("package.json has another engine than the hint, %s, %v", b, err)
	}
}

func TestScriptsComeWithWhatTheyImport(t *testing.T) {
	t.Parallel()
	dir := scriptProject(t, map[string]string{
		"app.js": `import a from "./a.js"; import { b } from './sub/b.js'
			export * from "./c.js"; import "./side.js"; const d = await import( "./d.js" );
			import x from "a-package"; import y from "./missing.js"; // import "./mentioned.js"`,
		"a.js": `import "../outside.js"; import "./app.js"`, "sub/b.js": `import "./deep.js"; import "../a.js"`, "sub/deep.js": "deep",
		"c.js": "", "d.js": "", "side.js": "", "mentioned.js": "", "unused.js": "",
	})
	sources := map[string]string{}
	if err := collect(dir, "app.js", sources); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"app.js", "a.js", "sub/b.js", "sub/deep.js", "c.js", "d.js", "side.js", "mentioned.js"} {
		if _, ok := sources[name]; !ok {
			t.Errorf("%s is not there", name)
		}
		delete(sources, name)
	}
	if len(sources) > 0 {
		t.Errorf("too much is there: %v", sources)
	}
	s, err := script("app.js", map[string]string{"app.js": "\"</script>\u2028\\"})
	want := `globalThis.sources = {"__proto__":null,"app.js":"\"\u003c/script\u003e\u2028\\"};`
	if err != nil || !strings.HasPrefix(s, want) || !strings.Contains(s, `import("app.js")`) {
		t.Errorf("%s, %v", s, err)
	}
}
