// The input and output of mappers, combiners and reducers. docs/abi.md of Wattle says how they are written.

export const BLOCK = 64 << 10;
const MOST_SUMS = 1 << 16;
const EMIT = 2;

/** Trying again cannot help. Its message stands alone, without a stack: it is meant for whoever called. */
export class PermanentError extends Error {
  permanent = true;
}

/** Reads the host's input in blocks. */
class Reader {
  #host;
  #buf = new Uint8Array();
  #r = 0;
  #off = 0; // in the input, of what comes behind buf

  constructor(host) {
    this.#host = host;
  }

  /** What is read from the host and not used yet. */
  get have() {
    return this.#buf.length - this.#r;
  }

  /** Has at least n bytes, unless the input ends before. */
  fill(n) {
    while (this.have < n) {
      const more = this.#host.read(this.#off, Math.max(BLOCK, n - this.have));
      if (more.length === 0) return false;
      this.#off += more.length;
      this.#buf = this.have === 0 ? more : concat([this.#buf.subarray(this.#r), more]);
      this.#r = 0;
    }
    return true;
  }

  /** Reads a length; -1 at the end of the input, where a record may begin. */
  length(mayEnd = false) {
    let v = 0;
    for (let unit = 1; ; unit *= 128) {
      if (!this.fill(1)) {
        if (mayEnd && unit === 1) return -1;
        throw cut();
      }
      const c = this.#buf[this.#r++];
      v += (c & 0x7f) * unit;
      if (c < 0x80) return v;
    }
  }

  /** Reads n bytes. */
  take(n) {
    if (!this.fill(n)) throw cut();
    this.#r += n;
    return this.#buf.subarray(this.#r - n, this.#r);
  }

  takeText(n) {
    const b = this.take(n);
    return this.#host.text(b, 0, n);
  }

  /** How many of the next bytes, at most n, end with the last end of a line; 0 where there is none. */
  wholeLines(n) {
    return this.#buf.subarray(this.#r, this.#r + n).lastIndexOf(10) + 1;
  }

  /** Passes over n bytes without asking the host for them. */
  skip(n) {
    const have = Math.min(n, this.have);
    this.#r += have;
    this.#off += n - have;
  }
}

/** Only a fault of the host cuts its input. */
function cut() {
  return new Error("the input ends in the middle of a record");
}

/** The parts of a split: pieces of files. What is not read of a part is skipped. */
export class Parts {
  #reader;

  constructor(host) {
    this.#reader = new Reader(host);
  }

  *[Symbol.iterator]() {
    for (;;) {
      const n = this.#reader.length(true);
      if (n < 0) return;
      const part = new Part(this.#reader, n);
      yield part;
      this.#reader.skip(part.left);
      part.left = 0;
    }
  }
}

/** A piece of a file, cut where a line ends. */
class Part {
  #reader;

  constructor(reader, nameLength) {
    this.#reader = reader;
    /** The file's name. */
    this.name = reader.takeText(nameLength);
    /** Where the part begins in its file, in bytes. */
    this.offset = reader.length();
    /** The first line of the file, without its end, where the job says that files have one. */
    this.header = reader.takeText(reader.length());
    /** How many bytes are left to read. */
    this.left = reader.length();
  }

  #take(n) {
    this.left -= n;
    return n;
  }

  #some() {
    if (!this.#reader.fill(1)) throw cut();
    return Math.min(this.#reader.have, this.left);
  }

  /** The part's bytes in large pieces, cut anywhere. */
  *blocks() {
    while (this.left > 0) yield this.#reader.take(this.#take(this.#some()));
  }

  /** The part's lines without their ends ("\n" or "\r\n"). They are read many at once: leave the rest of the part to lines(). */
  *lines() {
    for (let wanted = 1; this.left > 0; ) {
      if (!this.#reader.fill(Math.min(wanted, this.left))) throw cut();
      const some = this.#some();
      const n = some === this.left ? some : this.#reader.wholeLines(some);
      if (n === 0) {
        wanted = some + 1;
        continue;
      }
      wanted = 1;
      const lines = this.#reader.takeText(this.#take(n)).split("\n");
      const last = lines.pop();
      for (const line of lines) yield line.endsWith("\r") ? line.slice(0, -1) : line;
      if (last !== "") yield last;
    }
  }

  /** All that is left of the part. */
  text() {
    return this.#reader.takeText(this.#take(this.left));
  }
}

/** Keys with their values, in ascending order of the keys' bytes, each key once. Values that are not read are skipped. */
export class Groups {
  #host;

  constructor(host) {
    this.#host = host;
  }

  *[Symbol.iterator]() {
    const reader = new Reader(this.#host);
    for (;;) {
      const n = reader.length(true);
      if (n < 0) return;
      const group = new Group(this.#host, reader, reader.take(n));
      yield group;
      for (let size = group.next(); size >= 0; size = group.next()) reader.skip(size);
    }
  }
}

/** One key. It is itself the sequence of its values, read from JSON. */
class Group {
  #reader;
  #open = true;

  constructor(host, reader, keyBytes) {
    this.#reader = reader;
    /** The key as it is, a Uint8Array; key has it as a string. */
    this.keyBytes = keyBytes;
    this.key = host.text(keyBytes, 0, keyBytes.length);
  }

  /** The size of the next value, -1 after the last. */
  next() {
    if (!this.#open) return -1;
    const n = this.#reader.length();
    this.#open = n > 0;
    return n - 1;
  }

  *[Symbol.iterator]() {
    for (let n = this.next(); n >= 0; n = this.next()) yield this.#json(this.#reader.takeText(n));
  }

  /** The values as they are, each a Uint8Array. */
  *bytes() {
    for (let n = this.next(); n >= 0; n = this.next()) yield this.#reader.take(n);
  }

  /** Adds up the values that are left, which are whole numbers. */
  sum() {
    let sum = 0;
    for (const v of this) {
      sum += v;
      if (!Number.isSafeInteger(v) || !Number.isSafeInteger(sum)) {
        throw new PermanentError(`a value or the sum of key "${this.key}" is not a whole number, or too large: ${JSON.stringify(v)}`);
      }
    }
    return sum;
  }

  #json(text) {
    try {
      return JSON.parse(text);
    } catch (err) {
      throw new PermanentError(`a value of key "${this.key}" is not JSON: ${err.message}`);
    }
  }
}

/** Makes the function by which records are passed on: emit(key, value). In the next stage all values of one key are seen together. */
export function emitter(host) {
  let batch = new Uint8Array(2 * BLOCK);
  let at = 0;
  const sums = new Map();

  const flush = () => {
    if (at > 0) {
      emit.emitted = true;
      host.sendBytes(EMIT, batch.subarray(0, at));
      at = 0;
    }
  };
  const put = (from, item) => {
    if (from < 0 || typeof item === "string") return from < 0 ? -1 : host.put(batch, from, item);
    if (from + item.length + 5 > batch.length) return -1;
    let n = item.length;
    for (; n >= 0x80; n >>>= 7) batch[from++] = n | 0x80;
    batch[from++] = n;
    batch.set(item, from);
    return from + item.length;
  };

  /** Emits a record. key is a string or a Uint8Array; value travels as JSON, but for a Uint8Array, which travels as it is. */
  const emit = (key, value) => {
    const item = value instanceof Uint8Array ? value : JSON.stringify(value);
    const name = key instanceof Uint8Array ? key : String(key);
    if (item === undefined) throw new PermanentError(`the value emitted for key "${key}" cannot be written as JSON`);
    let end = put(put(at, name), item);
    if (end < 0) {
      flush();
      // A character takes up to three bytes.
      const most = 3 * (name.length + item.length) + 10;
      if (most > batch.length) batch = new Uint8Array(most);
      end = put(put(0, name), item);
    }
    at = end;
  };

  /** Adds n to the sum of key, a string. Sums are emitted at the end of the call, or before where there are many: a key may be emitted
   * more than once, for a combiner and a reducer that add up. It is far faster than emitting each n by itself. */
  emit.add = (key, n) => {
    const before = sums.get(key);
    sums.set(key, before === undefined ? n : before + n);
    if (sums.size >= MOST_SUMS) add();
  };
  const add = () => {
    for (const [key, n] of sums) emit(key, n);
    sums.clear();
  };

  emit.emitted = false;
  emit.finish = () => {
    add();
    flush();
  };
  return emit;
}

export function concat(blocks) {
  if (blocks.length === 1) return blocks[0];
  const all = new Uint8Array(blocks.reduce((n, b) => n + b.length, 0));
  let at = 0;
  for (const b of blocks) {
    all.set(b, at);
    at += b.length;
  }
  return all;
}
