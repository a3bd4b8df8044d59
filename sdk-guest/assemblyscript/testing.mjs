// Runs the functions of a built module in plain tests under Node.js: input goes in, output or records come out, log lines go to
// stderr. Each run has an instance of its own, as with the real host; time and memory are not bounded.
//
//   const functions = await load("build/test.wasm");
//   functions.call("hello", '{"name":"Ada"}').text        what it answered; bytes has it as it is
//   functions.map("words", ["a text", "another"])         [[key, value], ...]
//   functions.reduce("total", [["a", "1"], ["a", "2"]])   [[key, value], ...]
//   functions.params = { field: "status" }                the parameters of the job's stage
//   functions.traceparent = "00-..."                      the call's trace context
//   functions.grants = { config: { currency: "EUR" } }    what a function may do: see Grants in records.mjs
//
// A function that fails throws a Failure, with a message and whether it is permanent.
import { webcrypto as crypto } from "node:crypto";
import { readFile } from "node:fs/promises";
import { Asking, Failure, Writer, groupsOf, recordsOf, splitOf, toBytes } from "./records.mjs";

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Loads a module from a file. */
export async function load(file) {
  return new Functions(await WebAssembly.compile(await readFile(file)));
}

class Functions {
  params = null;
  traceparent = "";
  grants = {};
  #module;

  constructor(module) {
    this.#module = module;
  }

  /** Runs a function from bytes to bytes. */
  call(name, input = "") {
    const { output } = this.#run(name, "bytes", toBytes(input));
    return { bytes: output.bytes(), text: output.text() };
  }

  /** Runs a mapper on parts: texts, or objects with name, offset, header and data. */
  map(name, parts) {
    return this.#run(name, "split", splitOf(parts)).records;
  }

  /** Runs a reducer or combiner on records, grouped and sorted as a job would do it, and answers what it emitted. */
  reduce(name, records) {
    return this.#run(name, "groups", groupsOf(records)).records;
  }

  /** Like reduce, for reducers that write bytes. */
  reduceToText(name, records) {
    return this.#run(name, "groups", groupsOf(records)).output.text();
  }

  /** What the module says of its functions. */
  describe() {
    return JSON.parse(this.#run("wattle_describe", "", new Uint8Array()).output.text());
  }

  #run(name, kind, input) {
    const context = { service: "test", version: 1, function: name, input: kind, traceparent: this.traceparent, params: this.params };
    const host = new Host(name, context, input, this.grants);
    const instance = new WebAssembly.Instance(this.#module, { wattle: host.imports(), wasi_snapshot_preview1: host.wasi() });
    const { memory, _initialize, wattle_call, ...functions } = instance.exports;
    host.memory = memory;
    _initialize?.();
    const run = functions[name] ?? wattle_call;
    if (!run) throw new Failure(`there is no function "${name}"`, true);
    let status;
    try {
      status = run();
    } catch (err) {
      throw new Failure(`${err.message}: ${host.error.text()}`, false, true);
    }
    if (status !== 0) throw new Failure(host.error.text(), status === 2, status !== 1 && status !== 2);
    return host;
  }
}

/** Stands in for the real host. */
class Host {
  output = new Writer();
  error = new Writer();
  records = [];
  memory = null;
  #asking;
  #context;
  #input;

  constructor(name, context, input, grants) {
    this.#asking = new Asking(name, context, grants);
    this.#context = context;
    this.#input = input;
  }

  imports() {
    const levels = ["debug", "info", "warn", "error"];
    return {
      input_len: () => BigInt(this.#context.input === "groups" ? -1 : this.#input.length),
      input_read: (at, len, off) => this.#fill(at, this.#input.subarray(Number(off), Number(off) + (len >>> 0))),
      output_write: (at, len) => this.output.put(this.#at(at, len)),
      error_write: (at, len) => this.error.put(this.#at(at, len)),
      log: (level, at, len) => console.error(`${levels[level]}: ${decoder.decode(this.#at(at, len))}`),
      emit: (at, len) => this.records.push(...recordsOf(this.#at(at, len))),
      host_call: (op, at, len) => {
        if (op === 0) return BigInt(this.#fill(at, this.#asking.reply.subarray(0, len)));
        this.#asking.ask(op, this.#at(at, len));
        return BigInt(this.#asking.code);
      },
    };
  }

  /** As much of WASI as guests without files need: what is not here is not supported. */
  wasi() {
    const known = {
      random_get: (at, len) => (crypto.getRandomValues(new Uint8Array(this.memory.buffer, at >>> 0, len)), 0),
      clock_time_get: (_clock, _precision, at) => {
        new DataView(this.memory.buffer).setBigUint64(at >>> 0, BigInt(Date.now()) * 1_000_000n, true);
        return 0;
      },
      proc_exit: (status) => {
        throw new Error(`exit status ${status}`);
      },
    };
    return new Proxy(known, { get: (all, name) => all[name] ?? (() => 52) });
  }

  #at(at, len) {
    return new Uint8Array(this.memory.buffer, at >>> 0, len >>> 0).slice();
  }

  #fill(at, b) {
    new Uint8Array(this.memory.buffer, at >>> 0, b.length).set(b);
    return b.length;
  }
}
