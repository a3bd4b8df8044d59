// The host's functions. docs/abi.md of Wattle says what they do.

// @ts-ignore: decorator
@external("wattle", "input_len")
export declare function inputLen(): i64;
// @ts-ignore: decorator
@external("wattle", "input_read")
export declare function inputRead(to: usize, len: i32, off: i64): i32;
// @ts-ignore: decorator
@external("wattle", "output_write")
declare function outputWriteAt(from: usize, len: i32): void;
// @ts-ignore: decorator
@external("wattle", "error_write")
declare function errorWriteAt(from: usize, len: i32): void;
// @ts-ignore: decorator
@external("wattle", "log")
declare function logAt(level: i32, from: usize, len: i32): void;
// @ts-ignore: decorator
@external("wattle", "emit")
export declare function emitAt(from: usize, len: i32): void;
// @ts-ignore: decorator
@external("wattle", "host_call")
declare function hostCall(op: i32, at: usize, len: i32): i64;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "random_get")
declare function randomGet(to: usize, len: i32): i32;
// @ts-ignore: decorator
@external("wasi_snapshot_preview1", "clock_time_get")
declare function clockTimeGet(clock: i32, precision: i64, to: usize): i32;

/** The UTF-8 of a string. */
export function bytes(s: string): Uint8Array {
  return Uint8Array.wrap(String.UTF8.encode(s));
}

/** The string whose UTF-8 the bytes are. */
export function text(b: Uint8Array): string {
  return String.UTF8.decodeUnsafe(b.dataStart, b.length);
}

/** The time, in nanoseconds since 1970. */
export function unixNanoseconds(): i64 {
  const at = memory.data(8, 8);
  clockTimeGet(0, 1, at);
  return load<i64>(at);
}

export function outputWrite(b: Uint8Array): void {
  if (b.length > 0) outputWriteAt(b.dataStart, b.length);
}

export function errorWrite(message: string): void {
  const b = bytes(message);
  errorWriteAt(b.dataStart, b.length);
}

export function logLine(level: i32, line: string): void {
  const b = bytes(line);
  logAt(level, b.dataStart, b.length);
}

/** Makes a request of the host, and answers the length of the reply, -1, or -2 and less for an error. */
export function ask(op: i32, request: Uint8Array): i32 {
  return <i32>hostCall(op, request.dataStart, request.length);
}

/** The reply to the last request. */
export function reply(length: i32): Uint8Array {
  const b = new Uint8Array(length);
  if (length > 0) hostCall(0, b.dataStart, length);
  return b;
}

/** The reply of an operation without a request: 1 the context, 2 the function. */
export function told(op: i32): string {
  return text(reply(max(0, <i32>hostCall(op, 0, 0))));
}

// What follows takes the place of globals: see "use" in asconfig.json.

/** A failed assertion, a throw, an index out of range: the message goes into the error of the crash. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  errorWrite((message ? message : "aborted") + " (" + (file ? file : "?") + ":" + line.toString() + ":" + column.toString() + ")");
  unreachable();
}

/** What Math.random begins with. */
export function seed(): f64 {
  const at = memory.data(8, 8);
  randomGet(at, 8);
  return reinterpret<f64>((load<u64>(at) >> 12) | 0x3ff0000000000000);
}

/** Writes to the call's log. */
export namespace console {
  export function debug(line: string = ""): void {
    logLine(0, line);
  }
  export function log(line: string = ""): void {
    logLine(1, line);
  }
  export function info(line: string = ""): void {
    logLine(1, line);
  }
  export function warn(line: string = ""): void {
    logLine(2, line);
  }
  export function error(line: string = ""): void {
    logLine(3, line);
  }
}
