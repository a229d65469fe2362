// What one tab sees of one terminal: bytes by their offset, replayed and then live, and again from where it was
// whenever the stream breaks. It asks for no more than what is drawn: the next message is taken when the screen has
// room, so a slow screen leaves the bytes with the server, which holds none for it but what it keeps anyway.
import { Code, ConnectError } from "@connectrpc/connect";

import { problem } from "../api/problem";
import type { TerminalExit, WatchTerminalResponse } from "../gen/baton/v1/terminal_pb";
import { Cell } from "../store/cell";
import { backoff, type Place } from "../store/watch";

export interface Size {
  cols: number;
  rows: number;
}

export type Phase =
  | { kind: "connecting" }
  | { kind: "live" }
  /** Nobody looks at the tab: it is no viewer, and its size does not count. */
  | { kind: "hidden" }
  | { kind: "waiting"; until: number; why: string }
  /** The program has ended, and everything was shown. */
  | { kind: "over" }
  /** There is no such terminal, or not for us. */
  | { kind: "refused"; why: string };

export interface View {
  terminalId: string;
  offset: bigint;
  size?: Size;
}

/** What the stream is asked of. */
export interface Source {
  open(view: View, signal: AbortSignal): AsyncIterable<WatchTerminalResponse>;
  /** Whether somebody looks at the tab. */
  visible(): boolean;
  /** A place among the streams that the browser allows this origin; undefined if there is none now. */
  place(): Promise<Place | undefined>;
  random(): number;
  now(): number;
}

/** Where it is drawn. */
export interface Display {
  /** Draws bytes; `replay` says that they were shown before, to whoever looked. Done when there is room for more. */
  show(data: Uint8Array, replay: boolean): Promise<void>;
  /** What comes next does not go on from what is there. */
  clear(): void;
  /** The terminal has this size. */
  resize(size: Size): void;
  /** The viewer's own size; undefined for one whose size does not count. */
  size(): Size | undefined;
}

/** Silence of this long means that the connection is dead. The server speaks every 15 s. */
const SILENCE_MS = 45_000;
/** How often a tab without a place looks. */
const POLL_MS = 1_000;

export class TerminalStream extends Cell {
  phase: Phase = { kind: "connecting" };
  /** Names us at the server while the stream lasts; empty while it does not. */
  viewerId = "";
  /** How many bytes were left out so far: they were no longer kept when we came for them. */
  missing = 0n;
  exit: TerminalExit | undefined;

  private readonly id: string;
  private readonly source: Source;
  private readonly display: Display;
  /** Whether the terminal was opened here just now, so that nobody answered what its program asked. */
  private fresh: boolean;
  /** The offset of the next byte to draw; undefined before the first. */
  private next: bigint | undefined;
  private attempt = 0;
  private abort: AbortController | undefined;
  private wake: (() => void) | undefined;
  private closed = false;

  constructor(id: string, source: Source, display: Display, fresh = false) {
    super();
    this.id = id;
    this.source = source;
    this.display = display;
    this.fresh = fresh;
  }

  start(): void {
    void this.run();
  }

  /** Ends it for good. */
  close(): void {
    this.closed = true;
    this.again();
  }

  /** Opens the stream anew: who looks has changed. */
  again(): void {
    this.abort?.abort();
    this.wake?.();
  }

  /** Tries at once what waits. */
  retry(): void {
    if (this.phase.kind !== "waiting" && this.phase.kind !== "hidden") return;
    this.attempt = 0;
    this.again();
  }

  /** A program that had ended may run again, or a terminal be there after all. */
  private get settled(): boolean {
    return this.closed || this.phase.kind === "over" || this.phase.kind === "refused";
  }

  private async run(): Promise<void> {
    while (!this.settled) {
      if (!this.source.visible()) {
        this.say({ kind: "hidden" });
        await this.until();
      } else {
        await this.once();
      }
    }
  }

  private async once(): Promise<void> {
    if (this.phase.kind === "hidden") this.say({ kind: "connecting" });
    const place = await this.source.place();
    if (this.closed) {
      place?.release();
      return;
    }
    const abort = new AbortController();
    this.abort = abort;
    if (place) void place.wanted.then(() => abort.abort());
    let pause: number;
    try {
      pause = await this.read(abort, place !== undefined);
    } catch (thrown) {
      pause = this.broke(thrown, abort);
    } finally {
      abort.abort();
      place?.release();
      this.viewerId = "";
    }
    if (pause > 0 && !this.settled) await this.until(pause);
  }

  /** Reads the stream to its end; gives how long to wait until the next, in ms. */
  private async read(abort: AbortController, stay: boolean): Promise<number> {
    const size = stay ? this.display.size() : undefined;
    const view: View = { terminalId: this.id, offset: this.next ?? 0n, ...(size && { size }) };
    const answers = this.source.open(view, abort.signal)[Symbol.asyncIterator]();
    /** Bytes before this offset were there before we came. */
    let live = 0n;
    for (;;) {
      const silence = setTimeout(() => abort.abort("silence"), SILENCE_MS);
      const answer = await answers.next().finally(() => clearTimeout(silence));
      if (answer.done) break;
      if (abort.signal.aborted) throw new ConnectError("aborted", Code.Canceled);
      const { body } = answer.value;
      this.attempt = 0;
      switch (body.case) {
        case "started": {
          const { viewerId, offset, nextOffset, size: held } = body.value;
          this.viewerId = stay ? viewerId : "";
          this.next ??= offset;
          live = this.fresh && offset === 0n ? 0n : nextOffset;
          this.fresh = false;
          if (held) this.display.resize({ cols: held.cols, rows: held.rows });
          this.say({ kind: "live" });
          break;
        }
        case "output":
          await this.output(body.value.offset, body.value.data, live);
          break;
        case "size":
          this.display.resize({ cols: body.value.cols, rows: body.value.rows });
          break;
        case "truncated":
          this.gap(body.value.oldestOffset);
          break;
        case "exit":
          this.exit = body.value;
          this.say({ kind: "over" });
          return 0;
        default:
      }
      if (!stay && (this.next ?? 0n) >= live) return POLL_MS;
    }
    // The server ended the stream in order: it, or the connection, is to be renewed.
    return backoff(0, this.source.random());
  }

  private async output(offset: bigint, data: Uint8Array, live: bigint): Promise<void> {
    const next = this.next ?? offset;
    if (offset > next) this.gap(offset);
    // None twice, whatever comes.
    const news = offset < next ? data.subarray(Number(next - offset)) : data;
    const from = offset < next ? next : offset;
    if (news.length === 0) return;
    this.next = from + BigInt(news.length);
    const old = live > from ? Math.min(Number(live - from), news.length) : 0;
    if (old > 0) await this.display.show(news.subarray(0, old), true);
    if (old < news.length) await this.display.show(news.subarray(old), false);
  }

  /** Bytes up to `to` are missing. */
  private gap(to: bigint): void {
    const from = this.next ?? to;
    if (to <= from) return;
    this.missing += to - from;
    this.next = to;
    this.display.clear();
    this.changed();
  }

  /** What a broken stream means; gives how long to wait, in ms. */
  private broke(thrown: unknown, abort: AbortController): number {
    if (abort.signal.aborted && abort.signal.reason !== "silence") return 0;
    const error = ConnectError.from(thrown);
    if ([Code.NotFound, Code.PermissionDenied, Code.Unauthenticated].includes(error.code)) {
      this.say({ kind: "refused", why: problem(thrown).message });
      return 0;
    }
    if (error.code === Code.OutOfRange) {
      // The server knows less than it said: it was given another store.
      this.next = undefined;
      this.display.clear();
    }
    const pause = backoff(this.attempt, this.source.random());
    this.attempt += 1;
    this.say({ kind: "waiting", until: this.source.now() + pause, why: abort.signal.aborted ? "Nothing was heard of the server." : problem(thrown).message });
    return pause;
  }

  private say(phase: Phase): void {
    const same = phase.kind === this.phase.kind && phase.kind !== "waiting";
    this.phase = phase;
    if (!same) this.changed();
  }

  private until(ms?: number): Promise<void> {
    return new Promise<void>((done) => {
      const timer = ms === undefined ? undefined : setTimeout(done, ms);
      this.wake = () => {
        clearTimeout(timer);
        done();
      };
    }).then(() => {
      this.wake = undefined;
    });
  }
}
