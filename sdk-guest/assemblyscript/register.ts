import * as host from "./host";
import { Call } from "./call";
import { Emit } from "./emit";
import { Groups } from "./groups";
import { Json } from "./json";
import { Parts } from "./parts";
import { readAll } from "./input";

abstract class Registered {
  constructor(
    readonly name: string,
    readonly kind: string,
    readonly description: string,
  ) {}
  abstract run(c: Call): void;
}

class CallFunction extends Registered {
  constructor(
    name: string,
    description: string,
    private f: (c: Call, input: Uint8Array) => Uint8Array,
  ) {
    super(name, "call", description);
  }
  run(c: Call): void {
    const output = this.f(c, readAll());
    if (c.status == 0) c.write(output);
  }
}

class JsonFunction extends Registered {
  constructor(
    name: string,
    description: string,
    private f: (c: Call, input: Json) => Json,
  ) {
    super(name, "call", description);
  }
  run(c: Call): void {
    const b = readAll();
    const input = b.length > 0 ? Json.parse(host.text(b)) : new Json();
    if (!input) {
      c.failForGood("the input is no JSON");
      return;
    }
    const output = this.f(c, input);
    if (c.status == 0) c.write(host.bytes(output.toString()));
  }
}

class MapFunction extends Registered {
  constructor(
    name: string,
    description: string,
    private f: (c: Call, parts: Parts, emit: Emit) => void,
  ) {
    super(name, "map", description);
  }
  run(c: Call): void {
    if (!c.wants("split")) return;
    const emit = new Emit();
    this.f(c, new Parts(c), emit);
    finish(c, emit);
  }
}

class GroupsFunction extends Registered {
  constructor(
    name: string,
    kind: string,
    description: string,
    private f: (c: Call, groups: Groups, emit: Emit) => void,
  ) {
    super(name, kind, description);
  }
  run(c: Call): void {
    if (!c.wants("groups")) return;
    const emit = new Emit();
    this.f(c, new Groups(c), emit);
    finish(c, emit);
  }
}

function finish(c: Call, emit: Emit): void {
  if (c.status != 0) return;
  emit.finish();
  if (emit.emitted && c.wrote) c.failForGood("the function emitted records and wrote to its output; it may do one of them only");
}

const all = new Map<string, Registered>();

function register(f: Registered): void {
  assert(!all.has(f.name), "two functions are named " + f.name);
  all.set(f.name, f);
}

/** Registers a function from bytes to bytes. */
export function call(name: string, description: string, f: (c: Call, input: Uint8Array) => Uint8Array): void {
  register(new CallFunction(name, description, f));
}

/** Registers a function from JSON to JSON. Input that is none fails for good; no input at all is null. */
export function callJson(name: string, description: string, f: (c: Call, input: Json) => Json): void {
  register(new JsonFunction(name, description, f));
}

/** Registers a mapper: it reads the parts of a split and emits records. */
export function map(name: string, description: string, f: (c: Call, parts: Parts, emit: Emit) => void): void {
  register(new MapFunction(name, description, f));
}

/** Registers a combiner: it makes one value of several values of a key, so that less has to travel. */
export function combine(name: string, description: string, f: (c: Call, groups: Groups, emit: Emit) => void): void {
  register(new GroupsFunction(name, "combine", description, f));
}

/** Registers a reducer: it sees each key with all its values, and emits records or writes bytes. */
export function reduce(name: string, description: string, f: (c: Call, groups: Groups, emit: Emit) => void): void {
  register(new GroupsFunction(name, "reduce", description, f));
}

/** Runs the function that the host names and answers the status. */
export function wattle_call(): i32 {
  const name = host.told(2);
  const c = new Call(name);
  if (all.has(name)) all.get(name).run(c);
  else c.failForGood(`there is no function "${name}"; registered are: ${all.keys().join(", ")}`);
  if (c.status != 0) host.errorWrite(c.message);
  return c.status;
}

/** Writes the description of all functions. */
export function wattle_describe(): i32 {
  const functions = Json.array();
  const registered = all.values();
  for (let i = 0; i < registered.length; i++) {
    const f = registered[i];
    functions.items.push(
      Json.object().with("name", Json.ofString(f.name)).with("kind", Json.ofString(f.kind)).with("description", Json.ofString(f.description)),
    );
  }
  host.outputWrite(host.bytes(Json.object().with("abi", Json.ofInteger(1)).with("functions", functions).toString()));
  return 0;
}
