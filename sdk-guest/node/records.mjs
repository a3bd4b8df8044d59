// What tests under Node.js need to stand in for a host: inputs are put together and records taken apart as docs/abi.md of Wattle
// says.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** How a function failed. permanent says that trying again cannot help; crashed that it did not end by itself. */
export class Failure extends Error {
  constructor(message, permanent, crashed = false) {
    super(message);
    this.name = "Failure";
    this.permanent = permanent;
    this.crashed = crashed;
  }
}

/** Bytes that grow. */
export class Writer {
  #pieces = [];

  put(b) {
    this.#pieces.push(Uint8Array.from(b));
  }

  length(n) {
    const b = [];
    for (; n >= 0x80; n = Math.floor(n / 128)) b.push((n % 128) | 0x80);
    this.put([...b, n]);
  }

  counted(v) {
    const b = toBytes(v);
    this.length(b.length);
    this.put(b);
  }

  bytes() {
    return Uint8Array.from(Buffer.concat(this.#pieces));
  }

  text() {
    return decoder.decode(this.bytes());
  }
}

/** A string's UTF-8; bytes as they are. */
export function toBytes(v) {
  return typeof v === "string" ? encoder.encode(v) : v;
}

/** The input of a mapper: parts are texts, or objects with name, offset, header and data. */
export function splitOf(parts) {
  const input = new Writer();
  for (const p of parts) {
    const part = typeof p === "object" && "data" in p ? p : { data: p };
    input.counted(part.name ?? "test.txt");
    input.length(part.offset ?? 0);
    input.counted(part.header ?? "");
    input.counted(part.data);
  }
  return input.bytes();
}

/** The input of a reducer: records, each [key, value], sorted and grouped as a job would do it. */
export function groupsOf(records) {
  const groups = new Map();
  for (const [key, value] of records) groups.set(key, [...(groups.get(key) ?? []), value]);
  const keys = [...groups.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const input = new Writer();
  for (const key of keys) {
    input.counted(key);
    for (const value of groups.get(key)) {
      const b = toBytes(value);
      input.length(b.length + 1);
      input.put(b);
    }
    input.length(0);
  }
  return input.bytes();
}

/** The records of a batch, as [key, value]. */
export function recordsOf(batch) {
  const texts = [];
  for (let at = 0; at < batch.length; ) {
    let n = 0;
    for (let shift = 0, more = true; more; shift += 7) {
      n |= (batch[at] & 0x7f) << shift;
      more = batch[at++] >= 0x80;
    }
    texts.push(decoder.decode(batch.subarray(at, at + n)));
    at += n;
  }
  const records = [];
  for (let i = 0; i < texts.length; i += 2) records.push(texts.slice(i, i + 2));
  return records;
}

/**
 * What a function may do in a test; what is not there is denied, as by a host.
 *
 * @typedef {object} Grants
 * @property {Object<string, string>} [config] settings
 * @property {Object<string, string | Uint8Array>} [secrets] the values of secrets by name
 * @property {(request: {method: string, url: string, headers: object, body: Uint8Array}) =>
 *   {status: number, headers?: object, body?: string | Uint8Array}} [http] answers requests
 * @property {(service: string, called: string, payload: Uint8Array) => string | Uint8Array} [call] answers calls of other functions
 * @property {Map<string, {version: number, value: Uint8Array}>} [cache] the memory that calls share; entries do not end by themselves
 */

/** host_call: a request leaves a reply, and the code that goes with it. */
export class Asking {
  reply = new Uint8Array();
  code = -1;
  #name;
  #context;
  #grants;

  constructor(name, context, grants) {
    this.#name = name;
    this.#context = context;
    this.#grants = grants;
  }

  ask(op, request) {
    try {
      const reply = this.#answer(op, request);
      this.reply = reply === undefined ? new Uint8Array() : toBytes(reply);
      this.code = reply === undefined ? -1 : this.reply.length;
    } catch (err) {
      this.reply = toBytes(JSON.stringify({ reason: err.reason ?? "function_error", message: err.message }));
      this.code = -2 - this.reply.length;
    }
  }

  #answer(op, request) {
    const { config = {}, secrets, http, call, cache } = this.#grants;
    const granted = (what, name) => what ?? refuse("capability_denied", `the test grants no ${name}`);
    switch (op) {
      case 1:
        return JSON.stringify(this.#context);
      case 2:
        return this.#name;
      case 5: {
        const name = decoder.decode(request);
        return config[name] ?? refuse("unknown_setting", `there is no setting ${name}`);
      }
      case 6: {
        const name = decoder.decode(request);
        return granted(secrets, "secrets")[name] ?? refuse("unknown_secret", `there is no secret ${name}`);
      }
      case 7: {
        const { head, body } = behead(request);
        const { status, headers = {}, body: answer = "" } = granted(http, "HTTP")({ ...head, body });
        const reply = new Writer();
        reply.counted(JSON.stringify({ status, headers }));
        reply.put(toBytes(answer));
        return reply.bytes();
      }
      case 8: {
        const { head, body } = behead(request);
        return granted(call, "calls")(head.service, head.function, body);
      }
      case 9: {
        const entry = granted(cache, "cache").get(decoder.decode(request));
        return versioned(entry?.version ?? 0, entry?.value ?? []);
      }
      case 10: {
        const { head, body } = behead(request);
        return put(granted(cache, "cache"), head, body);
      }
      default:
        return undefined;
    }
  }
}

function refuse(reason, message) {
  throw Object.assign(new Error(message), { reason });
}

/** A request's JSON, and the bytes behind it. */
function behead(b) {
  let n = 0;
  let at = 0;
  for (let shift = 0, more = true; more; shift += 7) {
    n |= (b[at] & 0x7f) << shift;
    more = b[at++] >= 0x80;
  }
  return { head: JSON.parse(decoder.decode(b.subarray(at, at + n))), body: b.slice(at + n) };
}

function versioned(version, bytes) {
  const b = new Uint8Array(8 + bytes.length);
  new DataView(b.buffer).setBigUint64(0, BigInt(version), true);
  b.set(bytes, 8);
  return b;
}

function put(cache, { key, ttl_ms: ttl, expect }, value) {
  const before = cache.get(key)?.version ?? 0;
  if (expect !== undefined && expect !== null && expect !== before) return versioned(before, [0]);
  if (ttl < 0) {
    cache.delete(key);
    return versioned(0, [1]);
  }
  const version = 1 + Math.max(0, ...[...cache.values()].map((e) => e.version));
  cache.set(key, { version, value });
  return versioned(version, [1]);
}
