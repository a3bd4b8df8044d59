import assert from "node:assert/strict";
import test from "node:test";
import * as app from "../app.js";
import { load } from "../wattle/testing.mjs";
import { load as loadModule } from "../wattle/module.mjs";

// The same functions natively, and in the module that "wattle build" made.
for (const [where, functions] of [["natively", load(app)], ["in the engine", await loadModule("sdk.wasm")]]) {
  const native = where === "natively";
  const text = async (name, input) => (await functions.call(name, input)).text;
  const run = async (name, input) => JSON.parse(await text(name, input));

  test(`calls ${where}`, async () => {
    assert.deepEqual(await run("json", ' {"a": [1, "é😀\\u0000", null]} '), { a: [1, "é😀\0", null] });
    assert.equal(await text("json", ""), "");
    assert.equal(await text("nothing", "x"), "");
    assert.equal(await text("written", ""), "abc");
    const all = Uint8Array.from({ length: 300_000 }, (_, i) => i % 256);
    assert.deepEqual((await functions.call("bytes", all)).bytes, all);
    assert.equal((await functions.call("bytes", "")).bytes.length, 0);
    functions.params = { field: "stat\tus" };
    assert.deepEqual(await run("param", "field"), ["stat\tus", "test", "param", "", 0, 1]);
    assert.equal(await text("traceparent"), "");
    functions.traceparent = "00-a-b-01";
    assert.equal(await text("traceparent"), "00-a-b-01");
  });

  test(`imports and promises ${where}`, async () => {
    assert.equal(await text("imported"), "from deep");
    assert.equal(await text("lazily"), "from lazy");
    assert.equal(await text("slowly", "a"), "a??!");
    if (!native) await assert.rejects(() => text("never"), { permanent: true, message: /never settled/ });
    assert.equal(await text("loops"), "1188891");
  });

  test(`the environment ${where}`, async () => {
    assert.deepEqual(await run("environment"), ["é😀", true, true, "undefined"]);
    assert.notEqual(await text("random"), await text("random"));
    if (!native) assert.deepEqual([await text("count"), await text("count")], ["1", "1"]);
  });

  test(`failures ${where}`, async () => {
    const failed = async (name, input) => {
      try {
        await functions.call(name, input);
      } catch (err) {
        return err;
      }
      return assert.fail();
    };
    assert.deepEqual({ ...(await failed("fail", "permanent")) }, { name: "Failure", permanent: true, crashed: false });
    assert.equal((await failed("fail", "permanent")).message, "no luck");
    const err = await failed("fail", "x");
    assert.ok(!err.permanent);
    assert.match(err.message, /^TypeError: no luck\n\s+at (Object\.)?fail .*\(.*app\.js:\d+:\d+\)$/);
    assert.match((await failed("failLater")).message, /^Error: no luck later\n\s+at (async )?(Object\.)?failLater .*app\.js:\d+:\d+\)/);
    assert.equal((await failed("throwText")).message, "just a text");
    assert.match((await failed("recurse")).message, /stack/);
    assert.match((await failed("json", "{")).message, /the input is not JSON: /);
    assert.ok((await failed("json", "{")).permanent);
    assert.match((await failed("nobody")).message, /there is no function "nobody"; exported are: blocks, .*written/);
    assert.match((await failed("lines", "x")).message, /function lines reads split, but was given bytes/);
  });

  test(`what is granted ${where}`, async () => {
    functions.grants = {};
    assert.deepEqual(await run("denied"), ["capability_denied", "capability_denied", "capability_denied"]);
    assert.deepEqual(await run("setting", "currency"), [null]);
    functions.grants = {
      config: { currency: "€" },
      http: ({ method, url, headers, body }) => ({ status: 201, headers: { a: "b" }, body: [method, url, headers["x-a"], body.length].join(" ") }),
      call: (service, called, payload) => (called === "fail" ? assert.fail("it failed") : `${service} ${called} ${payload.length}`),
      cache: new Map(),
    };
    assert.deepEqual(await run("setting", "currency"), ["€"]);
    assert.deepEqual(await run("fetched", "x".repeat(300)), [201, { a: "b" }, "POST https://example.com/x é 300"]);
    assert.equal(await text("called", "prices/get"), "prices get 7");
    assert.equal(await text("called", "prices@2/get"), "prices get 7");
    await assert.rejects(() => text("called", "prices/fail"), { message: /^HostError: it failed\n/ });
    await assert.rejects(() => text("called", "prices"), { message: /names no function/ });
    assert.deepEqual(await run("cached", "value"), [null, true, false, true, "value", true, true]);
  });

  test(`secrets ${where}`, async () => {
    functions.grants = {};
    assert.equal(await text("refusal", "key"), "HostError capability_denied: the test grants no secrets");
    functions.grants = { secrets: { key: "hüsh", raw: new Uint8Array([0, 255]), empty: "" } };
    assert.equal(await text("secret", "key"), "hüsh");
    assert.deepEqual((await functions.call("secret", "raw")).bytes, new Uint8Array([0, 255]));
    assert.equal(await text("secret", "empty"), "");
    assert.equal(await text("refusal", "other"), "HostError unknown_secret: there is no secret other");
  });

  test(`parts ${where}`, async () => {
    assert.deepEqual(await functions.map("lines", ["one\r\n\ntwo\n\rlast\r"]),
      [["test.txt", '"@0"'], ["one", "3"], ["", "0"], ["two", "3"], ["\rlast\r", "6"]]);
    const parts = [{ name: "é", offset: 2 ** 40, header: "h", data: "stop\nnot read" }, "x"];
    assert.deepEqual(await functions.map("lines", parts), [["é", '"h@1099511627776"'], ["stop", "4"], ["test.txt", '"@0"'], ["x", "1"]]);
    for (let n = (64 << 10) - 12; n < (64 << 10) + 3; n++) {
      const got = await functions.map("lines", ["x".repeat(n) + "\n" + "x".repeat(200_000 - n)]);
      assert.deepEqual(got.map(([, v]) => v), ['"@0"', n.toString(), (200_000 - n).toString()]);
    }
    assert.deepEqual(await functions.map("blocks", ["x".repeat(200_000), "", "yy"]), [["n", "200002"]]);
  });

  test(`records ${where}`, async () => {
    const got = await functions.map("values", []);
    assert.deepEqual(got.map(([k, v]) => [k, v.length > 20 ? v.length : v]),
      [["object", '{"a":[1,"é"]}'], ["k", "\x01\x02"], ["long", 200_002], ["wide", 100_002], ["sum", "3"]]);
    await assert.rejects(async () => functions.map("unwritable", []), { permanent: true, message: /key "key" cannot be written as JSON/ });
  });

  test(`groups ${where}`, async () => {
    assert.equal(await functions.reduceToText("first", [["b", "3"], ["a", "[1]"], ["a", "2"], ["", "4"]]), "=4;a=[1];b=3;");
    assert.deepEqual(await functions.reduce("lengths", [["é", "12"], ["é", ""], ["z", "1"]]), [["z", "[1]"], ["é", "[2,0]"]]);
    await assert.rejects(async () => functions.reduce("both", [["a", "1"]]), { permanent: true, message: /one of them only/ });
    await assert.rejects(async () => functions.reduce("first", [["a", "x"]]), { permanent: true, message: /a value of key "a" is not JSON/ });
  });

  test(`descriptions ${where}`, async () => {
    const { functions: all } = await functions.describe();
    assert.ok(all.every(({ name }) => !["_hidden", "notAFunction", "default"].includes(name)));
    assert.deepEqual(all.find(({ name }) => name === "lines"), { name: "lines", kind: "map", description: "" });
  });
}
