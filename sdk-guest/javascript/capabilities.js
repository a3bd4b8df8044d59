// What functions ask the host for: settings, secrets, HTTP, other functions, memory that calls share. docs/abi.md of Wattle has the
// operations.
import { concat } from "./records.js";

const CONFIG = 5;
const SECRET = 6;
const HTTP = 7;
const CALL = 8;
const CACHE_GET = 9;
const CACHE_PUT = 10;

/** Why the host did not do what a function asked for. Its reason is a stable word, such as "capability_denied". */
class HostError extends Error {
  constructor(reason, message) {
    super(message);
    this.name = "HostError";
    this.reason = reason;
  }
}

/** What came back: bytes, read as one likes. */
class Answer {
  #host;
  #bytes;

  constructor(host, bytes, head = {}) {
    this.#host = host;
    this.#bytes = bytes;
    Object.assign(this, head);
  }

  bytes() {
    return this.#bytes;
  }

  text() {
    return this.#host.text(this.#bytes, 0, this.#bytes.length);
  }

  json() {
    return JSON.parse(this.text());
  }
}

/** The part of a call's context that asks the host. */
export class Capabilities {
  #host;

  constructor(host) {
    this.#host = host;
  }

  #bytes(v) {
    return typeof v === "string" ? this.#host.bytes(v) : v;
  }

  #ask(op, request) {
    const reply = this.#host.ask(op, request);
    const code = this.#host.askCode();
    if (code >= 0) return reply;
    if (code === -1) throw new HostError("unknown_operation", `this host does not know operation ${op}`);
    const { reason, message } = new Answer(this.#host, reply).json();
    throw new HostError(reason, message);
  }

  /** A request of JSON and bytes. */
  #headed(head, body) {
    const json = this.#bytes(JSON.stringify(head));
    const length = [];
    let n = json.length;
    for (; n >= 0x80; n >>>= 7) length.push((n & 0x7f) | 0x80);
    return concat([Uint8Array.from([...length, n]), json, this.#bytes(body)]);
  }

  /** A setting of the version (wattle push --config); undefined where there is none. */
  config(name) {
    try {
      const b = this.#ask(CONFIG, this.#bytes(name));
      return this.#host.text(b, 0, b.length);
    } catch {
      return undefined;
    }
  }

  /**
   * A secret, { bytes(), text(), json() }. The version needs a grant for it: wattle push --allow-secret. The error's reason is "capability_denied" where it has none, and
   * "unknown_secret" where there is no such secret.
   */
  secret(name) {
    return new Answer(this.#host, this.#ask(SECRET, this.#bytes(name)));
  }

  /**
   * Makes an HTTP request and answers { status, headers, bytes(), text(), json() }, whatever the status. There is nothing to wait for. The
   * version needs a grant for the host and the method: wattle push --allow-http.
   */
  http(url, { method = "GET", headers = {}, body = "", timeout = 0 } = {}) {
    const reply = this.#ask(HTTP, this.#headed({ method, url, headers, timeout_ms: timeout }, body));
    let n = 0;
    let at = 0;
    for (let shift = 0, more = true; more; shift += 7) {
      n |= (reply[at] & 0x7f) << shift;
      more = reply[at++] >= 0x80;
    }
    const head = JSON.parse(this.#host.text(reply, at, at + n));
    return new Answer(this.#host, reply.subarray(at + n), { status: head.status, headers: head.headers ?? {} });
  }

  /**
   * Calls another function, named "service/function" or "service@version/function", and answers { bytes(), text(), json() }. The version
   * needs a grant for it: wattle push --allow-call.
   */
  call(name, payload = "") {
    const [, service, version = "", called] = /^([^/@]+)(?:@([^/]+))?\/(.+)$/.exec(name) ?? [];
    if (!service) throw new TypeError(`"${name}" names no function: want service/function or service@version/function`);
    return new Answer(this.#host, this.#ask(CALL, this.#headed({ service, version, function: called }, payload)));
  }

  /** Memory that the functions of the service share on a node: wattle push --allow-cache. */
  cache = {
    /** The entry of that key, { version, bytes(), text(), json() }; undefined where there is none. */
    get: (key) => {
      const reply = this.#ask(CACHE_GET, this.#bytes(key));
      const version = number(reply);
      return version === 0 ? undefined : new Answer(this.#host, reply.subarray(8), { version });
    },
    /**
     * Sets an entry, for a time in milliseconds where ttl is given, and if it still has the version expect where that is given (0: there is
     * none). Answers { version, set }: the version there is then, and whether it was set.
     */
    put: (key, value, { ttl = 0, expect } = {}) => {
      const reply = this.#ask(CACHE_PUT, this.#headed({ key, ttl_ms: ttl, expect }, value));
      return { version: number(reply), set: reply[8] === 1 };
    },
    /** Removes an entry. */
    remove: (key) => this.cache.put(key, "", { ttl: -1 }).set,
  };
}

/** A number of 8 bytes that is small enough for JavaScript. */
function number(b) {
  const view = new DataView(b.buffer, b.byteOffset, 8);
  return view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
}
