// Package testdata holds tiny WebAssembly guests, written by hand, for the tests of any package.
//
// It does not build them: wat/README.md says how they are made. Only tests may import it.
package testdata

import (
	"embed"
	"strings"
)

//go:embed wat/*.wasm
var files embed.FS

// Wasm returns the guest of that name, such as "noop" for wat/noop.wat. It panics where there is none.
func Wasm(name string) []byte {
	b, err := files.ReadFile("wat/" + name + ".wasm")
	if err != nil {
		panic("testdata: no guest " + name + "; there are " + strings.Join(Names(), ", "))
	}
	return b
}

// Names lists the guests there are.
func Names() []string {
	entries, err := files.ReadDir("wat")
	if err != nil {
		panic(err) // an embedded folder that is there at build time is there at run time
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".wasm"))
	}
	return names
}
