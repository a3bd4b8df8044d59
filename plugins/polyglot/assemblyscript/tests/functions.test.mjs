import assert from "node:assert/strict";
import test from "node:test";
import { load } from "../assembly/wattle/testing.mjs";

const functions = await load("build/test.wasm");

test("echoes", () => {
  assert.equal(functions.call("echo", "hello").text, "hello");
  assert.equal(functions.call("echo").text, "");
});

test("greets and counts", () => {
  assert.throws(() => functions.call("visit"), { permanent: true, message: "capability_denied" });
  functions.grants = { config: { greeting: "Hello" }, cache: new Map() };
  assert.equal(functions.call("visit").text, "Hello 1");
  assert.equal(functions.call("visit").text, "Hello 2");
});

test("counts", () => {
  const mapped = functions.map("map", ["The lake, the LAKE!\nÄpfel2go", "the"]);
  const want = [["go", "1"], ["lake", "2"], ["pfel", "1"], ["the", "3"]];
  assert.deepEqual(functions.reduce("reduce", mapped), want);
  assert.deepEqual(functions.reduce("sum", [["a", "-1"], ["a", "9223372036854775807"]]), [["a", "9223372036854775806"]]);
});

test("counts long parts: words that lie across blocks count once", () => {
  for (let shift = 0; shift < 8; shift++) {
    const got = functions.map("map", ["x".repeat(shift) + " Lake".repeat(100_000)]);
    assert.deepEqual(got.find(([key]) => key === "lake"), ["lake", "100000"]);
  }
  const long = "a".repeat(200_000);
  assert.deepEqual(functions.map("map", [long]), [[long, "1"]]);
});

test("counts more words than the table of sums holds", () => {
  const letters = (n) => n.toString().replace(/./g, (d) => "abcdefghij"[d]) + (n % 3 ? "" : "longer");
  const text = Array.from({ length: 300_000 }, (_, i) => letters(i % 150_000)).join(" ");
  const got = functions.map("map", [text]);
  assert.equal(got.reduce((sum, [, n]) => sum + Number(n), 0), 300_000);
  assert.ok(got.length >= 150_000);
});

test("refuses what is no count, and input of another kind", () => {
  assert.throws(() => functions.reduce("reduce", [["the", "x"]]), { permanent: true, message: /whole number/ });
  assert.throws(() => functions.call("map", "text"), { permanent: true, message: /reads split, but was given bytes/ });
  assert.throws(() => functions.call("nobody"), { permanent: true, message: /registered are: echo, visit, map, sum, reduce/ });
});

test("describes itself", () => {
  assert.deepEqual(functions.describe().functions[2], { name: "map", kind: "map", description: "emits each word with its count" });
});
