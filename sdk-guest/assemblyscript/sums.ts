// Sums by key: an open-addressing table, since emitting every word of a text costs far more than adding it up here.

const MIX: u64 = 0x9e3779b97f4a7c15;
const FIRST_BITS = 12;
const MOST_BITS = 17;
const MOST_KEY_BYTES = 4 << 20;

/** How a sum lies in the table. */
@unmanaged
class Sum {
  print: u64; // tells keys of one length up to 8 apart; longer ones are compared in keys
  n: i64;
  lenPlus1: i32; // 0 where nothing is
  at: i32; // in keys
}

const SIZE = <i32>offsetof<Sum>();

export class Sums {
  private table: usize = 0;
  private bits: i32 = 0;
  private used: i32 = 0;
  private keys: usize = 0;
  private keysLen: i32 = 0;
  private keysCap: i32 = 0;

  /** Whether there is enough to be emitted before more is added. */
  get full(): bool {
    return this.used >= 1 << (MOST_BITS - 1) || this.keysLen > MOST_KEY_BYTES;
  }

  add(key: usize, len: i32, n: i64): void {
    if (2 * this.used >= this.slots) this.grow();
    const print = printOf(key, len);
    const mask = this.slots - 1;
    for (let at = this.slot(print, len); ; at = (at + 1) & mask) {
      const s = this.sumAt(at);
      if (s.print == print && s.lenPlus1 == len + 1 && (len <= 8 || memory.compare(this.keys + s.at, key, len) == 0)) {
        s.n += n;
        return;
      }
      if (s.lenPlus1 == 0) {
        s.print = print;
        s.n = n;
        s.lenPlus1 = len + 1;
        s.at = this.keep(key, len);
        this.used++;
        return;
      }
    }
  }

  /** The sum after s, the first one after 0; 0 after the last. */
  next(s: usize): usize {
    if (this.used == 0) return 0;
    const end = this.table + this.slots * SIZE;
    for (s = s ? s + SIZE : this.table; s < end; s += SIZE) {
      if (changetype<Sum>(s).lenPlus1 > 0) return s;
    }
    return 0;
  }

  keyAt(s: usize): usize {
    return this.keys + changetype<Sum>(s).at;
  }

  keyLength(s: usize): i32 {
    return changetype<Sum>(s).lenPlus1 - 1;
  }

  sum(s: usize): i64 {
    return changetype<Sum>(s).n;
  }

  clear(): void {
    if (this.used > 0) memory.fill(this.table, 0, this.slots * SIZE);
    this.used = this.keysLen = 0;
  }

  private get slots(): i32 {
    return this.bits == 0 ? 0 : 1 << this.bits;
  }

  private slot(print: u64, len: i32): i32 {
    return <i32>(((print + len) * MIX) >> (64 - this.bits));
  }

  private sumAt(at: i32): Sum {
    return changetype<Sum>(this.table + at * SIZE);
  }

  private grow(): void {
    const old = this.table;
    const end = old + this.slots * SIZE;
    this.bits = this.bits == 0 ? FIRST_BITS : this.bits + 1;
    this.table = heap.alloc(this.slots * SIZE);
    memory.fill(this.table, 0, this.slots * SIZE);
    const mask = this.slots - 1;
    for (let from = old; from < end; from += SIZE) {
      const s = changetype<Sum>(from);
      if (s.lenPlus1 == 0) continue;
      let at = this.slot(s.print, s.lenPlus1 - 1);
      while (this.sumAt(at).lenPlus1 > 0) at = (at + 1) & mask;
      memory.copy(changetype<usize>(this.sumAt(at)), from, SIZE);
    }
    if (old) heap.free(old);
  }

  private keep(key: usize, len: i32): i32 {
    if (this.keysLen + len > this.keysCap) {
      this.keysCap = 2 * (this.keysCap + len) + 4096;
      this.keys = this.keys ? heap.realloc(this.keys, this.keysCap) : heap.alloc(this.keysCap);
    }
    memory.copy(this.keys + this.keysLen, key, len);
    this.keysLen += len;
    return this.keysLen - len;
  }
}

function printOf(key: usize, len: i32): u64 {
  if (len > 8) {
    let h = load<u64>(key) * MIX;
    for (let i = 8; i + 8 < len; i += 8) h = (h ^ (h >> 29) ^ load<u64>(key + i)) * MIX;
    return (h ^ (h >> 29) ^ load<u64>(key + len - 8)) * MIX;
  }
  if (len >= 4) return <u64>load<u32>(key) | (<u64>load<u32>(key + len - 4) << 32);
  if (len == 0) return 0;
  return <u64>load<u8>(key) | (<u64>load<u8>(key + len / 2) << 8) | (<u64>load<u8>(key + len - 1) << 16);
}
