import { Call } from "./call";
import { Input, copyOf } from "./input";
import { text } from "./host";

/** Keys with their values, in ascending order of the keys' bytes, each key once. */
export class Groups {
  /** The key as it is; key has it as a string. */
  keyBytes: Uint8Array = new Uint8Array(0);
  private input: Input;
  private open: bool = false; // whether the key may have values that are not read yet

  constructor(private call: Call) {
    this.input = new Input(call);
  }

  get key(): string {
    return text(this.keyBytes);
  }

  /** Goes to the next key; false after the last. Values that are left of the one before are skipped. */
  next(): bool {
    for (let n = this.size(); n >= 0; n = this.size()) this.input.skip(n);
    if (this.call.status != 0) return false;
    const n = this.input.length(true);
    if (n < 0) return false;
    const at = this.input.take(n);
    if (at == 0) return false;
    this.keyBytes = copyOf(at, <i32>n);
    this.open = true;
    return true;
  }

  /** The next value of the key, null after the last. */
  value(): Uint8Array | null {
    const n = this.size();
    if (n < 0) return null;
    const at = this.input.take(n);
    return at ? copyOf(at, <i32>n) : null;
  }

  /** Adds up the values that are left of the key, numbers as Emit.int writes them. */
  sum(): i64 {
    let sum: i64 = 0;
    for (let n = this.size(); n >= 0; n = this.size()) {
      const at = this.input.take(n);
      if (at == 0 || !isInt64(at, <i32>n)) {
        this.call.failForGood("a value is not the whole number that the function takes");
        break;
      }
      sum += int64At(at, <i32>n);
    }
    return sum;
  }

  /** The size of the next value, -1 where there is none. */
  private size(): i64 {
    if (!this.open || this.call.status != 0) return -1;
    const n = this.input.length();
    this.open = n > 0;
    return n - 1;
  }
}

function isInt64(at: usize, n: i32): bool {
  const first = n > 0 && load<u8>(at) == 0x2d ? 1 : 0;
  const most = <u64>i64.MAX_VALUE + first;
  if (n == first || (load<u8>(at + first) == 0x30 && n > first + 1)) return false;
  let v: u64 = 0;
  for (let i = first; i < n; i++) {
    const digit = <u64>(<u8>(load<u8>(at + i) - 0x30));
    if (digit > 9 || v > (most - digit) / 10) return false;
    v = v * 10 + digit;
  }
  return true;
}

function int64At(at: usize, n: i32): i64 {
  let v: i64 = 0;
  const negative = load<u8>(at) == 0x2d;
  for (let i = negative ? 1 : 0; i < n; i++) v = v * 10 + (load<u8>(at + i) - 0x30);
  return negative ? -v : v;
}

/** A value that Emit.int has written. What is none makes the call fail for good. */
export function parseInt64(call: Call, value: Uint8Array): i64 {
  if (isInt64(value.dataStart, value.length)) return int64At(value.dataStart, value.length);
  call.failForGood(`"${text(value)}" is not the whole number that the function takes`);
  return 0;
}
