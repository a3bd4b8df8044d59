// Runs functions written in JavaScript. Every function that a program exports is one for callers:
//
//   export function hello(input, ctx) { return { message: `Hello, ${input.json().name}!` }; }
//   hello.description = "greets whoever is named";
//
//   export function words(parts, emit, ctx) { for (const part of parts) for (const line of part.lines()) emit(line, 1); }
//   words.kind = "map";
//
//   export function total(groups, emit, ctx) { for (const group of groups) emit(group.key, group.sum()); }
//   total.kind = "reduce";  // or "combine"
//
// A function that throws fails, and a job tries again, but for errors that ctx.permanent makes. Functions may be async, but there is
// nothing to wait for: they reach no network, no files and no timers. Each call runs in an instance of its own: what a function
// leaves in variables is gone at the next call, and what the program does at its top level is done once, when it is pushed.
//
// The same file runs in the engine, where host is made of C functions, and in tests, where testing.mjs stands in for it.

import { Capabilities } from "./capabilities.js";
import { BLOCK, Groups, Parts, PermanentError, concat, emitter } from "./records.js";

// Where host.sendText and host.sendBytes send to; EMIT is 2.
const OUTPUT = 0;
const ERROR = 1;
const LOG = 3;
const DONE = 0;
const FAILED = 1;
const FAILED_FOR_GOOD = 2;
const KINDS = ["call", "map", "combine", "reduce"];

/** The input of a call. */
class Input {
  #host;
  #ctx;
  #all;

  constructor(host, ctx) {
    this.#host = host;
    this.#ctx = ctx;
  }

  /** The input as a Uint8Array. */
  bytes() {
    if (!this.#all) {
      const length = this.#host.inputLength();
      const blocks = [];
      for (let off = 0; off !== length; ) {
        const block = this.#host.read(off, length < 0 ? BLOCK : length - off);
        if (block.length === 0) break;
        blocks.push(block);
        off += block.length;
      }
      this.#all = concat(blocks);
    }
    return this.#all;
  }

  /** The input as a string. */
  text() {
    const b = this.bytes();
    return this.#host.text(b, 0, b.length);
  }

  /** What the input says in JSON; undefined where there is no input at all. */
  json() {
    const text = this.text();
    if (text === "") return undefined;
    try {
      return JSON.parse(text);
    } catch (err) {
      throw new PermanentError(`the input is not JSON: ${err.message}`);
    }
  }

  /** The parts of a split, for functions of a collect stage. */
  parts() {
    this.#ctx.wants("split");
    return new Parts(this.#host);
  }
}

/** What the host tells of a call, its log and its output, and what else can be asked of the host. */
class Context extends Capabilities {
  #host;
  #told;

  constructor(host, name) {
    super(host);
    this.#host = host;
    /** The name the function was called by. */
    this.function = name;
  }

  // Asked for once, and only in calls that want to know.
  get #context() {
    this.#told ??= JSON.parse(told(this.#host, 1) || "{}");
    return this.#told;
  }

  get service() {
    return this.#context.service ?? "";
  }

  get version() {
    return this.#context.version ?? 0;
  }

  /** The id of the job this call belongs to; empty outside of jobs. */
  get job() {
    return this.#context.job ?? "";
  }

  get stage() {
    return this.#context.stage ?? "";
  }

  /** The number of the task in its stage. */
  get task() {
    return this.#context.task ?? 0;
  }

  /** Counts up from 1 with every try of the task; 0 outside of jobs. */
  get attempt() {
    return this.#context.attempt ?? 0;
  }

  /** When the host will stop the call. */
  get deadline() {
    return new Date(this.#context.deadline_unix_ms ?? 0);
  }

  /**
   * The call's W3C trace context. Pass it on as the header or field "traceparent" to what is called other than by the host; calls and HTTP
   * requests made through the host carry it already.
   */
  get traceparent() {
    return this.#context.traceparent ?? "";
  }

  /** The parameters of the job's stage: an object of strings. */
  get params() {
    return this.#context.params ?? {};
  }

  /** Logs one line; ctx.log.debug, .warn and .error do so at other levels. */
  log = Object.assign((...args) => this.#log(1, args), {
    debug: (...args) => this.#log(0, args),
    warn: (...args) => this.#log(2, args),
    error: (...args) => this.#log(3, args),
  });

  #log(level, args) {
    this.#host.sendText(LOG + level, args.map(show).join(" "));
  }

  /** Appends to the output, before what the function answers. A reducer writes or emits, not both. */
  write(output) {
    this.wrote = true;
    if (typeof output === "string") this.#host.sendText(OUTPUT, output);
    else if (output.length > 0) this.#host.sendBytes(OUTPUT, output);
  }

  /** Makes an error to throw: a job does not try again. */
  permanent(message) {
    return new PermanentError(message);
  }

  /** Checks that the function runs where it can: the input of another kind would be read as nonsense. */
  wants(input) {
    const got = this.#context.input || input;
    if (got !== input) {
      throw new PermanentError(
        `function ${this.function} reads ${input}, but was given ${got}: run it in a stage of a job that fits its kind`,
      );
    }
  }
}

/** A program: its functions, and one call of one of them. */
export class Program {
  #host;
  #functions = new Map();
  #broken = "the program is not loaded: a promise at its top level is never settled";
  #status = -1;

  constructor(host) {
    this.#host = host;
  }

  /** Takes over what a module exports. */
  load(app) {
    this.#broken = "";
    for (const name of Object.keys(app).sort()) {
      const f = app[name];
      if (typeof f !== "function" || name === "default" || name.startsWith("_")) continue;
      const kind = f.kind ?? "call";
      if (!KINDS.includes(kind)) return this.fail(`function ${name} is of the unknown kind "${kind}"; the kinds are ${KINDS.join(", ")}`);
      this.#functions.set(name, { f, kind, description: f.description ?? "" });
    }
    return this.#functions.size > 0 ? undefined : this.fail("the program exports no functions");
  }

  /** The program cannot be used: whatever is asked of it, it says why. */
  fail(why) {
    this.#broken = show(why);
  }

  /** Begins to run the function that the host names, or to describe all. Answers a promise if the function is async. */
  begin(describe) {
    this.#status = -1;
    try {
      if (this.#broken) throw new PermanentError(this.#broken);
      const pending = describe ? this.#describe() : this.#call();
      if (typeof pending?.then === "function") return pending.then(() => this.#end(DONE), (err) => this.#ended(err));
      this.#end(DONE);
    } catch (err) {
      this.#ended(err);
    }
    return undefined;
  }

  /** The status of the ABI, once all promises are settled. */
  status() {
    if (this.#status < 0) this.#ended(new PermanentError("the function answers a promise that is never settled: there is nothing to wait for"));
    return this.#status;
  }

  #end(status) {
    this.#status = status;
  }

  #ended(err) {
    this.#host.sendText(ERROR, err instanceof PermanentError ? err.message : show(err));
    this.#end(err?.permanent ? FAILED_FOR_GOOD : FAILED);
  }

  #describe() {
    const functions = [...this.#functions].map(([name, { kind, description }]) => ({ name, kind, description }));
    this.#host.sendText(OUTPUT, JSON.stringify({ abi: 1, functions }));
  }

  #call() {
    const name = told(this.#host, 2);
    const found = this.#functions.get(name);
    if (!found) throw new PermanentError(`there is no function "${name}"; exported are: ${[...this.#functions.keys()].join(", ")}`);
    const ctx = new Context(this.#host, name);
    if (found.kind === "call") return after(found.f(new Input(this.#host, ctx), ctx), (output) => write(ctx, output));
    ctx.wants(found.kind === "map" ? "split" : "groups");
    const emit = emitter(this.#host);
    return after(found.f(found.kind === "map" ? new Parts(this.#host) : new Groups(this.#host), emit, ctx), () => {
      emit.finish();
      if (emit.emitted && ctx.wrote) {
        throw new PermanentError("the function emitted records and wrote to its output; it may do one of them only");
      }
    });
  }
}

/** The reply of an operation that takes no request. */
function told(host, op) {
  const b = host.ask(op, new Uint8Array(1).subarray(1));
  return host.text(b, 0, b.length);
}

function after(value, then) {
  return typeof value?.then === "function" ? value.then(then) : then(value);
}

function write(ctx, output) {
  if (output === undefined) return;
  if (output instanceof ArrayBuffer) output = new Uint8Array(output);
  ctx.write(typeof output === "string" || output instanceof Uint8Array ? output : JSON.stringify(output));
}

/** A value as people read it: errors with the stack of the program's own functions. */
function show(v) {
  if (v instanceof Error) {
    const lines = (v.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
    const own = lines.findIndex((line) => /\bwattle\/(wattle|records)\.js|\btesting\.mjs/.test(line));
    if (own >= 0) lines.splice(own);
    return [String(v), ...lines].join("\n").trimEnd();
  }
  if (typeof v === "string") return v;
  try {
    return JSON.stringify(v) ?? String(v);
  } catch {
    return String(v);
  }
}

/** Runs in the engine: makes what programs expect of an environment, and waits for the host. */
export function start(host, load) {
  const program = new Program(host);
  host.ready((op) => (op === 0 ? program.status() : (program.begin(op === 2), 0)));
  delete globalThis.host;

  // The engine's own generator would give every call the same numbers: it is seeded before the host takes its snapshot.
  Math.random = () => host.random();
  const log = (level) => (...args) => host.sendText(LOG + level, args.map(show).join(" "));
  globalThis.console = { debug: log(0), log: log(1), info: log(1), warn: log(2), error: log(3) };
  globalThis.TextEncoder = class TextEncoder {
    encoding = "utf-8";
    encode(text = "") {
      return host.bytes(String(text));
    }
  };
  globalThis.TextDecoder = class TextDecoder {
    encoding = "utf-8";
    decode(b = new Uint8Array()) {
      if (b instanceof ArrayBuffer) b = new Uint8Array(b);
      if (!(b instanceof Uint8Array)) b = new Uint8Array(b.buffer, b.byteOffset, b.byteLength);
      return host.text(b, 0, b.length);
    }
  };
  load().then(
    (app) => program.load(app),
    (err) => program.fail(err),
  );
}
