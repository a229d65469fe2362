import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { expect, test, vi } from "vitest";

import { type WatchTerminalResponse, WatchTerminalResponseSchema } from "../src/gen/baton/v1/terminal_pb";
import { Keyboard, WAITING_BYTES_MAX } from "../src/terminal/keyboard";
import { asksFirst, harmless } from "../src/terminal/paste";
import { type Display, type Size, type Source, TerminalStream, type View } from "../src/terminal/stream";

type Said = WatchTerminalResponse["body"];

/** A server whose streams the test writes, and a screen that it looks at. */
class Scene implements Source, Display {
  readonly views: View[] = [];
  /** How many messages were taken. */
  taken = 0;
  text = "";
  replayed = "";
  cleared = 0;
  held: Size | undefined;
  mine: Size | undefined = { cols: 100, rows: 30 };
  looked = true;
  /** What the screen waits for before it has room. */
  room: Promise<void> = Promise.resolve();
  private queue: (Said | Error | "end")[] = [];
  private wake: () => void = () => undefined;

  async *open(view: View, signal: AbortSignal): AsyncIterable<WatchTerminalResponse> {
    this.views.push(view);
    this.queue = [];
    signal.addEventListener("abort", () => this.say(new ConnectError("aborted", Code.Canceled)));
    for (;;) {
      const next = this.queue.shift();
      if (next instanceof Error) throw next;
      if (next === "end") return;
      if (next) {
        this.taken += 1;
        yield create(WatchTerminalResponseSchema, { body: next });
      } else await new Promise<void>((done) => (this.wake = done));
    }
  }

  say(...said: (Said | Error | "end")[]): void {
    this.queue.push(...said);
    this.wake();
  }

  visible(): boolean {
    return this.looked;
  }
  place(): Promise<{ release: () => void; wanted: Promise<void> }> {
    return Promise.resolve({ release: () => undefined, wanted: new Promise(() => undefined) });
  }
  random(): number {
    return 0;
  }
  now(): number {
    return 0;
  }

  async show(data: Uint8Array, replay: boolean): Promise<void> {
    const text = new TextDecoder().decode(data);
    this.text += text;
    if (replay) this.replayed += text;
    await this.room;
  }
  clear(): void {
    this.cleared += 1;
    this.text = "";
  }
  resize(size: Size): void {
    this.held = size;
  }
  size(): Size | undefined {
    return this.mine;
  }
}

const started = (offset: number, next: number): Said => ({
  case: "started",
  value: { $typeName: "baton.v1.TerminalStarted", viewerId: "7", offset: BigInt(offset), oldestOffset: 0n, nextOffset: BigInt(next), size: { $typeName: "baton.v1.TerminalSize", cols: 90, rows: 20 } },
});
const output = (offset: number, text: string): Said => ({
  case: "output",
  value: { $typeName: "baton.v1.TerminalOutput", offset: BigInt(offset), data: new TextEncoder().encode(text) },
});
const truncated = (offset: number): Said => ({ case: "truncated", value: { $typeName: "baton.v1.TerminalTruncated", oldestOffset: BigInt(offset) } });
const exit: Said = { case: "exit", value: { $typeName: "baton.v1.TerminalExit", lifecycle: 5 } };

function begin(fresh = false): [Scene, TerminalStream] {
  const scene = new Scene();
  const stream = new TerminalStream("ses_1", scene, scene, fresh);
  stream.start();
  return [scene, stream];
}

test("a broken stream goes on at the byte where it was: none twice, none left out", async () => {
  const [scene, stream] = begin();
  await vi.waitFor(() => expect(scene.views).toEqual([{ terminalId: "ses_1", offset: 0n, size: { cols: 100, rows: 30 } }]));
  scene.say(started(5, 8), output(5, "abc"), output(8, "de"));
  await vi.waitFor(() => expect(scene.text).toBe("abcde"));
  expect([scene.replayed, stream.viewerId, scene.held]).toEqual(["abc", "7", { cols: 90, rows: 20 }]);
  scene.say(new ConnectError("gone", Code.Unavailable));
  await vi.waitFor(() => expect(stream.phase.kind).toBe("waiting"));
  expect(stream.viewerId).toBe("");
  await vi.waitFor(() => expect(scene.views[1]?.offset).toBe(10n));
  // Even a server that begins too early shows nothing twice.
  scene.say(started(10, 10), output(8, "defg"), output(12, "h"));
  await vi.waitFor(() => expect(scene.text).toBe("abcdefgh"));
  scene.say("end");
  await vi.waitFor(() => expect(scene.views[2]?.offset).toBe(13n));
  scene.say(started(13, 13), exit);
  await vi.waitFor(() => expect(stream.phase.kind).toBe("over"));
  expect([stream.missing, scene.cleared]).toEqual([0n, 0]);
});

test("what is no longer kept is a gap that is counted, and the screen begins anew", async () => {
  const [scene, stream] = begin();
  await vi.waitFor(() => expect(scene.views.length).toBe(1));
  scene.say(started(0, 0), output(0, "old"));
  await vi.waitFor(() => expect(scene.text).toBe("old"));
  scene.say(truncated(1003), output(1003, "new"));
  await vi.waitFor(() => expect(scene.text).toBe("new"));
  expect([stream.missing, scene.cleared]).toEqual([1000n, 1]);
  // A server with another store: everything is read again.
  scene.say(new ConnectError("future", Code.OutOfRange));
  await vi.waitFor(() => expect(scene.views[1]?.offset).toBe(0n));
  stream.close();
});

test("a screen without room takes nothing more from the stream", async () => {
  const [scene, stream] = begin();
  let free: () => void = () => undefined;
  scene.room = new Promise((done) => (free = done));
  await vi.waitFor(() => expect(scene.views.length).toBe(1));
  scene.say(started(0, 0), output(0, "a"), output(1, "b"), output(2, "c"));
  await vi.waitFor(() => expect(scene.text).toBe("a"));
  await new Promise((done) => setTimeout(done, 20));
  expect([scene.taken, scene.text]).toEqual([2, "a"]);
  free();
  await vi.waitFor(() => expect(scene.text).toBe("abc"));
  stream.close();
});

test("nobody looks: it is no viewer; and what it missed comes when somebody does", async () => {
  const [scene, stream] = begin();
  await vi.waitFor(() => expect(scene.views.length).toBe(1));
  scene.say(started(0, 0), output(0, "a"));
  await vi.waitFor(() => expect(scene.text).toBe("a"));
  scene.looked = false;
  stream.again();
  await vi.waitFor(() => expect(stream.phase.kind).toBe("hidden"));
  expect(scene.views.length).toBe(1);
  scene.looked = true;
  stream.retry();
  await vi.waitFor(() => expect(scene.views[1]?.offset).toBe(1n));
  stream.close();
});

test("the first look at what was opened here is live from its first byte", async () => {
  const [scene, stream] = begin(true);
  await vi.waitFor(() => expect(scene.views.length).toBe(1));
  scene.say(started(0, 3), output(0, "abc"));
  await vi.waitFor(() => expect(scene.text).toBe("abc"));
  expect(scene.replayed).toBe("");
  stream.close();
});

test("a terminal that is not there is not asked for again", async () => {
  const [scene, stream] = begin();
  await vi.waitFor(() => expect(scene.views.length).toBe(1));
  scene.say(new ConnectError("there is no terminal", Code.NotFound));
  await vi.waitFor(() => expect(stream.phase).toEqual({ kind: "refused", why: "There is no terminal." }));
  expect(scene.views.length).toBe(1);
});

const bytes = (text: string) => new TextEncoder().encode(text);

test("keys go one call at a time, in order, together where they waited, and never again", async () => {
  const calls: string[] = [];
  const answers: ((thrown?: Error) => void)[] = [];
  const refused: string[] = [];
  const keyboard = new Keyboard(
    (data) => {
      calls.push(new TextDecoder().decode(data));
      return new Promise<void>((done, fail) => answers.push((thrown) => (thrown === undefined ? done() : fail(thrown))));
    },
    (why) => refused.push(why),
  );
  for (const key of "abc") keyboard.type(bytes(key));
  expect(calls).toEqual(["a"]);
  answers[0]?.();
  await vi.waitFor(() => expect(calls).toEqual(["a", "bc"]));
  keyboard.type(bytes("dropped"));
  answers[1]?.(new ConnectError("the machine is away", Code.FailedPrecondition));
  await vi.waitFor(() => expect(refused).toEqual(["What you typed last was not typed. What came after it was dropped. The machine is away."]));
  keyboard.type(bytes("d"));
  await vi.waitFor(() => expect(calls).toEqual(["a", "bc", "d"]));
  answers[2]?.(new ConnectError("fetch failed", Code.Unavailable));
  await vi.waitFor(() => expect(refused[1]).toMatch(/^What you typed last may not have arrived/));
  // A paste goes in pieces; one beyond all bounds does not go at all.
  keyboard.type(bytes("x".repeat(150_000)));
  for (const at of [3, 4, 5]) {
    await vi.waitFor(() => expect(answers.length).toBe(at + 1));
    answers[at]?.();
  }
  expect(calls.slice(3).map((call) => call.length)).toEqual([65_536, 65_536, 18_928]);
  await vi.waitFor(() => undefined);
  keyboard.type(new Uint8Array(WAITING_BYTES_MAX + 1));
  expect(refused[2]).toMatch(/more than the program takes/);
  expect(calls.length).toBe(6);
});

test("a paste holds nothing that no keyboard types, and lines ask first where the program cannot tell", () => {
  expect(harmless("a\r\nb\rc\x1b[201~\x1b]52;c;eA==\x07\x00d\te\u009b1m")).toBe("a\nb\nc[201~]52;c;eA==d\te1m");
  expect([asksFirst("one", false), asksFirst("a\nb", false), asksFirst("a\nb", true)]).toEqual([false, true, false]);
});
