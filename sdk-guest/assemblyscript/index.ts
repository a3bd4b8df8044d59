// Write Wattle functions in AssemblyScript. Register functions at the top level of assembly/index.ts, and export from there what
// the host calls:
//
//   import { Call, Emit, Groups, Parts, call, combine, map, reduce } from "./wattle";
//   export { wattle_call, wattle_describe } from "./wattle";
//
//   call("echo", "answers what it gets", (c: Call, input: Uint8Array): Uint8Array => input);
//   map("words", "emits ...", (c: Call, parts: Parts, emit: Emit): void => { ... });
//   reduce("total", "adds up", (c: Call, groups: Groups, emit: Emit): void => { ... });
//
// A function that fails says so by c.fail or c.failForGood and returns; throw is a crash, which no job tries again. It reaches no
// network and no files. Each call runs in an instance of its own: what a function leaves in variables is gone at the next call.

export { Call, Level } from "./call";
export { Entry, Response } from "./capabilities";
export { Emit } from "./emit";
export { Groups, parseInt64 } from "./groups";
export { Json } from "./json";
export { Part, Parts } from "./parts";
export { bytes, text, unixNanoseconds } from "./host";
export { call, callJson, combine, map, reduce, wattle_call, wattle_describe } from "./register";
