// Package plugins carries the source of the first-party guest programs below it, each an example to copy. It builds and runs
// nothing.
package plugins

import "embed"

// FS has a folder for each plugin. polyglot has the same program in every other language: echo and the word count.
//
//go:embed */*.go polyglot
var FS embed.FS
