// node v8.mjs FILE FUNCTION BYTES warm|fresh: prints the microseconds that a call takes in V8.
import { readFileSync } from "node:fs";
import { WASI } from "node:wasi";

const [file, name, bytes, how] = process.argv.slice(2);
const module = new WebAssembly.Module(readFileSync(file));
const input = new Uint8Array(Number(bytes));
const needsWASI = WebAssembly.Module.imports(module).some((i) => i.module === "wasi_snapshot_preview1");
const functionName = new TextEncoder().encode(name);
const context = new TextEncoder().encode('{"input":"bytes"}');
let memory, reply, output;

const view = (at, n) => new Uint8Array(memory.buffer, at >>> 0, n >>> 0);
const put = (at, n, from) => {
  const part = from.subarray(0, n);
  view(at, n).set(part);
  return part.length;
};
const wattle = {
  input_len: () => BigInt(input.length),
  input_read: (at, n, off) => put(at, n, input.subarray(Number(off))),
  output_write: (at, n) => { output = view(at, n).slice(); },
  error_write: () => {},
  emit: () => {},
  log: () => {},
  host_call: (op, at, n) => {
    if (op === 0) return BigInt(put(at, n, reply));
    reply = op === 1 ? context : functionName;
    return BigInt(reply.length);
  },
};

function instance() {
  const imports = { wattle };
  const wasi = needsWASI ? new WASI({ version: "preview1" }) : undefined;
  if (wasi) Object.assign(imports, wasi.getImportObject());
  const made = new WebAssembly.Instance(module, imports);
  memory = made.exports.memory;
  if (wasi && made.exports._initialize) wasi.initialize(made);
  else made.exports._initialize?.();
  return made.exports.wattle_call ?? made.exports[name];
}

let call = instance();
const once = how === "warm" ? () => call() : () => instance()();
const until = (ms) => {
  let n = 0;
  const start = performance.now();
  for (;;) {
    if (once() !== 0) throw new Error("the call failed");
    n++;
    const took = performance.now() - start;
    if (took > ms) return (took * 1000) / n;
  }
};
until(150);
console.log(until(150));
