// Package instrument rewrites WebAssembly modules so that a host can stop them cheaply and take snapshots of them.
//
// Rewrite takes the bytes of a core module and answers the bytes of another that computes the same, but counts what it
// does in a global, calls the host whenever that global falls below zero, and exports all its mutable state under names
// that guests cannot use. It is pure: no engine, no files, no clock.
//
// It checks what it changes and what it needs to know, and takes announced numbers for lies until the bytes are there:
// whatever is in a module, Rewrite answers in time and memory bounded by the module's size. It does not check types;
// the engine that compiles the result does. Every index is checked against the original module, though, so a guest
// cannot name what was added, and a module that was invalid stays invalid.
//
// The caller must offer the functions of HookModule, must set the global FuelExport before and whenever the hook
// "slice" is called, and must call the function StartExport after instantiating where there is one. DESIGN.md says
// what costs how much, and where the checks are.
package instrument
