package sdkguest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/wattlehq/wattle/internal/fault"
)

const installNode = "install Node.js 18 or newer from https://nodejs.org, or on Debian: apt-get install nodejs npm"

// buildAssemblyScript builds the project in dir as its asconfig.json says.
func buildAssemblyScript(ctx context.Context, dir, out string) error {
	node, err := exec.LookPath("node")
	if err != nil {
		return fault.New(fault.Precondition, "no_node", "building an AssemblyScript guest needs Node.js, which is not on the PATH").Hint("%s", installNode)
	}
	// The compiler is run without the script npm makes for it, which starts another process and would outlive a canceled build.
	tool := []string{node, "--enable-source-maps"}
	if script, ok := nodeModule(dir, filepath.Join("assemblyscript", "bin", "asc.js")); ok {
		tool = append(tool, script)
	} else if asc, err := exec.LookPath("asc"); err == nil {
		tool = []string{asc}
	} else {
		return fault.New(fault.Precondition, "no_asc", "building an AssemblyScript guest needs its compiler, asc, which is neither in the project's node_modules nor on the PATH").
			With("dir", dir).Hint("run npm install in %s", dir)
	}
	if out, err = filepath.Abs(out); err != nil {
		return err
	}
	// asc takes every path for one relative to the project.
	if out, err = filepath.Rel(dir, out); err != nil {
		return err
	}
	text, err := command(ctx, dir, nil, tool[0], append(tool[1:], "--target", "release", "--outFile", filepath.ToSlash(out))...)
	return compiled(ctx, dir, text, err, "mend what the compiler complains about")
}

// nodeModule finds a file of a package as Node.js does: in the node_modules of dir and of the folders around it.
func nodeModule(dir, file string) (string, bool) {
	for {
		path := filepath.Join(dir, "node_modules", file)
		if _, err := os.Stat(path); err == nil {
			return path, true
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", false
		}
		dir = up
	}
}
