// The tab's one stream: records, the log of the session that is open, and tasks while they are looked at. It is
// opened again with jitter when it breaks, from where it was; it is given back while nobody looks.
import { Code, ConnectError } from "@connectrpc/connect";

import type { Change, WatchResponse } from "../gen/baton/v1/event_pb";
import { Cell } from "./cell";
import type { SessionLog } from "./log";
import type { Records } from "./records";

export type Phase =
  | { kind: "connecting" }
  | { kind: "live" }
  /** Other tabs hold the streams that the browser allows: this one looks every few seconds. */
  | { kind: "polling" }
  /** Nobody looks at this tab. */
  | { kind: "hidden" }
  | { kind: "waiting"; until: number; why: string }
  | { kind: "signed-out" };

export interface WatchInit {
  scopes: WatchRequestScope[];
  transients: boolean;
}

type WatchRequestScope =
  | { scope: { case: "all"; value: { fromRevision: bigint } } }
  | { scope: { case: "prompts"; value: { fromRevision: bigint } } }
  | { scope: { case: "task"; value: { fromRevision: bigint; taskId: string } } }
  | { scope: { case: "session"; value: { sessionId: string; logEpoch: bigint; afterSeq: bigint; tail: boolean } } };

/** Who shows tasks. There may be very many: they are read in pages, and only what changes from then on is told. */
export interface TaskFollower {
  apply(changes: readonly Change[]): void;
  /** Changes were missed: what is shown is to be read again. */
  missed(): void;
}

export interface World {
  /** Opens the stream. */
  open(request: WatchInit, signal: AbortSignal): AsyncIterable<WatchResponse>;
  /** Whether somebody looks at the tab. */
  visible(): boolean;
  /** Whether a hidden tab shall still hear of prompts. */
  notifies(): boolean;
  /** A place among the streams that the browser allows this origin; undefined if there is none now. */
  place(): Promise<Place | undefined>;
  /** From 0 to 1. */
  random(): number;
  now(): number;
}

/** The right to hold a stream open. */
export interface Place {
  release(): void;
  /** Whether another tab, which is looked at, wants it. */
  wanted: Promise<void>;
}

/** Silence of this long means that the connection is dead. The server speaks every 15 s. */
const SILENCE_MS = 45_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 20_000;
/** How often a tab without a place looks. */
const POLL_MS = 2_500;
/** How long such a look may take: others wait for the connection. */
const LOOK_MS = 1_500;
/** A session that moved on by more than this is read where it is looked at, not replayed. */
const REPLAY_MAX = 2_000;

/** Full jitter: anything up to the exponential bound, but not at once. */
export function backoff(attempt: number, random: number): number {
  const bound = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(bound * 0.2 + bound * 0.8 * random);
}

export class Watch extends Cell {
  phase: Phase = { kind: "connecting" };
  /** When the server was last heard, in ms; 0 before the first time. */
  heardAt = 0;
  /** Sessions that the server says do not exist. */
  readonly missing = new Set<string>();

  private log: SessionLog | undefined;
  private tasks: TaskFollower | undefined;
  /** Changes of tasks up to here were told; 0 before the stream has carried them. */
  private taskRevision = 0n;
  private readonly records: Records;
  private readonly world: World;
  private attempt = 0;
  private promptRevision = 0n;
  /** The newest revision that a change had. Where to resume is what progress says, not this. */
  private changedTo = 0n;
  private abort: AbortController | undefined;
  private wake: (() => void) | undefined;
  private running = false;

  constructor(records: Records, world: World) {
    super();
    this.records = records;
    this.world = world;
  }

  start(): void {
    if (this.running) return;
    this.running = true;
    void this.run();
  }

  /** Which session's log to follow beside the records. */
  follow(log: SessionLog | undefined): void {
    if (this.log === log) return;
    this.log = log;
    this.again();
  }

  /** Who is to be told of tasks. What it reads after this call is not missed. */
  followTasks(tasks: TaskFollower | undefined): void {
    if (this.tasks === tasks) return;
    this.tasks = tasks;
    this.taskRevision = 0n;
    this.again();
  }

  /** Opens the stream anew: what to follow, or who looks, has changed. */
  again(): void {
    this.abort?.abort();
    this.wake?.();
  }

  /** Tries at once what waits. */
  retry(): void {
    this.attempt = 0;
    this.again();
  }

  signedOut(): void {
    this.say({ kind: "signed-out" });
    this.abort?.abort();
  }

  signedIn(): void {
    this.say({ kind: "connecting" });
    this.retry();
  }

  private async run(): Promise<void> {
    while (this.running) {
      if (this.phase.kind === "signed-out") {
        await this.until();
      } else if (!this.world.visible() && !this.world.notifies()) {
        this.say({ kind: "hidden" });
        await this.until();
      } else {
        await this.once();
      }
    }
  }

  private async once(): Promise<void> {
    if (this.phase.kind === "hidden" || this.phase.kind === "waiting") this.say({ kind: "connecting" });
    const place = await this.world.place();
    const abort = new AbortController();
    this.abort = abort;
    if (place) void place.wanted.then(() => abort.abort());
    const look = place ? undefined : setTimeout(() => abort.abort("looked"), LOOK_MS);
    let pause: number;
    try {
      pause = await this.stream(abort, place !== undefined);
    } catch (thrown) {
      pause = this.broke(thrown, abort);
    } finally {
      clearTimeout(look);
      abort.abort();
      place?.release();
      this.log?.broken();
    }
    if (pause > 0) await this.until(pause);
  }

  /** Reads the stream to its end; gives how long to wait until the next, in ms. */
  private async stream(abort: AbortController, stay: boolean): Promise<number> {
    const { log } = this;
    const whole = this.world.visible();
    const scopes = this.scopes(log, whole);
    // How far each scope went when the stream began: a tab without a place lets go when it is there.
    const heads = scopes.map((): bigint | undefined => undefined);
    let silence = setTimeout(() => abort.abort("silence"), SILENCE_MS);
    try {
      // Not `for await`: leaving that loop waits for the stream to end by itself, which a live one does not.
      const answers = this.world.open({ scopes, transients: true }, abort.signal)[Symbol.asyncIterator]();
      for (;;) {
        const next = await answers.next();
        if (next.done) break;
        const answer = next.value;
        clearTimeout(silence);
        silence = setTimeout(() => abort.abort("silence"), SILENCE_MS);
        this.heardAt = this.world.now();
        this.attempt = 0;
        if (stay || this.phase.kind !== "polling") this.say(stay ? { kind: "live" } : { kind: "polling" });
        const scope = scopes[answer.scope];
        if (!scope) continue;
        if (answer.body.case === "started") heads[answer.scope] = answer.body.value.head;
        if (scope.scope.case === "task") this.tellTasks(answer, heads[answer.scope]);
        else if (scope.scope.case !== "session") this.change(answer, scope.scope.case);
        else if (log) this.tell(log, answer, scope.scope.value.tail);
        if (!stay && scopes.every((one, at) => this.isThere(one, heads[at], log))) return this.pollPause();
      }
    } finally {
      clearTimeout(silence);
    }
    // The server ended the stream in order: it, or the connection, is to be renewed.
    return backoff(0, this.world.random());
  }

  private scopes(log: SessionLog | undefined, whole: boolean): WatchRequestScope[] {
    if (!whole) return [{ scope: { case: "prompts", value: { fromRevision: this.promptRevision } } }];
    const scopes: WatchRequestScope[] = [{ scope: { case: "all", value: { fromRevision: this.records.revision } } }];
    // From 0, every task there is would come.
    if (this.tasks && this.records.revision > 0n) {
      if (this.taskRevision === 0n) this.taskRevision = this.records.revision;
      scopes.push({ scope: { case: "task", value: { fromRevision: this.taskRevision, taskId: "" } } });
    }
    if (log && !this.missing.has(log.sessionId)) {
      const head = Number(this.records.sessions.get(log.sessionId)?.headSeq ?? 0n);
      const tail = log.cursor === undefined || head - log.cursor > REPLAY_MAX;
      const afterSeq = BigInt(tail ? 0 : (log.cursor ?? 0));
      scopes.push({
        scope: { case: "session", value: { sessionId: log.sessionId, logEpoch: tail ? 0n : log.epoch, afterSeq, tail } },
      });
    }
    return scopes;
  }

  private pollPause(): number {
    return POLL_MS * (0.8 + 0.4 * this.world.random());
  }

  private isThere(scope: WatchRequestScope, head: bigint | undefined, log: SessionLog | undefined): boolean {
    if (head === undefined) return false;
    if (scope.scope.case === "session") return (log?.cursor ?? 0) >= Number(head);
    const told = { all: this.records.revision, prompts: this.promptRevision, task: this.taskRevision }[scope.scope.case];
    // The first time, records come in no order: only progress says that all of them are here.
    return told >= head || (told > 0n && this.changedTo >= head);
  }

  private tell(log: SessionLog, answer: WatchResponse, tail: boolean): void {
    const { body } = answer;
    switch (body.case) {
      case "started":
        log.started(body.value.logEpoch, Number(body.value.first), Number(body.value.head), tail);
        return;
      case "events":
        log.append(body.value.events);
        return;
      case "transient":
        log.transient(body.value);
        return;
      case "truncated":
        log.truncated(Number(body.value.oldestSeq), body.value.logEpoch);
        return;
      case "progress":
        log.progress(Number(body.value.through));
        return;
      default:
    }
  }

  private tellTasks(answer: WatchResponse, head: bigint | undefined): void {
    const { body } = answer;
    switch (body.case) {
      case "changes":
        this.tasks?.apply(body.value.changes);
        return;
      case "progress":
        if (body.value.through > this.taskRevision) this.taskRevision = body.value.through;
        return;
      case "truncated":
        // What would come now is every task there is.
        this.taskRevision = head ?? 0n;
        this.tasks?.missed();
        this.again();
        return;
      default:
    }
  }

  private change(answer: WatchResponse, scope: "all" | "prompts"): void {
    const { body } = answer;
    switch (body.case) {
      case "started": {
        if (scope === "prompts") return;
        if (body.value.head < this.records.revision) {
          // The server knows less than it said: it was given another store.
          this.startOver();
        } else if (body.value.head === this.records.revision) this.records.reached(body.value.head);
        return;
      }
      case "changes":
        this.records.apply(body.value.changes);
        for (const { revision } of body.value.changes) if (revision > this.changedTo) this.changedTo = revision;
        return;
      case "truncated":
        this.startOver();
        return;
      case "progress":
        if (scope === "all") this.reached(body.value.through);
        if (body.value.through > this.promptRevision) this.promptRevision = body.value.through;
        return;
      default:
    }
  }

  private reached(revision: bigint): void {
    this.records.reached(revision);
    // Tasks can be followed from now on.
    if (this.tasks && this.taskRevision === 0n) this.again();
  }

  private startOver(): void {
    this.records.reset();
    this.taskRevision = 0n;
    this.tasks?.missed();
    this.again();
  }

  /** What a broken stream means; gives how long to wait, in ms. */
  private broke(thrown: unknown, abort: AbortController): number {
    if (this.phase.kind === "signed-out") return 0;
    if (abort.signal.reason === "looked") return this.pollPause();
    if (abort.signal.aborted && abort.signal.reason !== "silence") return 0;
    const error = ConnectError.from(thrown);
    if (error.code === Code.Unauthenticated) {
      this.say({ kind: "signed-out" });
      return 0;
    }
    if (error.code === Code.NotFound && this.log) {
      this.missing.add(this.log.sessionId);
      this.changed();
      return 0;
    }
    if (error.code === Code.OutOfRange) {
      this.records.reset();
      this.taskRevision = 0n;
      this.tasks?.missed();
    }
    const pause = backoff(this.attempt, this.world.random());
    this.attempt += 1;
    const why = abort.signal.reason === "silence" ? "Nothing was heard of the server." : "The server cannot be reached.";
    this.say({ kind: "waiting", until: this.world.now() + pause, why });
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
