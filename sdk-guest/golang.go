package sdkguest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/wattlehq/wattle/internal/fault"
)

// BuildGo builds the Go guest in dir into the file out. What the compiler says is the message of the fault, as it is.
func BuildGo(ctx context.Context, dir, out string) error {
	tool, err := exec.LookPath("go")
	if err != nil {
		return fault.New(fault.Precondition, "no_go", "building a Go guest needs the go command, which is not on the PATH").
			Hint("install Go 1.24 or newer from https://go.dev/dl/ and try again")
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	// -buildvcs looks at the repository around the project, which may be broken or slow, and changes the module's
	// digest with every commit.
	env := []string{"GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=" + strings.TrimSpace(os.Getenv("GOFLAGS")+" -buildvcs=false")}
	text, err := command(ctx, dir, env, tool, "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	return compiled(ctx, dir, text, err, "mend what the compiler complains about; Go 1.24 or newer is needed")
}

// sdkPath is where the Go SDK is imported from in this repository, and what a copy's own path replaces.
const sdkPath = "github.com/wattlehq/wattle/sdk-guest/go"

// goFile leaves out the SDK's own tests and makes the rest a part of the project's module.
func goFile(file string, b []byte, project string) []byte {
	if strings.HasSuffix(file, "_test.go") || path.Ext(file) != ".go" {
		return nil
	}
	return bytes.ReplaceAll(b, []byte(sdkPath), []byte(project+"/wattle/guest"))
}

// goNames would be taken for something else by the go command, or hide a package of the standard library.
func goNames(name string) bool {
	switch name {
	case "main", "test", "std", "cmd", "all", "tool", "work", "internal", "vendor", "testdata",
		"archive", "bufio", "builtin", "bytes", "compress", "container", "context", "crypto", "database", "debug",
		"embed", "encoding", "errors", "expvar", "flag", "fmt", "go", "hash", "html", "image", "index", "io", "iter", "log",
		"maps", "math", "mime", "net", "os", "path", "plugin", "reflect", "regexp", "runtime", "slices", "sort", "strconv",
		"strings", "structs", "sync", "syscall", "testing", "text", "time", "unicode", "unique", "unsafe", "weak":
		return true
	}
	return false
}
