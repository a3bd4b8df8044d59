import * as host from "./host";
import { Capabilities } from "./capabilities";
import { Json } from "./json";

/** How much a log line matters. */
export enum Level {
  Debug,
  Info,
  Warn,
  Error,
}

/** One call: what the host tells of it, its log and its output, and what else can be asked of the host. */
export class Call extends Capabilities {
  /** The status of the ABI: 0 done, 1 failed, 2 failed for good. */
  status: i32 = 0;
  message: string = "";
  wrote: bool = false;
  private told: Json | null = null;

  constructor(
    /** The name the function was called by. */
    readonly name: string,
  ) {
    super();
  }

  /** Makes the call fail; a job tries again. Return the answer, which is empty. */
  fail(message: string): Uint8Array {
    return this.failWith(1, message);
  }

  /** Makes the call fail for good, which trying again cannot help: a job does not. Return the answer, which is empty. */
  failForGood(message: string): Uint8Array {
    return this.failWith(2, message);
  }

  private failWith(status: i32, message: string): Uint8Array {
    // The first failure is the cause of those that follow.
    if (this.status == 0) {
      this.status = status;
      this.message = message;
    }
    return new Uint8Array(0);
  }

  /** What the host tells, asked for once, and only in calls that want to know. */
  get context(): Json {
    let told = this.told;
    if (!told) {
      told = Json.parse(host.told(1));
      // A host that tells nothing leaves all empty.
      if (!told) told = new Json();
      this.told = told;
    }
    return told;
  }

  get service(): string {
    return this.context.get("service").string;
  }

  get version(): i64 {
    return this.context.get("version").integer;
  }

  /** The id of the job this call belongs to; empty outside of jobs. */
  get job(): string {
    return this.context.get("job").string;
  }

  get stage(): string {
    return this.context.get("stage").string;
  }

  /** The number of the task in its stage. */
  get task(): i32 {
    return <i32>this.context.get("task").integer;
  }

  /** Counts up from 1 with every try of the task; 0 outside of jobs. */
  get attempt(): i32 {
    return <i32>this.context.get("attempt").integer;
  }

  /** When the host will stop the call, in milliseconds since 1970. */
  get deadlineUnixMs(): i64 {
    return this.context.get("deadline_unix_ms").integer;
  }

  /**
   * The call's W3C trace context. Pass it on as the header or field "traceparent" to what is called other than by the host; calls and HTTP
   * requests made through the host carry it already.
   */
  get traceparent(): string {
    return this.context.get("traceparent").string;
  }

  /** A parameter of the job's stage, or "". */
  param(name: string): string {
    return this.context.get("params").get(name).string;
  }

  /** Logs one line. */
  log(line: string, level: Level = Level.Info): void {
    host.logLine(level, line);
  }

  /** Appends to the output. A reducer writes or emits, not both. */
  write(b: Uint8Array): void {
    this.wrote = true;
    host.outputWrite(b);
  }

  /** Checks that the function runs where it can: the input of another kind would be read as nonsense. */
  wants(input: string): bool {
    const got = this.context.get("input").string;
    if (got == "" || got == input) return true;
    this.failForGood(`function ${this.name} reads ${input}, but was given ${got}: run it in a stage of a job that fits its kind`);
    return false;
  }
}
