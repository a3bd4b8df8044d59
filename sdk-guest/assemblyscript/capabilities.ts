import * as host from "./host";
import { Json } from "./json";

/** The answer to an HTTP request, whatever its status. */
export class Response {
  status: i32 = 0;
  /** Headers by their names in lower case. */
  headers: Map<string, string> = new Map();
  body: Uint8Array = new Uint8Array(0);
}

/** An entry of the cache. */
export class Entry {
  /** 0 where there is no entry. */
  version: u64 = 0;
  value: Uint8Array = new Uint8Array(0);
}

/** What a call can ask the host for: settings, secrets, HTTP, other functions, memory that calls share. */
export class Capabilities {
  /** Why the host refused what it was asked for last: a stable word, such as "capability_denied"; "" where it did not. */
  refusal: string = "";
  /** The same in words. */
  refusalMessage: string = "";

  /** Makes a request of the host by the number docs/abi.md of Wattle gives it; null where it is refused. */
  ask(op: i32, request: Uint8Array): Uint8Array | null {
    const code = host.ask(op, request);
    this.refusal = "";
    this.refusalMessage = "";
    if (code >= 0) return host.reply(code);
    this.refusal = "unknown_operation";
    this.refusalMessage = `this host does not know operation ${op}`;
    if (code < -1) {
      const said = Json.parse(host.text(host.reply(-2 - code)));
      if (said) {
        this.refusal = said.get("reason").string;
        this.refusalMessage = said.get("message").string;
      }
    }
    return null;
  }

  /** A setting of the version (wattle push --config), "" where there is none. */
  config(name: string): string {
    const value = this.ask(5, host.bytes(name));
    return value ? host.text(value) : "";
  }

  /**
   * The value of a secret; null where it is refused. The version needs a grant for it: wattle push --allow-secret. The refusal is "capability_denied" where it has none,
   * and "unknown_secret" where there is no such secret.
   */
  secret(name: string): Uint8Array | null {
    return this.ask(6, host.bytes(name));
  }

  /** Makes an HTTP request; null where it is refused. The version needs a grant for the host and the method: wattle push --allow-http. */
  http(method: string, url: string, body: Uint8Array = new Uint8Array(0), headers: Map<string, string> = new Map()): Response | null {
    const named = Json.object();
    const names = headers.keys();
    for (let i = 0; i < names.length; i++) named.with(names[i], Json.ofString(headers.get(names[i])));
    const head = Json.object().with("method", Json.ofString(method)).with("url", Json.ofString(url)).with("headers", named);
    const reply = this.ask(7, headed(head, body));
    if (!reply) return null;
    let n = 0;
    let at = 0;
    for (let shift = 0; at < reply.length; shift += 7) {
      const c = <i32>reply[at++];
      n |= (c & 0x7f) << shift;
      if (c < 0x80) break;
    }
    const answer = Json.parse(host.text(reply.subarray(at, at + n)));
    const response = new Response();
    if (answer) {
      response.status = <i32>answer.get("status").integer;
      const all = answer.get("headers");
      for (let i = 0; i < all.names.length; i++) response.headers.set(all.names[i], all.items[i].string);
    }
    response.body = reply.slice(at + n);
    return response;
  }

  /**
   * Calls a function of a service, by its default version where version is ""; null where it fails or is refused. The version needs a grant
   * for it: wattle push --allow-call.
   */
  call(service: string, version: string, called: string, payload: Uint8Array): Uint8Array | null {
    const head = Json.object()
      .with("service", Json.ofString(service))
      .with("version", Json.ofString(version))
      .with("function", Json.ofString(called));
    return this.ask(8, headed(head, payload));
  }

  /** Reads the memory that the functions of the service share on a node; null where it is refused: wattle push --allow-cache. */
  cacheGet(key: string): Entry | null {
    const reply = this.ask(9, host.bytes(key));
    if (!reply || reply.length < 8) return null;
    const entry = new Entry();
    entry.version = load<u64>(reply.dataStart);
    entry.value = reply.slice(8);
    return entry;
  }

  /** Sets an entry, for a time where ttlMs is not 0; false where it is refused. */
  cachePut(key: string, value: Uint8Array, ttlMs: i64 = 0): bool {
    return this.put(key, value, ttlMs, "") != null;
  }

  /** Removes an entry. */
  cacheRemove(key: string): bool {
    return this.put(key, new Uint8Array(0), -1, "") != null;
  }

  /** Sets an entry if its version is still that of expected (0: there is none). Otherwise, puts the version there is into expected. */
  cacheSwap(key: string, value: Uint8Array, ttlMs: i64, expected: Entry): bool {
    const reply = this.put(key, value, ttlMs, expected.version.toString());
    if (!reply || reply.length < 9) return false;
    expected.version = load<u64>(reply.dataStart);
    return reply[8] == 1;
  }

  private put(key: string, value: Uint8Array, ttlMs: i64, expect: string): Uint8Array | null {
    const head = Json.object().with("key", Json.ofString(key)).with("ttl_ms", Json.ofInteger(ttlMs));
    if (expect != "") head.with("expect", Json.ofNumber(expect));
    return this.ask(10, headed(head, value));
  }
}

/** A request of JSON and bytes. */
function headed(head: Json, body: Uint8Array): Uint8Array {
  const json = host.bytes(head.toString());
  const b = new Uint8Array(json.length + body.length + 5);
  let at = 0;
  let n = json.length;
  for (; n >= 0x80; n >>= 7) b[at++] = <u8>(n | 0x80);
  b[at++] = <u8>n;
  b.set(json, at);
  b.set(body, at + json.length);
  return b.subarray(0, at + json.length + body.length);
}
