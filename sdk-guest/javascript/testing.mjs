// Runs the functions of a program in plain tests under Node.js, without WebAssembly: input goes in, output or records come out, log
// lines go to stderr. Time and memory are not bounded, and what functions leave in variables stays.
//
//   import * as app from "../app.js";
//   const functions = load(app);
//   (await functions.call("hello", '{"name":"Ada"}')).text        what it answered; bytes has it as it is
//   await functions.map("words", ["a text", "another"])           [[key, value], ...]
//   await functions.reduce("total", [["a", "1"], ["a", "2"]])     [[key, value], ...]
//   functions.params = { field: "status" }                        the parameters of the job's stage
//   functions.traceparent = "00-..."                              the call's trace context
//   functions.grants = { config: { currency: "EUR" } }            what a function may do: see Grants in records.mjs
//
// A function that fails throws a Failure, with a message and whether it is permanent.
import { Asking, Failure, Writer, groupsOf, recordsOf, splitOf, toBytes } from "./records.mjs";
import { Program } from "./wattle.js";

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Takes the functions that a module exports. */
export function load(app) {
  return new Functions(app);
}

class Functions {
  params = null;
  traceparent = "";
  grants = {};
  #app;

  constructor(app) {
    this.#app = app;
  }

  /** Runs a function from bytes to bytes. */
  async call(name, input = "") {
    const { output } = await this.#run(name, "bytes", toBytes(input));
    return { bytes: output.bytes(), text: output.text() };
  }

  /** Runs a mapper on parts: texts, or objects with name, offset, header and data. */
  async map(name, parts) {
    return (await this.#run(name, "split", splitOf(parts))).records;
  }

  /** Runs a reducer or combiner on records, grouped and sorted as a job would do it, and answers what it emitted. */
  async reduce(name, records) {
    return (await this.#run(name, "groups", groupsOf(records))).records;
  }

  /** Like reduce, for reducers that write bytes. */
  async reduceToText(name, records) {
    return (await this.#run(name, "groups", groupsOf(records))).output.text();
  }

  /** What the program says of its functions. */
  async describe() {
    return JSON.parse((await this.#run("", "", new Uint8Array())).output.text());
  }

  async #run(name, kind, input) {
    const context = { service: "test", version: 1, function: name, input: kind, traceparent: this.traceparent, params: this.params };
    const host = new Host(name, context, input, this.grants);
    const program = new Program(host);
    program.load(this.#app);
    await program.begin(name === "");
    const status = program.status();
    if (status !== 0) throw new Failure(host.error.text(), status === 2);
    return host;
  }
}

/** Stands in for the functions that the engine gets from the module around it. */
class Host {
  output = new Writer();
  error = new Writer();
  records = [];
  #asking;
  #context;
  #input;

  constructor(name, context, input, grants) {
    this.#asking = new Asking(name, context, grants);
    this.#context = context;
    this.#input = input;
  }

  /** How long the input is, or -1 where nobody knows. */
  inputLength() {
    return this.#context.input === "groups" ? -1 : this.#input.length;
  }

  /** Up to n bytes of the input. */
  read(off, n) {
    return this.#input.slice(off, off + n);
  }

  /** To 0 the output, 1 the error, 2 the records, from 3 on the log. */
  sendBytes(to, b) {
    if (to === 0) this.output.put(b);
    else if (to === 1) this.error.put(b);
    else if (to === 2) this.records.push(...recordsOf(b));
    else console.error(`${["debug", "info", "warn", "error"][to - 3]}: ${decoder.decode(b)}`);
  }

  sendText(to, text) {
    this.sendBytes(to, toBytes(text));
  }

  /** The text whose UTF-8 lies between two places. */
  text(b, from, to) {
    return decoder.decode(b.subarray(from, to));
  }

  bytes(text) {
    return toBytes(text);
  }

  /** Puts a text after its length into b, and answers where it ends; -1 where it does not fit. */
  put(b, at, text) {
    const w = new Writer();
    w.counted(text);
    const item = w.bytes();
    if (at + item.length > b.length) return -1;
    b.set(item, at);
    return at + item.length;
  }

  /** Makes a request of the host, and answers the reply; askCode tells whether it is one. */
  ask(op, request) {
    this.#asking.ask(op, request);
    return this.#asking.reply;
  }

  askCode() {
    return this.#asking.code;
  }

  random() {
    return Math.random();
  }
}
