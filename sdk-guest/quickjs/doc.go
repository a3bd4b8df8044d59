// Package quickjs makes a guest of JavaScript: it links the engine of the npm package quickjs-wasi, some glue and the sources into one
// module that speaks Wattle's native ABI.
//
// The engine's module exports QuickJS's C functions. The glue is a few functions, assembled here, that stand between those and the
// host's imports; all else is JavaScript (sdk-guest/javascript/wattle.js). The sources are evaluated by _initialize: a host that takes
// a snapshot after it pays for the engine's start once, not with every call.
//
// It does not run anything, and it does not look at the sources: mistakes in them show when a host asks the module what it offers.
package quickjs
