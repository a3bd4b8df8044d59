// What the SDK promises beyond what the template and the word count use. scripts/sdks.sh runs the tests, natively and in the engine.
import { deep, later } from "./lib/more.js";

export const json = (input) => input.json();
export const param = (input, ctx) => [ctx.params[input.text()], ctx.service, ctx.function, ctx.job, ctx.task, ctx.version];
export const traceparent = (input, ctx) => ctx.traceparent;
export const nothing = () => {};
export const bytes = (input) => input.bytes().buffer;
export const written = (input, ctx) => (ctx.write("a"), ctx.write(new Uint8Array([98])), "c");
export const imported = () => deep();
export const lazily = async () => (await import("./lib/lazy.js")).default;
export const slowly = async (input) => (await later(await later(input.text()))) + "!";
export const never = () => new Promise(() => {});
export const environment = (input, ctx) => {
  console.log("from", "console", { a: 1 });
  console.error(new Error("logged"));
  ctx.log.warn("from ctx");
  const r = [Math.random(), Math.random(), Math.random()];
  return [
    new TextDecoder().decode(new TextEncoder().encode("é😀")),
    r.every((x) => x >= 0 && x < 1) && new Set(r).size === 3,
    Date.now() > 1.7e12,
    typeof globalThis.host,
  ];
};
export const random = () => Math.random();
let calls = 0;
export const count = () => ++calls;

export const fail = (input, ctx) => {
  throw input.text() === "permanent" ? ctx.permanent("no luck") : new TypeError("no luck");
};
export const failLater = async () => {
  await null;
  throw new Error("no luck later");
};
export const throwText = () => {
  throw "just a text";
};
export const recurse = () => recurse() + 1;
export const loops = () => JSON.stringify(Array.from({ length: 100_000 }, (_, i) => ({ i }))).length;

export const setting = (input, ctx) => [ctx.config(input.text())];
export const secret = (input, ctx) => ctx.secret(input.text()).bytes();
export const refusal = (input, ctx) => {
  try {
    ctx.secret(input.text());
  } catch (err) {
    return `${err.name} ${err.reason}: ${err.message}`;
  }
};
export const fetched = (input, ctx) => {
  const res = ctx.http("https://example.com/x", { method: "POST", headers: { "x-a": "é" }, body: input.bytes(), timeout: 5 });
  return [res.status, res.headers, res.text()];
};
export const called = (input, ctx) => ctx.call(input.text(), "payload").text();
export const cached = (input, ctx) => {
  const { cache } = ctx;
  const before = cache.get("k");
  const first = cache.put("k", input.bytes(), { expect: before?.version ?? 0 });
  const second = cache.put("k", "lost", { expect: 0, ttl: 1000 });
  const { version } = first;
  const now = cache.get("k").text();
  return [before?.text(), first.set, second.set, second.version === version, now, cache.remove("k"), cache.get("k") === undefined];
};
export const denied = (input, ctx) => {
  const reasons = [];
  for (const f of [() => ctx.http("https://example.com"), () => ctx.call("a/b"), () => ctx.cache.get("k")]) {
    try {
      f();
    } catch (err) {
      reasons.push(err.reason);
    }
  }
  return reasons;
};

export function lines(parts, emit) {
  for (const part of parts) {
    emit(part.name, `${part.header}@${part.offset}`);
    for (const line of part.lines()) {
      emit(line.slice(0, 30), line.length);
      if (line === "stop") break;
    }
  }
}
export function blocks(parts, emit) {
  let n = 0;
  for (const part of parts) for (const b of part.blocks()) n += b.length;
  emit.add("n", n);
}
export function values(parts, emit) {
  emit("object", { a: [1, "é"] });
  emit(new Uint8Array([107]), new Uint8Array([1, 2]));
  emit("long", "x".repeat(200_000));
  emit("wide", "€".repeat(100_000));
  emit.add("sum", 1);
  emit.add("sum", 2);
}
export function unwritable(parts, emit) {
  emit("key", undefined);
}
for (const f of [lines, blocks, values, unwritable]) f.kind = "map";

export function first(groups, emit, ctx) {
  for (const group of groups) {
    for (const v of group) {
      ctx.write(`${group.key}=${JSON.stringify(v)};`);
      break; // the rest is skipped
    }
  }
}
export function lengths(groups, emit) {
  for (const group of groups) emit(group.keyBytes, [...group.bytes()].map((b) => b.length));
}
export function both(groups, emit, ctx) {
  for (const group of groups) emit(group.key, 1);
  ctx.write("x");
}
for (const f of [first, lengths, both]) f.kind = "reduce";

export const _hidden = () => "not a function for callers";
export const notAFunction = 7;
export default () => "neither";
