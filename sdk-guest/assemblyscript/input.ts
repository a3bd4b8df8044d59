import { inputLen, inputRead } from "./host";
import { Call } from "./call";

export const BLOCK: i32 = 64 << 10;

/** All of the input. */
export function readAll(): Uint8Array {
  const len = <i32>inputLen();
  let b = new Uint8Array(len < 0 ? BLOCK : len);
  let at = 0;
  while (at != len) {
    if (at == b.length) {
      const more = new Uint8Array(2 * at);
      memory.copy(more.dataStart, b.dataStart, at);
      b = more;
    }
    const got = inputRead(b.dataStart + at, b.length - at, at);
    if (got == 0) break;
    at += got;
  }
  return at == b.length ? b : b.slice(0, at);
}

/** Reads the input in blocks. Addresses it answers are valid until the next read. */
export class Input {
  private buf: usize = 0;
  private cap: i32 = 0;
  private r: i32 = 0; // from r to w is read from the host and not used yet
  private w: i32 = 0;
  private off: i64 = 0; // of w in the input

  constructor(private call: Call) {}

  /** Only a fault of the host cuts its input. */
  cut(): void {
    this.call.fail("the input ends in the middle of a record");
  }

  get have(): i32 {
    return this.w - this.r;
  }

  get at(): usize {
    return this.buf + this.r;
  }

  /** Has at least n bytes, unless the input ends before. */
  fill(n: i32): bool {
    while (this.w - this.r < n) {
      if (this.cap - this.r < n || this.w == this.cap) {
        memory.copy(this.buf, this.buf + this.r, this.w - this.r);
        this.w -= this.r;
        this.r = 0;
        if (this.cap < n || this.w == this.cap) {
          this.cap = max(n + n / 2, BLOCK);
          this.buf = this.buf ? heap.realloc(this.buf, this.cap) : heap.alloc(this.cap);
        }
      }
      const got = inputRead(this.buf + this.w, this.cap - this.w, this.off);
      if (got == 0) return false;
      this.w += got;
      this.off += got;
    }
    return true;
  }

  /** Uses n bytes that are there, and answers where they are. */
  use(n: i32): usize {
    this.r += n;
    return this.buf + this.r - n;
  }

  /** Reads a length; -1 at the end of the input, which is a fault but where a record may begin. */
  length(mayEnd: bool = false): i64 {
    let v: i64 = 0;
    for (let shift = 0; shift < 63; shift += 7) {
      if (!this.fill(1)) {
        if (!mayEnd || shift > 0) this.cut();
        return -1;
      }
      const c = load<u8>(this.use(1));
      v |= <i64>(c & 0x7f) << shift;
      if (c < 0x80) return v;
    }
    this.cut();
    return -1;
  }

  /** Reads n bytes and answers where they are; 0 at a fault. */
  take(n: i64): usize {
    if (n < 0 || n > i32.MAX_VALUE / 2 || !this.fill(<i32>n)) {
      this.cut();
      return 0;
    }
    return this.use(<i32>n);
  }

  /** Reads a length and as many bytes. */
  counted(): string {
    const n = this.length();
    const at = this.take(n);
    return at ? String.UTF8.decodeUnsafe(at, <usize>n) : "";
  }

  /** Passes over n bytes without asking the host for them. */
  skip(n: i64): void {
    const have = min(n, <i64>(this.w - this.r));
    this.r += <i32>have;
    this.off += n - have;
  }
}

/** A copy of n bytes. */
export function copyOf(at: usize, n: i32): Uint8Array {
  const b = new Uint8Array(n);
  memory.copy(b.dataStart, at, n);
  return b;
}
