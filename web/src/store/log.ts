// One session's log as far as this tab holds it: segments of fixed length, loaded where they are looked at
// and forgotten when too many are held. Events come live in order and by pages in any order.
import type { Event, Transient } from "../gen/baton/v1/event_pb";
import { Cell } from "./cell";
import { type LiveBlock, LiveText } from "./live";

/** Events of a segment. */
export const SEGMENT = 50;
/** Segments that are held; what was looked at longest ago goes first. */
const HELD_MAX = 120;
/** Rough bytes of events that are held. */
const BYTES_MAX = 24 * 1024 * 1024;
/** Segments that are read first: what is looked at, and what is drawn beyond it. */
const FIRST_READ = 3;
/** Pages asked for at once. */
const LOADS_MAX = 3;

export interface Page {
  events: Event[];
  first: number;
  head: number;
  epoch: bigint;
}

/** Reads a page: events after a seq, or the newest there are, at most so many. Fewer come only if there are no more. */
export type ReadPage = (sessionId: string, after: number | "newest", count: number) => Promise<Page>;

export interface Segment {
  readonly index: number;
  /** By place in the segment; undefined where it is not loaded. */
  readonly events: (Event | undefined)[];
  count: number;
  bytes: number;
  /** Grows with everything that changes how the segment looks. */
  version: number;
  state: "idle" | "loading" | "failed";
  used: number;
}

export class SessionLog extends Cell {
  readonly sessionId: string;
  epoch = 0n;
  /** The oldest seq there is. */
  first = 1;
  /** The newest seq there is. */
  head = 0;
  /** Where the live stream is; undefined until it has said where it starts. */
  cursor: number | undefined;
  /** Whether head and epoch are known. */
  known = false;
  /** Events that came twice, for the tests. */
  doubled = 0;
  /** Why nothing can be loaded; undefined if it can. */
  failure: string | undefined;

  private readonly segments = new Map<number, Segment>();
  private readonly related = new Map<string, Event[]>();
  private readonly live = new LiveText();
  private readonly readPage: ReadPage;
  private wanted: number[] = [];
  private loading = 0;
  private priming = false;
  private clock = 0;
  private bytes = 0;

  constructor(sessionId: string, readPage: ReadPage) {
    super();
    this.sessionId = sessionId;
    this.readPage = readPage;
  }

  /**
   * Reads what is looked at first, the end or the stretch around `at`, in one call that waits for nothing: not for
   * the stream, and not for where the log ends.
   */
  prime(at: number): void {
    if (this.known || this.priming) return;
    this.priming = true;
    const from = Math.max(0, Math.floor((at - 1) / SEGMENT) - 1) * SEGMENT;
    this.readPage(this.sessionId, at > 0 ? from : "newest", FIRST_READ * SEGMENT)
      .then(
        (page) => {
          // What the stream told meanwhile is newer.
          if (this.known && page.epoch !== this.epoch) return;
          this.epoch = page.epoch;
          this.first = Math.max(this.first, page.first);
          this.head = Math.max(this.head, page.head);
          this.known = true;
          for (const event of page.events) this.put(event);
          this.changed();
        },
        // The stream, and what is wanted then, says what is wrong.
        () => undefined,
      )
      .finally(() => (this.priming = false));
  }

  /** The stream said where it starts. */
  started(epoch: bigint, first: number, head: number, tail: boolean): void {
    if (this.known && epoch !== this.epoch) this.restart(epoch, first);
    this.epoch = epoch;
    this.first = Math.max(first, 1);
    if (tail || this.cursor === undefined) this.cursor = head;
    this.head = Math.max(this.head, head);
    this.known = true;
    this.changed();
  }

  /** Takes in what the stream brought. What is there already is not taken twice. */
  append(events: readonly Event[]): void {
    for (const event of events) {
      const seq = Number(event.seq);
      if (this.cursor !== undefined && seq <= this.cursor) {
        this.doubled += 1;
        continue;
      }
      this.put(event);
      this.cursor = seq;
      this.head = Math.max(this.head, seq);
      this.live.settle(event);
    }
    this.known = true;
    this.evict();
    this.changed();
  }

  /** Everything through this seq was sent. */
  progress(through: number): void {
    if (through > (this.cursor ?? 0)) this.cursor = through;
    if (through > this.head) {
      this.head = through;
      this.changed();
    }
  }

  /** Retention removed what comes before `oldest`, or the log was made anew. */
  truncated(oldest: number, epoch: bigint): void {
    if (epoch !== this.epoch) this.restart(epoch, oldest);
    this.first = Math.max(oldest, 1);
    this.cursor = Math.max(this.cursor ?? 0, this.first - 1);
    this.changed();
  }

  transient(transient: Transient): void {
    if (transient.body.case === "messageDelta" && this.live.take(transient.body.value)) this.changed();
  }

  /** The live text of a broken stream may be older than what comes next. */
  broken(): void {
    if (this.live.clear()) this.changed();
  }

  liveBlocks(): LiveBlock[] {
    return this.live.all();
  }

  get segmentCount(): number {
    return this.head === 0 ? 0 : Math.floor((this.head - 1) / SEGMENT) + 1;
  }

  get firstSegment(): number {
    return Math.floor((this.first - 1) / SEGMENT);
  }

  segment(index: number): Segment | undefined {
    return this.segments.get(index);
  }

  /** How many events of the segment there are. */
  expected(index: number): number {
    const from = Math.max(index * SEGMENT + 1, this.first);
    const to = Math.min((index + 1) * SEGMENT, this.head);
    return Math.max(0, to - from + 1);
  }

  complete(index: number): boolean {
    return (this.segments.get(index)?.count ?? 0) >= this.expected(index);
  }

  event(seq: number): Event | undefined {
    return this.segments.get(Math.floor((seq - 1) / SEGMENT))?.events[(seq - 1) % SEGMENT];
  }

  /** Events that belong together, oldest first: a call and its result, a prompt and its answer. */
  about(key: string): readonly Event[] {
    return this.related.get(key) ?? NONE;
  }

  /** Says which segments are looked at, the most important first: what is missing is loaded. */
  want(indices: readonly number[]): void {
    this.clock += 1;
    for (const index of indices) {
      const segment = this.segments.get(index);
      if (segment) segment.used = this.clock;
    }
    this.wanted = indices.filter((index) => !this.complete(index));
    this.pump();
  }

  /** Tries again what failed. */
  retry(): void {
    this.failure = undefined;
    for (const segment of this.segments.values()) if (segment.state === "failed") segment.state = "idle";
    this.changed();
    this.pump();
  }

  held(): { segments: number; bytes: number } {
    return { segments: this.segments.size, bytes: this.bytes };
  }

  private pump(): void {
    while (this.loading < LOADS_MAX) {
      const index = this.wanted.find((at) => !this.complete(at) && (this.segments.get(at)?.state ?? "idle") === "idle");
      if (index === undefined) return;
      void this.load(this.open(index));
    }
  }

  private async load(segment: Segment): Promise<void> {
    this.loading += 1;
    segment.state = "loading";
    const { epoch } = this;
    try {
      const after = Math.max(segment.index * SEGMENT, this.first - 1);
      const upTo = (segment.index + 1) * SEGMENT;
      const page = await this.readPage(this.sessionId, after, upTo - after);
      segment.state = "idle";
      this.failure = undefined;
      if (this.epoch === epoch && page.epoch === epoch && this.segments.get(segment.index) === segment) {
        this.first = Math.max(this.first, page.first);
        const before = segment.count;
        for (const event of page.events) if (Number(event.seq) <= upTo) this.put(event);
        // A page that brings nothing of what should be there is not asked for again by itself.
        if (segment.count === before && !this.complete(segment.index)) segment.state = "failed";
        // The page may know a later end than the stream has told: what lies between comes live.
        segment.version += 1;
      }
    } catch (thrown) {
      segment.state = "failed";
      this.failure = thrown instanceof Error ? thrown.message : String(thrown);
    } finally {
      this.loading -= 1;
      this.evict();
      this.changed();
      this.pump();
    }
  }

  private open(index: number): Segment {
    let segment = this.segments.get(index);
    if (!segment) {
      const events = new Array<Event | undefined>(SEGMENT).fill(undefined);
      segment = { index, events, count: 0, bytes: 0, version: 0, state: "idle", used: this.clock };
      this.segments.set(index, segment);
    }
    return segment;
  }

  private put(event: Event): void {
    const seq = Number(event.seq);
    const segment = this.open(Math.floor((seq - 1) / SEGMENT));
    const at = (seq - 1) % SEGMENT;
    if (segment.events[at]) return;
    segment.events[at] = event;
    segment.count += 1;
    const size = weight(event);
    segment.bytes += size;
    this.bytes += size;
    segment.version += 1;
    for (const key of keys(event)) {
      const list = [...(this.related.get(key) ?? []), event].sort((a, b) => Number(a.seq - b.seq));
      this.related.set(key, list);
      for (const other of list) this.touch(Number(other.seq));
    }
  }

  private touch(seq: number): void {
    const segment = this.segments.get(Math.floor((seq - 1) / SEGMENT));
    if (segment) segment.version += 1;
  }

  private evict(): void {
    if (this.segments.size <= HELD_MAX && this.bytes <= BYTES_MAX) return;
    const last = this.segmentCount - 1;
    const byAge = [...this.segments.values()].sort((a, b) => a.used - b.used);
    for (const segment of byAge) {
      if (this.segments.size <= HELD_MAX && this.bytes <= BYTES_MAX) return;
      // What is being looked at, and where live events arrive, stays.
      if (segment.used === this.clock || segment.index >= last - 1 || segment.state === "loading") continue;
      this.drop(segment);
    }
  }

  private drop(segment: Segment): void {
    this.segments.delete(segment.index);
    this.bytes -= segment.bytes;
    for (const event of segment.events) {
      if (!event) continue;
      for (const key of keys(event)) {
        const rest = (this.related.get(key) ?? []).filter((other) => other !== event);
        if (rest.length > 0) this.related.set(key, rest);
        else this.related.delete(key);
      }
    }
  }

  private restart(epoch: bigint, first: number): void {
    this.segments.clear();
    this.related.clear();
    this.live.clear();
    this.bytes = 0;
    this.epoch = epoch;
    this.first = Math.max(first, 1);
    this.head = 0;
    this.cursor = undefined;
  }
}

const NONE: readonly Event[] = [];

/** What an event belongs to. */
export function keys(event: Event): string[] {
  const { body } = event;
  switch (body.case) {
    case "toolCall":
    case "toolResult":
      return [`call:${body.value.callId}`];
    case "promptRequested": {
      const prompt = body.value.prompt;
      if (!prompt) return [];
      return prompt.callId === "" ? [`prompt:${prompt.id}`] : [`prompt:${prompt.id}`, `call:${prompt.callId}`];
    }
    case "promptAnswered":
    case "promptExpired":
    case "promptWithdrawn":
    case "promptDelivered":
      return [`prompt:${body.value.promptId}`];
    case "inputAccepted":
    case "inputChanged":
      return [`input:${body.value.inputId}`];
    default:
      return [];
  }
}

/** Rough size of an event in memory. */
function weight(event: Event): number {
  const { body } = event;
  let size = 400 + (event.raw?.text.length ?? 0) * 2;
  if (body.case === "message" || body.case === "toolResult") {
    for (const block of body.value.blocks) {
      if (block.kind.case === "text" || block.kind.case === "thinking") size += block.kind.value.length * 2;
      else size += 5_000;
    }
  } else if (body.case === "toolCall") size += (body.value.input?.text.length ?? 0) * 2;
  else if (body.case === "output" || body.case === "stderr" || body.case === "inputAccepted" || body.case === "turnEnded") {
    size += body.value.text.length * 2;
  } else if (body.case === "promptRequested") size += (body.value.prompt?.input?.text.length ?? 0) * 2;
  return size;
}
