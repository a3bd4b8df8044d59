import { Call } from "./call";
import { Input, copyOf } from "./input";

/** The parts of a split: pieces of files. */
export class Parts {
  private input: Input;

  constructor(private call: Call) {
    this.input = new Input(call);
  }

  private part: Part | null = null;

  /** The next part, null after the last. What is left of the one before is skipped. */
  next(): Part | null {
    const before = this.part;
    if (before) this.input.skip(before.left);
    this.part = null;
    if (this.call.status != 0) return null;
    const n = this.input.length(true);
    if (n < 0) return null;
    const at = this.input.take(n);
    if (at == 0) return null;
    const part = new Part(this.call, this.input, String.UTF8.decodeUnsafe(at, <usize>n));
    part.offset = this.input.length();
    part.header = this.input.counted();
    part.left = this.input.length();
    if (this.call.status != 0) return null;
    this.part = part;
    return part;
  }
}

/** A piece of a file, cut where a line ends. */
export class Part {
  /** Where the part begins in its file, in bytes. */
  offset: i64 = 0;
  /** The first line of the file, without its end, where the job says that files have one. */
  header: string = "";
  /** How many bytes are left to read. */
  left: i64 = 0;
  private lineAt: usize = 0;

  constructor(
    private call: Call,
    private input: Input,
    /** The file's name. */
    readonly name: string,
  ) {}

  /** The next piece of the part, cut anywhere, null at the end. */
  block(): Uint8Array | null {
    const n = this.blockSize();
    return n > 0 ? copyOf(this.blockAt(n), n) : null;
  }

  /** How large the next piece is, 0 at the end. With blockAt it is the fastest way to read a part: nothing is copied. */
  blockSize(): i32 {
    if (this.left == 0 || this.call.status != 0) return 0;
    if (!this.input.fill(1)) {
      this.input.cut();
      return 0;
    }
    return this.have;
  }

  /** Where the next piece, of the size that blockSize answered, is in memory; valid until the next read. */
  blockAt(size: i32): usize {
    this.left -= size;
    return this.input.use(size);
  }

  /** The next line without its end ("\n" or "\r\n"), null at the end. */
  line(): string | null {
    const n = this.nextLine();
    return n < 0 ? null : String.UTF8.decodeUnsafe(this.lineAt, n);
  }

  /** Like line, for text that may not be UTF-8. */
  lineBytes(): Uint8Array | null {
    const n = this.nextLine();
    return n < 0 ? null : copyOf(this.lineAt, n);
  }

  private nextLine(): i32 {
    for (let seen = 0; this.left > 0 && this.call.status == 0; ) {
      const have = this.have;
      const at = this.input.at;
      let end = seen;
      while (end < have && load<u8>(at + end) != 0x0a) end++;
      if (end == have && have < this.left) {
        seen = have;
        if (!this.input.fill(have + 1)) this.input.cut();
        continue;
      }
      const used = end == have ? end : end + 1;
      this.left -= used;
      this.lineAt = this.input.use(used);
      return end < have && end > 0 && load<u8>(at + end - 1) == 0x0d ? end - 1 : end;
    }
    return -1;
  }

  /** How much of the part is in the buffer. */
  private get have(): i32 {
    return <i32>min(<i64>this.input.have, this.left);
  }
}
