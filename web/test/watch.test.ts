import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test, vi } from "vitest";

import { type WatchResponse, WatchResponseSchema } from "../src/gen/baton/v1/event_pb";
import { SessionLog } from "../src/store/log";
import { Records } from "../src/store/records";
import { backoff, Watch, type WatchInit, type World } from "../src/store/watch";

/** A server whose streams the test writes. */
class Streams {
  readonly requests: WatchInit[] = [];
  private feeds: ((answer: WatchResponse | Error) => void)[] = [];

  async *open(request: WatchInit, signal: AbortSignal): AsyncIterable<WatchResponse> {
    this.requests.push(request);
    const queue: (WatchResponse | Error)[] = [];
    let wake: () => void = () => undefined;
    this.feeds.push((answer) => {
      queue.push(answer);
      wake();
    });
    signal.addEventListener("abort", () => {
      queue.push(new ConnectError("aborted", Code.Canceled));
      wake();
    });
    for (;;) {
      const next = queue.shift();
      if (next instanceof Error) throw next;
      if (next) yield next;
      else await new Promise<void>((done) => (wake = done));
    }
  }

  say(scope: number, body: WatchResponse["body"]): void {
    this.feeds.at(-1)?.(create(WatchResponseSchema, { scope, body }));
  }

  fail(error: Error): void {
    this.feeds.at(-1)?.(error);
  }
}

function tab(streams: Streams, part: Partial<World> = {}) {
  const records = new Records();
  const watch = new Watch(records, {
    open: (request, signal) => streams.open(request, signal),
    visible: () => true,
    notifies: () => false,
    place: () => Promise.resolve({ release: () => undefined, wanted: new Promise(() => undefined) }),
    random: () => 0,
    now: () => 0,
    ...part,
  });
  return { records, watch };
}

const started = (head: bigint) => ({ case: "started" as const, value: create(WatchResponseSchema, { body: { case: "started", value: { head } } }).body.value as never });

test("a broken stream is opened again from where it was", async () => {
  const streams = new Streams();
  const { records, watch } = tab(streams);
  const log = new SessionLog("s", () => Promise.reject(new Error("unused")));
  watch.follow(log);
  watch.start();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(1));
  streams.say(0, started(0n));
  streams.say(1, create(WatchResponseSchema, { body: { case: "started", value: { head: 5n, logEpoch: 3n, first: 1n } } }).body);
  streams.say(1, create(WatchResponseSchema, { body: { case: "events", value: { events: [{ seq: 6n }, { seq: 7n }] } } }).body);
  streams.say(0, create(WatchResponseSchema, { body: { case: "progress", value: { through: 40n } } }).body);
  await vi.waitFor(() => expect(records.revision).toBe(40n));
  expect(watch.phase.kind).toBe("live");
  streams.fail(new ConnectError("gone", Code.Unavailable));
  await vi.waitFor(() => expect(watch.phase.kind).toBe("waiting"));
  watch.retry();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(2));
  expect(streams.requests[1]?.scopes).toEqual([
    { scope: { case: "all", value: { fromRevision: 40n } } },
    { scope: { case: "session", value: { sessionId: "s", logEpoch: 3n, afterSeq: 7n, tail: false } } },
  ]);
});

test("nobody looks: the stream is given back, and opened again for who comes", async () => {
  const streams = new Streams();
  let visible = true;
  const { watch } = tab(streams, { visible: () => visible });
  watch.start();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(1));
  visible = false;
  watch.again();
  await vi.waitFor(() => expect(watch.phase.kind).toBe("hidden"));
  visible = true;
  watch.retry();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(2));
});

test("a hidden tab that notifies hears of prompts and of nothing else", async () => {
  const streams = new Streams();
  const { watch } = tab(streams, { visible: () => false, notifies: () => true });
  watch.start();
  await vi.waitFor(() => expect(streams.requests[0]?.scopes.map((one) => one.scope.case)).toEqual(["prompts"]));
});

test("a tab without a place looks and lets go", async () => {
  const streams = new Streams();
  const { watch } = tab(streams, { place: () => Promise.resolve(undefined) });
  watch.start();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(1));
  streams.say(0, started(0n));
  await vi.waitFor(() => expect(watch.phase.kind).toBe("polling"));
  watch.retry();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(2));
});

test("a session that does not exist does not cost the stream of the rest", async () => {
  const streams = new Streams();
  const { watch } = tab(streams);
  watch.follow(new SessionLog("gone", () => Promise.reject(new Error("unused"))));
  watch.start();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(1));
  streams.fail(new ConnectError("no such session", Code.NotFound));
  await vi.waitFor(() => expect(streams.requests).toHaveLength(2));
  expect(streams.requests[1]?.scopes.map((one) => one.scope.case)).toEqual(["all"]);
  expect(watch.missing.has("gone")).toBe(true);
});

test("who is signed out does not knock again", async () => {
  const streams = new Streams();
  const { watch } = tab(streams);
  watch.start();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(1));
  streams.fail(new ConnectError("who?", Code.Unauthenticated));
  await vi.waitFor(() => expect(watch.phase.kind).toBe("signed-out"));
  expect(streams.requests).toHaveLength(1);
});

test("pauses grow, are bounded, and differ", () => {
  expect(backoff(0, 0)).toBeGreaterThan(0);
  expect(backoff(0, 1)).toBeLessThanOrEqual(500);
  expect(backoff(50, 1)).toBeLessThanOrEqual(20_000);
  expect(backoff(4, 0.1)).not.toBe(backoff(4, 0.9));
});

test("tasks are followed from where the records are, never from the beginning", async () => {
  const streams = new Streams();
  const { watch } = tab(streams);
  const told: string[] = [];
  let missed = 0;
  const follower = {
    apply: (changes: readonly { record: { case?: string; value?: unknown } }[]) => {
      for (const { record } of changes) if (record.case === "deletedId") told.push(String(record.value));
    },
    missed: () => (missed += 1),
  };
  watch.followTasks(follower);
  watch.start();
  await vi.waitFor(() => expect(streams.requests).toHaveLength(1));
  // Where the records are is not known yet.
  expect(streams.requests[0]?.scopes.map((one) => one.scope.case)).toEqual(["all"]);
  streams.say(0, create(WatchResponseSchema, { body: { case: "progress", value: { through: 40n } } }).body);
  await vi.waitFor(() => expect(streams.requests).toHaveLength(2));
  expect(streams.requests[1]?.scopes[1]).toEqual({ scope: { case: "task", value: { fromRevision: 40n, taskId: "" } } });
  streams.say(1, create(WatchResponseSchema, { body: { case: "started", value: { head: 50n } } }).body);
  streams.say(1, create(WatchResponseSchema, { body: { case: "changes", value: { changes: [{ revision: 45n, record: { case: "deletedId", value: "t" } }] } } }).body);
  streams.say(1, create(WatchResponseSchema, { body: { case: "progress", value: { through: 60n } } }).body);
  await vi.waitFor(() => expect(told).toEqual(["t"]));
  // A gap: what is shown is read again, and the stream goes on behind the gap instead of with all there is.
  streams.say(1, create(WatchResponseSchema, { body: { case: "truncated", value: { oldestSeq: 55n } } }).body);
  await vi.waitFor(() => expect(streams.requests).toHaveLength(3));
  expect(missed).toBe(1);
  expect(streams.requests[2]?.scopes[1]).toEqual({ scope: { case: "task", value: { fromRevision: 50n, taskId: "" } } });
  watch.followTasks(undefined);
  await vi.waitFor(() => expect(streams.requests).toHaveLength(4));
  expect(streams.requests[3]?.scopes.map((one) => one.scope.case)).toEqual(["all"]);
});
