// What is called with a clean state: see ../../c/functions.c.
import { Call, call } from "./wattle";
import { sha } from "./compute";
export { wattle_call, wattle_describe } from "./wattle";
export { fib, sha, matmul } from "./compute";

call("noop", "does nothing", (c: Call, input: Uint8Array): Uint8Array => new Uint8Array(0));
call("echo", "answers the bytes it gets", (c: Call, input: Uint8Array): Uint8Array => input);
call("hash", "hashes as many bytes as it gets", (c: Call, input: Uint8Array): Uint8Array => {
  const out = new Uint8Array(4);
  store<i32>(out.dataStart, sha(input.length));
  return out;
});
