import assert from "node:assert/strict";
import test from "node:test";
import * as app from "../app.js";
import { load } from "../wattle/testing.mjs";

const functions = load(app);

test("echoes", async () => {
  assert.equal((await functions.call("echo", "hello")).text, "hello");
  assert.equal((await functions.call("echo")).text, "");
});

test("greets and counts", async () => {
  await assert.rejects(functions.call("visit"), { message: /^HostError: the test grants no cache/ });
  functions.grants = { config: { greeting: "Hello" }, cache: new Map() };
  assert.equal((await functions.call("visit")).text, "Hello 1");
  assert.equal((await functions.call("visit")).text, "Hello 2");
});

test("counts", async () => {
  const mapped = await functions.map("map", ["The lake, the LAKE!\nÄpfel2go \u212aſ", "the"]);
  const want = [["go", "1"], ["lake", "2"], ["pfel", "1"], ["the", "3"]];
  assert.deepEqual(await functions.reduce("reduce", mapped), want);
  assert.deepEqual(await functions.reduce("sum", [["a", "-1"], ["a", "3"]]), [["a", "2"]]);
});

test("counts long parts", async () => {
  const got = await functions.map("map", ["x" + " Lake".repeat(100_000), "a".repeat(200_000)]);
  assert.deepEqual(got.map(([word, n]) => [word.length, n]), [[1, "1"], [4, "100000"], [200_000, "1"]]);
});

test("refuses what is no count", async () => {
  await assert.rejects(functions.reduce("reduce", [["the", '"x"']]), { permanent: true, message: /whole number/ });
});
