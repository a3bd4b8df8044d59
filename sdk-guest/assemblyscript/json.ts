/** What a JSON value is. */
export enum Kind {
  Null,
  Bool,
  Number,
  String,
  Array,
  Object,
}

/** A JSON value: as much as a context and small requests need. */
export class Json {
  kind: Kind = Kind.Null;
  /** The text of a string, or a number as it is written, so that none loses digits. */
  private text: string = "";
  private truth: bool = false;
  /** The items of an array, the values of an object. */
  items: Json[] = [];
  /** The names of an object's members, as many as items. */
  names: string[] = [];

  /** Reads JSON; null where it is none. */
  static parse(text: string): Json | null {
    const p = new Parser(text);
    const v = p.value(0);
    p.space();
    return p.failed || p.at < text.length ? null : v;
  }

  static ofString(s: string): Json {
    const v = new Json();
    v.kind = Kind.String;
    v.text = s;
    return v;
  }

  static ofNumber(written: string): Json {
    const v = new Json();
    v.kind = Kind.Number;
    v.text = written;
    return v;
  }

  static ofInteger(n: i64): Json {
    return Json.ofNumber(n.toString());
  }

  static ofBool(b: bool): Json {
    const v = new Json();
    v.kind = Kind.Bool;
    v.truth = b;
    return v;
  }

  static array(): Json {
    const v = new Json();
    v.kind = Kind.Array;
    return v;
  }

  static object(): Json {
    const v = new Json();
    v.kind = Kind.Object;
    return v;
  }

  /** Adds a member to an object, and answers the object. */
  with(name: string, v: Json): Json {
    this.names.push(name);
    this.items.push(v);
    return this;
  }

  /** A member of an object; null's Json where there is none. */
  get(name: string): Json {
    const i = this.kind == Kind.Object ? this.names.lastIndexOf(name) : -1;
    return i < 0 ? new Json() : this.items[i];
  }

  get isNull(): bool {
    return this.kind == Kind.Null;
  }

  get isString(): bool {
    return this.kind == Kind.String;
  }

  /** The text of a string, "" for all that is none. */
  get string(): string {
    return this.kind == Kind.String ? this.text : "";
  }

  /** The value of a whole number, 0 for all that is none. */
  get integer(): i64 {
    return this.kind == Kind.Number ? I64.parseInt(this.text) : 0;
  }

  get number(): f64 {
    return this.kind == Kind.Number ? F64.parseFloat(this.text) : NaN;
  }

  get bool(): bool {
    return this.truth;
  }

  /** The value as JSON. */
  toString(): string {
    switch (this.kind) {
      case Kind.Bool:
        return this.truth ? "true" : "false";
      case Kind.Number:
        return this.text;
      case Kind.String:
        return quote(this.text);
      case Kind.Array: {
        const all: string[] = [];
        for (let i = 0; i < this.items.length; i++) all.push(this.items[i].toString());
        return "[" + all.join(",") + "]";
      }
      case Kind.Object: {
        const all: string[] = [];
        for (let i = 0; i < this.items.length; i++) all.push(quote(this.names[i]) + ":" + this.items[i].toString());
        return "{" + all.join(",") + "}";
      }
      default:
        return "null";
    }
  }
}

function quote(s: string): string {
  let out = '"';
  let done = 0;
  for (let i = 0; i < s.length; i++) {
    const c = s.charCodeAt(i);
    if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
    out += s.substring(done, i);
    done = i + 1;
    const at = "\b\t\n\f\r".indexOf(String.fromCharCode(c));
    if (c == 0x22 || c == 0x5c) out += "\\" + String.fromCharCode(c);
    else if (at >= 0) out += "\\" + "btnfr".charAt(at);
    else out += "\\u" + c.toString(16).padStart(4, "0");
  }
  return out + s.substring(done) + '"';
}

class Parser {
  at: i32 = 0;
  failed: bool = false;

  constructor(private text: string) {}

  private get peek(): i32 {
    return this.at < this.text.length ? this.text.charCodeAt(this.at) : -1;
  }

  private fail(): void {
    this.failed = true;
    this.at = this.text.length; // everything that follows sees the end
  }

  private eat(what: string): void {
    if (this.text.startsWith(what, this.at)) this.at += what.length;
    else this.fail();
  }

  space(): void {
    for (let c = this.peek; c == 0x20 || c == 0x09 || c == 0x0a || c == 0x0d; c = this.peek) this.at++;
  }

  value(depth: i32): Json {
    if (depth > 128) this.fail();
    this.space();
    switch (this.peek) {
      case 0x6e: // n
        this.eat("null");
        return new Json();
      case 0x74: // t
        this.eat("true");
        return Json.ofBool(true);
      case 0x66: // f
        this.eat("false");
        return Json.ofBool(false);
      case 0x22: // "
        return Json.ofString(this.string());
      case 0x5b: // [
        return this.list(Json.array(), "]", depth);
      case 0x7b: // {
        return this.list(Json.object(), "}", depth);
      default:
        return this.number();
    }
  }

  private list(v: Json, end: string, depth: i32): Json {
    this.at++;
    this.space();
    if (this.text.startsWith(end, this.at)) {
      this.at++;
      return v;
    }
    while (!this.failed) {
      if (v.kind == Kind.Object) {
        this.space();
        v.names.push(this.string());
        this.space();
        this.eat(":");
      }
      v.items.push(this.value(depth + 1));
      this.space();
      if (this.peek != 0x2c) {
        this.eat(end);
        break;
      }
      this.at++;
    }
    return v;
  }

  private digits(): void {
    const from = this.at;
    while (this.peek >= 0x30 && this.peek <= 0x39) this.at++;
    if (this.at == from) this.fail();
  }

  private number(): Json {
    const from = this.at;
    if (this.peek == 0x2d) this.at++;
    if (this.peek == 0x30) this.at++;
    else this.digits();
    if (this.peek == 0x2e) {
      this.at++;
      this.digits();
    }
    if ((this.peek | 0x20) == 0x65) {
      this.at++;
      if (this.peek == 0x2b || this.peek == 0x2d) this.at++;
      this.digits();
    }
    return Json.ofNumber(this.failed ? "0" : this.text.substring(from, this.at));
  }

  private string(): string {
    this.eat('"');
    let s = "";
    while (!this.failed) {
      const from = this.at;
      while (this.peek >= 0x20 && this.peek != 0x22 && this.peek != 0x5c) this.at++;
      s += this.text.substring(from, this.at);
      if (this.peek == 0x22) {
        this.at++;
        break;
      }
      if (this.peek != 0x5c) this.fail();
      else s += this.escape();
    }
    return s;
  }

  private escape(): string {
    this.at += 2;
    const c = this.at <= this.text.length ? this.text.charAt(this.at - 1) : "";
    if (c == "u") {
      const hex = this.text.substr(this.at, 4);
      for (let i = 0; i < hex.length; i++) {
        if ("0123456789abcdefABCDEF".indexOf(hex.charAt(i)) < 0) this.fail();
      }
      this.at += 4;
      if (hex.length < 4) this.fail();
      // Halves of surrogate pairs come together by themselves: strings are UTF-16.
      return this.failed ? "" : String.fromCharCode(<i32>I32.parseInt(hex, 16));
    }
    const known = 'bfnrt"\\/'.indexOf(c);
    if (c == "" || known < 0) {
      this.fail();
      return "";
    }
    return '\b\f\n\r\t"\\/'.charAt(known);
  }
}
