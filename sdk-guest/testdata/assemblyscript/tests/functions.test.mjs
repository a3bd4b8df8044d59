import assert from "node:assert/strict";
import test from "node:test";
import { load } from "../assembly/wattle/testing.mjs";

const functions = await load("build/test.wasm");
const json = (text) => functions.call("json", text).text;

test("JSON", () => {
  const tricky = ' {"a": [1, -2.5e+3, true, false, null, {}], "b": "x\\"\\\\\\/\\b\\f\\n\\r\\té€😀\\ud83d\\ude00\\u0001", "": []} ';
  assert.deepEqual(JSON.parse(json(tricky)), JSON.parse(tricky));
  assert.equal(json(tricky), JSON.stringify(JSON.parse(tricky)).replace("-2500", "-2.5e+3"));
  assert.equal(json(""), "null");
  assert.equal(json("9007199254740993"), "9007199254740993");
  const broken = ["{", "[", "[1", "[1,", "[1,]", '{"a"', '{"a":', '{"a":1,}', "{a:1}", "01", "-", "1.", "1e", ".5", "nul", "tru", '"', '"\n"',
    '"\\x"', '"\\u12"', '"\\u12x4"', "1 2", "[1}", "é", "[".repeat(1000)];
  for (const text of broken) assert.throws(() => json(text), { permanent: true, message: "the input is no JSON" }, text);
});

test("what a call is told", () => {
  functions.params = { field: "stat\tus" };
  assert.equal(functions.call("param", "field").text, "stat\tus|test|param|");
  assert.equal(functions.call("param", "other").text, "|test|param|");
  assert.equal(functions.call("traceparent").text, "");
  functions.traceparent = "00-a-b-01";
  assert.equal(functions.call("traceparent").text, "00-a-b-01");
});

test("failures", () => {
  assert.throws(() => functions.call("fail", "x"), { permanent: false, crashed: false, message: "no luck: x" });
  assert.throws(() => functions.call("throw"), { crashed: true, message: /ouch \(assembly\/index.ts:\d+:\d+\)/ });
  assert.throws(() => functions.reduce("both", [["a", "1"]]), { permanent: true, message: /one of them only/ });
});

test("globals", () => assert.equal(functions.call("globals").text, "true true"));

test("what is granted", () => {
  assert.throws(() => functions.call("asks"), { message: "capability_denied: the test grants no HTTP" });
  functions.grants = {
    config: { currency: "€" },
    http: ({ method, url, headers, body }) => ({ status: 201, headers: { a: "b" }, body: [method, url, headers["x-a"], body.length].join(" ") }),
    call: (service, called, payload) => `${service} ${called} ${payload.length}`,
    cache: new Map(),
  };
  const want = "€|201|b|POST https://example.com/x é 300|prices get 7|true|false|true|v|true|true";
  assert.equal(functions.call("asks", "x".repeat(300)).text, want);
  functions.grants.call = () => assert.fail("it failed");
  assert.match(functions.call("asks").text, /\|function_error\|/);
});

test("secrets", () => {
  functions.grants = {};
  assert.throws(() => functions.call("secret", "key"), { message: "capability_denied: the test grants no secrets" });
  functions.grants = { secrets: { key: "hüsh", raw: new Uint8Array([0, 255]), empty: "" } };
  assert.equal(functions.call("secret", "key").text, "hüsh");
  assert.deepEqual(functions.call("secret", "raw").bytes, new Uint8Array([0, 255]));
  assert.equal(functions.call("secret", "empty").text, "");
  assert.throws(() => functions.call("secret", "other"), { message: "unknown_secret: there is no secret other" });
});

test("lines", () => {
  assert.deepEqual(functions.map("lines", ["one\r\n\ntwo\n\rlast"]), [["test.txt", "@0"], ["one", "3"], ["", "0"], ["two", "3"], ["\rlast", "5"]]);
  const parts = [{ name: "é", offset: 2 ** 33, header: "h", data: "stop\nnot read" }, "x"];
  assert.deepEqual(functions.map("lines", parts), [["é", "h@8589934592"], ["stop", "4"], ["test.txt", "@0"], ["x", "1"]]);
  for (let n = (64 << 10) - 12; n < (64 << 10) + 3; n++) {
    const got = functions.map("lines", ["x".repeat(n) + "\n" + "x".repeat(200_000 - n)]);
    assert.deepEqual(got.map(([, v]) => v), ["@0", n.toString(), (200_000 - n).toString()]);
  }
});

test("blocks", () => assert.deepEqual(functions.map("blocks", ["x".repeat(200_000), "", "yy"]), [["n", "200002"]]));

test("groups", () => {
  assert.equal(functions.reduceToText("first", [["b", "3"], ["a", "-1"], ["a", "2"], ["", "4"]]), "=4;a=-1;b=3;");
  assert.throws(() => functions.reduce("first", [["a", "01"]]), { permanent: true, message: /"01" is not the whole number/ });
});
