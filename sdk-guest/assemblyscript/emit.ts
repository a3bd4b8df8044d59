import { emitAt } from "./host";
import { BLOCK } from "./input";
import { Sums } from "./sums";

/**
 * Passes records on. In the next stage all values of one key are seen together. Records travel in batches. Keys and values are strings
 * or Uint8Arrays.
 */
export class Emit {
  emitted: bool = false;
  private batch: usize = 0;
  private len: i32 = 0;
  private cap: i32 = 0;
  private sums: Sums = new Sums();

  /** Emits a record. */
  record<K, V>(key: K, value: V): void {
    const k = asBytes(key);
    const v = asBytes(value);
    this.put(k.dataStart, k.length, v.dataStart, v.length);
  }

  /** Emits a number, written as JSON has it: the other SDKs read it, too. */
  int<K>(key: K, n: i64): void {
    const k = asBytes(key);
    this.intAt(k.dataStart, k.length, n);
  }

  /**
   * Adds n to the sum of key. Sums are emitted at the end of the call, or before where there are many: a key may be emitted more than
   * once, for a combiner and a reducer that add up. It is far faster than emitting each n by itself.
   */
  add<K>(key: K, n: i64): void {
    const k = asBytes(key);
    this.addAt(k.dataStart, k.length, n);
  }

  /** Like add, for a key that lies at an address. */
  addAt(key: usize, len: i32, n: i64): void {
    if (this.sums.full) this.flushSums();
    this.sums.add(key, len, n);
  }

  /** Hands everything to the host. */
  finish(): void {
    this.flushSums();
    this.flushBatch();
  }

  private flushBatch(): void {
    if (this.len > 0) {
      this.emitted = true;
      emitAt(this.batch, this.len);
      this.len = 0;
    }
  }

  private flushSums(): void {
    for (let s = this.sums.next(0); s != 0; s = this.sums.next(s)) {
      this.intAt(this.sums.keyAt(s), this.sums.keyLength(s), this.sums.sum(s));
    }
    this.sums.clear();
  }

  private intAt(key: usize, len: i32, n: i64): void {
    const digits = memory.data(24);
    let at = digits + 24;
    let u: u64 = n < 0 ? -n : n;
    do {
      store<u8>(--at, <u8>(0x30 + (u % 10)));
      u /= 10;
    } while (u > 0);
    if (n < 0) store<u8>(--at, 0x2d);
    this.put(key, len, at, <i32>(digits + 24 - at));
  }

  private put(key: usize, keyLen: i32, value: usize, valueLen: i32): void {
    const most = keyLen + valueLen + 10;
    if (this.len + most > this.cap) {
      this.flushBatch();
      if (most > this.cap) {
        this.cap = max(most, 2 * BLOCK);
        if (this.batch) heap.free(this.batch);
        this.batch = heap.alloc(this.cap);
      }
    }
    this.counted(key, keyLen);
    this.counted(value, valueLen);
  }

  private counted(at: usize, len: i32): void {
    let to = this.batch + this.len;
    let n = len;
    for (; n >= 0x80; n >>= 7) store<u8>(to++, <u8>(n | 0x80));
    store<u8>(to++, <u8>n);
    memory.copy(to, at, len);
    this.len = <i32>(to + len - this.batch);
  }
}

function asBytes<T>(v: T): Uint8Array {
  if (isString<T>()) return Uint8Array.wrap(String.UTF8.encode(<string>v));
  return <Uint8Array>v;
}
