// What the SDK promises beyond what the template and the word count use. scripts/sdks.sh runs the tests.
import { Call, Emit, Groups, Json, Level, Parts, bytes, call, callJson, map, parseInt64, reduce, text, unixNanoseconds } from "./wattle";
export { wattle_call, wattle_describe } from "./wattle";

callJson("json", "", (c: Call, v: Json): Json => v);

call("param", "", (c: Call, input: Uint8Array): Uint8Array => bytes(c.param(text(input)) + "|" + c.service + "|" + c.name + "|" + c.job));

call("traceparent", "", (c: Call, input: Uint8Array): Uint8Array => bytes(c.traceparent));

call("fail", "", (c: Call, input: Uint8Array): Uint8Array => c.fail("no luck: " + text(input)));

call("throw", "", (c: Call, input: Uint8Array): Uint8Array => {
  throw new Error("ouch");
});

call("globals", "", (c: Call, input: Uint8Array): Uint8Array => {
  console.log("from console");
  c.log("from the call", Level.Warn);
  const r = Math.random();
  return bytes((r >= 0 && r < 1).toString() + " " + (unixNanoseconds() > 1_700_000_000_000_000_000).toString());
});

call("asks", "", (c: Call, input: Uint8Array): Uint8Array => {
  const headers = new Map<string, string>();
  headers.set("x-a", "é");
  const got = c.http("POST", "https://example.com/x", input, headers);
  if (!got) return c.fail(c.refusal + ": " + c.refusalMessage + c.config("currency"));
  const called = c.call("prices", "", "get", bytes("payload"));
  const answer = called ? text(called) : c.refusal;
  const none = c.cacheGet("k")!;
  const swapped = c.cacheSwap("k", bytes("v"), 1000, none);
  const version = none.version;
  none.version = 0;
  const again = c.cacheSwap("k", bytes("lost"), 0, none);
  const value = text(c.cacheGet("k")!.value);
  const all = [
    c.config("currency"), got.status.toString(), got.headers.get("a"), text(got.body), answer,
    swapped.toString(), again.toString(), (none.version == version).toString(), value, c.cacheRemove("k").toString(),
    c.cachePut("k", bytes("x")).toString(),
  ];
  return bytes(all.join("|"));
});

call("secret", "", (c: Call, input: Uint8Array): Uint8Array => {
  const value = c.secret(text(input));
  return value ? value : c.fail(c.refusal + ": " + c.refusalMessage);
});

map("lines", "", (c: Call, parts: Parts, emit: Emit): void => {
  for (let part = parts.next(); part; part = parts.next()) {
    emit.record(part.name, part.header + "@" + part.offset.toString());
    for (let line = part.line(); line != null; line = part.line()) {
      emit.int(line.substring(0, 30), line.length);
      if (line == "stop") break; // the rest is skipped
    }
  }
});

map("blocks", "", (c: Call, parts: Parts, emit: Emit): void => {
  let n = 0;
  for (let part = parts.next(); part; part = parts.next()) {
    for (let b = part.block(); b; b = part.block()) n += b.length;
  }
  emit.add("n", n);
});

reduce("first", "", (c: Call, groups: Groups, emit: Emit): void => {
  while (groups.next()) {
    const v = groups.value();
    if (v) c.write(bytes(groups.key + "=" + parseInt64(c, v).toString() + ";"));
  }
});

reduce("both", "", (c: Call, groups: Groups, emit: Emit): void => {
  while (groups.next()) emit.record(groups.keyBytes, "x");
  c.write(bytes("x"));
});
