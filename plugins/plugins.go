// Package plugins carries the source of the first-party guest programs below it, each an example to copy. It builds and runs
// nothing.
package plugins

import "embed"

// FS has a folder for each plugin.
//
//go:embed */*.go
var FS embed.FS
