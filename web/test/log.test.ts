import { create } from "@bufbuild/protobuf";
import { expect, test, vi } from "vitest";

import { type Event, EventSchema } from "../src/gen/baton/v1/event_pb";
import { type Page, SEGMENT, SessionLog } from "../src/store/log";

function output(seq: number): Event {
  return create(EventSchema, { seq: BigInt(seq), body: { case: "output", value: { text: `line ${seq}` } } });
}

function range(from: number, to: number): Event[] {
  return Array.from({ length: to - from + 1 }, (_, at) => output(from + at));
}

/** A server with a log of `head` events, from `first`. */
function server(head: number, first = 1) {
  const asked: number[] = [];
  const read = (_: string, place: number | "newest", count: number): Promise<Page> => {
    const after = place === "newest" ? Math.max(0, head - count) : place;
    asked.push(after);
    const from = Math.max(after + 1, first);
    return Promise.resolve({ events: from > head ? [] : range(from, Math.min(head, after + count)), first, head, epoch: 7n });
  };
  return { asked, read };
}

function seqs(log: SessionLog, index: number): number[] {
  return (log.segment(index)?.events ?? []).flatMap((event) => (event ? [Number(event.seq)] : []));
}

test("a stream that resumes brings neither a gap nor a double", () => {
  const log = new SessionLog("s", server(0).read);
  log.started(7n, 1, 0, false);
  log.append(range(1, 30));
  // The next stream starts a little too early, as one that resumes after a lost progress does.
  log.append(range(25, 60));
  expect(seqs(log, 0)).toEqual(range(1, 50).map((event) => Number(event.seq)));
  expect(seqs(log, 1)).toEqual(range(51, 60).map((event) => Number(event.seq)));
  expect(log.doubled).toBe(6);
  expect(log.cursor).toBe(60);
});

test("pages and the stream fill the same segments, in any order", async () => {
  const log = new SessionLog("s", server(120).read);
  log.started(7n, 1, 118, true);
  log.want([2]);
  log.append(range(119, 120));
  await vi.waitFor(() => expect(log.complete(2)).toBe(true));
  expect(seqs(log, 2)).toEqual(range(101, 120).map((event) => Number(event.seq)));
  expect(log.doubled).toBe(0);
});

test("the first read waits for no stream, and the stream goes on from it", async () => {
  const { asked, read } = server(100_007);
  const log = new SessionLog("s", read);
  log.prime(0);
  log.prime(0);
  await vi.waitFor(() => expect(log.known).toBe(true));
  expect(log.head).toBe(100_007);
  expect(log.complete(2000) && log.complete(1999) && log.complete(1998)).toBe(true);
  log.want([2000, 1999, 1998]);
  expect(asked).toEqual([99_857]);
  // What came between the two is loaded, not left out.
  log.started(7n, 1, 100_009, true);
  log.append([output(100_010)]);
  expect(log.complete(2000)).toBe(false);
  expect(seqs(log, 2000).at(-1)).toBe(100_010);
});

test("the first read of a link to an event is the stretch around it", async () => {
  const { asked, read } = server(100_007);
  const log = new SessionLog("s", read);
  log.prime(50_001);
  await vi.waitFor(() => expect(log.known).toBe(true));
  expect(asked).toEqual([49_950]);
  expect(log.event(50_001)).toBeDefined();
  expect(log.complete(999) && log.complete(1000) && log.complete(1001)).toBe(true);
});

test("a first read that is older than what the stream told changes nothing", async () => {
  let answer: (page: Page) => void = () => undefined;
  const log = new SessionLog("s", () => new Promise((done) => (answer = done)));
  log.prime(0);
  log.started(8n, 1, 3, true);
  answer({ events: range(1, 9), first: 1, head: 9, epoch: 7n });
  await new Promise((done) => setTimeout(done));
  expect(log.head).toBe(3);
  expect(log.event(1)).toBeUndefined();
});

test("only what is looked at is loaded, and what is held is bounded", async () => {
  const { asked, read } = server(100_000);
  const log = new SessionLog("s", read);
  log.started(7n, 1, 100_000, true);
  for (let index = 0; index < 400; index += 4) {
    log.want([index, index + 1, index + 2, index + 3]);
    // Each page is answered at once: a turn of the event loop settles them all.
    await new Promise((done) => setTimeout(done));
    expect(log.complete(index + 3)).toBe(true);
  }
  expect(log.held().segments).toBeLessThanOrEqual(124);
  expect(asked).not.toContain(400 * SEGMENT);
  // What was forgotten is loaded again when it is looked at again.
  expect(log.segment(0)).toBeUndefined();
  log.want([0]);
  await vi.waitFor(() => expect(log.complete(0)).toBe(true));
});

test("a start that retention removed moves the log's first, and nothing is asked for before it", async () => {
  const { asked, read } = server(200, 130);
  const log = new SessionLog("s", read);
  log.started(7n, 130, 200, true);
  expect(log.firstSegment).toBe(2);
  log.want([2, 3]);
  await vi.waitFor(() => expect(log.complete(2) && log.complete(3)).toBe(true));
  expect(Math.min(...asked)).toBe(129);
  log.truncated(160, 7n);
  expect(log.first).toBe(160);
});

test("another epoch is another log", () => {
  const log = new SessionLog("s", server(0).read);
  log.started(7n, 1, 3, true);
  log.append(range(4, 5));
  log.started(8n, 1, 1, true);
  expect(log.event(4)).toBeUndefined();
  expect(log.cursor).toBe(1);
  expect(log.head).toBe(1);
});

test("a page that cannot be read is told and not asked for in a loop", async () => {
  let calls = 0;
  const log = new SessionLog("s", () => {
    calls += 1;
    return Promise.reject(new Error("away"));
  });
  log.started(7n, 1, 50, true);
  log.want([0]);
  await vi.waitFor(() => expect(log.failure).toBe("away"));
  log.want([0]);
  expect(calls).toBe(1);
  log.retry();
  await vi.waitFor(() => expect(calls).toBe(2));
});

test("a call knows its result, also when a page brings them apart", async () => {
  const log = new SessionLog("s", () =>
    Promise.resolve({
      events: [create(EventSchema, { seq: 50n, body: { case: "toolCall", value: { callId: "c", tool: "Bash" } } })],
      first: 50,
      head: 51,
      epoch: 7n,
    }),
  );
  log.started(7n, 50, 50, true);
  log.append([create(EventSchema, { seq: 51n, body: { case: "toolResult", value: { callId: "c" } } })]);
  expect(log.about("call:c").map((event) => event.body.case)).toEqual(["toolResult"]);
  log.want([0]);
  await vi.waitFor(() => expect(log.about("call:c").map((event) => event.body.case)).toEqual(["toolCall", "toolResult"]));
});
