// What `baton bench` relies on in the older design: under Node and under Bun, with and without a store, every event
// reaches every viewer once and in order, and is acknowledged.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";

const here = dirname(fileURLToPath(import.meta.url));
const bun = join(here, "node_modules/.bin/bun");
const home = mkdtempSync(join(tmpdir(), "baton-relay-"));
/** How long a test may take before it has failed, in ms. */
const LIMIT = { timeout: Number(process.env.BATON_TEST_PATIENCE_MS ?? 30_000) };
const EVENTS = 1_000;
const SESSION = "a session/ä";

/** Every relay that was started; none outlives this process. */
const children = new Set();
after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(home, { recursive: true, force: true });
});

function run(program, ...args) {
  const child = spawn(program, [join(here, "relay.mjs"), ...args], { stdio: ["pipe", "pipe", "pipe"] });
  children.add(child);
  child.printed = [];
  createInterface(child.stdout).on("line", (line) => child.printed.push(line));
  child.said = "";
  child.stderr.on("data", (text) => (child.said += text));
  child.ended = once(child, "close").then(([code, signal]) => signal ?? code);
  return child;
}

async function start(program, ...args) {
  const child = run(program, ...args);
  const line = await Promise.race([
    once(child.stdout, "data").then(([text]) => text.toString()),
    child.ended.then((how) => assert.fail(`the relay ended (${how}): ${child.said}`)),
  ]);
  const ready = JSON.parse(line);
  assert.deepEqual(Object.keys(ready), ["port", "pid", "runtime"]);
  assert.equal(ready.pid, child.pid);
  assert.match(ready.runtime, program === bun ? /^bun \d/ : /^node v\d/);
  child.url = `ws://127.0.0.1:${ready.port}`;
  return child;
}

/** The relay ends as it should, and has printed nothing but its first line. */
async function end(relay, how) {
  if (how === "stdin") relay.stdin.end();
  else relay.kill(how);
  assert.equal(await relay.ended, how === "SIGKILL" ? how : 0);
  assert.equal(relay.printed.length, 1);
  assert.equal(relay.said, "");
}

/** A socket that keeps what came, so that one can wait for what is there already. */
class Peer {
  constructor(url) {
    this.received = [];
    this.waiting = [];
    this.socket = new WebSocket(url);
    this.closed = once(this.socket, "close").then(([code, reason]) => ({ code, reason: reason.toString() }));
    this.opened = once(this.socket, "open");
    this.socket.on("message", (data) => {
      this.received.push(JSON.parse(data));
      this.waiting = this.waiting.filter(({ enough, done }) => !enough() || done());
    });
  }

  /** Ends when what came is enough; fails when the socket ends before. */
  until(enough) {
    if (enough()) return undefined;
    const come = new Promise((done) => this.waiting.push({ enough, done: () => void done() }));
    const gone = this.closed.then(({ code, reason }) => assert.fail(`closed too early: ${code} ${reason}`));
    return Promise.race([come, gone]);
  }
}

const session = `session=${encodeURIComponent(SESSION)}`;

class Daemon extends Peer {
  static async join(relay) {
    const daemon = new Daemon(`${relay.url}/daemon?${session}`);
    await daemon.opened;
    return daemon;
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  get acks() {
    return this.received.map(({ type, seq }) => (assert.equal(type, "ack"), seq));
  }

  acked(seq) {
    return this.until(() => this.received.at(-1)?.seq >= seq);
  }
}

class Viewer extends Peer {
  constructor(relay, from) {
    super(`${relay.url}/viewer?${session}${from === undefined ? "" : `&after=${from}`}`);
  }

  async joined() {
    await this.until(() => this.received.length > 0);
    assert.deepEqual(this.received[0], { type: "connected" });
    return this;
  }

  seen(seq) {
    return this.until(() => this.received.at(-1)?.messages?.[0].seq >= seq);
  }

  get events() {
    return this.received.slice(1).map(({ type, messages, ...rest }) => {
      assert.deepEqual([type, messages.length, rest], ["message", 1, {}]);
      return messages[0];
    });
  }
}

function event(seq) {
  return { seq, t: String(1_700_000_000_000_000_000n + BigInt(seq)), payload: `"${seq}" — äöü\n`.repeat(10) };
}

function events(from, to) {
  return Array.from({ length: to - from + 1 }, (_, nth) => event(from + nth));
}

/** Sends all events, alone and in arrays, while a second viewer joins. */
async function relayAll(relay, { store, batch }) {
  const early = await new Viewer(relay).joined();
  const daemon = await Daemon.join(relay);
  let sent = 0;
  const send = async (count) => {
    const lot = events(sent + 1, sent + count);
    if (sent % 20 === 0) daemon.send(lot);
    else for (const one of lot) daemon.send(one);
    sent += count;
    // The next lot goes out while this one is on its way.
    await daemon.acked(sent - count);
  };
  while (sent < 600) await send(10);

  const late = new Viewer(relay, store ? 50 : undefined);
  let joined = false;
  const joining = late.joined().then(() => (joined = true));
  // Events come while it joins; a hundred are left for when it is there.
  while (!joined && sent < EVENTS - 100) await send(10);
  await joining;
  while (sent < EVENTS) await send(10);

  await daemon.acked(EVENTS);
  await early.seen(EVENTS);
  await late.seen(EVENTS);
  assert.deepEqual(early.events, events(1, EVENTS));
  const first = store ? 51 : late.events[0].seq;
  assert.ok(first <= EVENTS - 99, `the late viewer's first event is ${first}`);
  assert.deepEqual(late.events, events(first, EVENTS));
  if (batch) {
    assert.ok(daemon.acks.length < EVENTS, "a turn's events have one ack");
    assert.ok(daemon.acks.every((seq, nth) => nth === 0 || seq > daemon.acks[nth - 1]), "acks go forward");
  } else {
    assert.deepEqual(daemon.acks, events(1, EVENTS).map(({ seq }) => seq));
  }
}

/** What is acknowledged is there after a restart, is followed by what is new, and is not taken twice. */
async function historyIsWhole(relay, newest) {
  const viewer = await new Viewer(relay).joined();
  const behind = await new Viewer(relay, newest - 10).joined();
  await behind.seen(newest);
  const daemon = await Daemon.join(relay);
  daemon.send(event(newest + 1));
  await daemon.acked(newest + 1);
  await viewer.seen(newest + 1);
  await behind.seen(newest + 1);
  assert.deepEqual(viewer.events, events(1, newest + 1));
  assert.deepEqual(behind.events, events(newest - 9, newest + 1));
  daemon.send(event(newest + 1));
  assert.deepEqual(await daemon.closed, { code: 1008, reason: `seq ${newest + 1} is not after ${newest + 1}` });
  const other = new Peer(`${relay.url}/viewer?session=other&after=0`);
  await other.until(() => other.received.length > 0);
  assert.deepEqual(other.received, [{ type: "connected" }]);
}

const KINDS = [
  { program: process.execPath, name: "node" },
  { program: process.execPath, name: "node", batch: true },
  { program: bun, name: "bun" },
  { program: bun, name: "bun", store: "normal" },
  { program: bun, name: "bun", store: "full" },
  { program: bun, name: "bun", store: "full", batch: true },
];
for (const kind of KINDS) {
  const { program, store, batch } = kind;
  const name = `${kind.name}, ${store ?? "none"}${batch ? ", batch" : ""}`;
  test(`${name}: every event reaches every viewer once, in order, and is acknowledged`, LIMIT, async () => {
    const args = batch ? ["--batch"] : [];
    if (store) args.push("--store", store, "--db", join(home, `${name}.db`));
    let relay = await start(program, ...args);
    await relayAll(relay, kind);
    if (store) {
      let newest = EVENTS;
      for (const how of ["SIGKILL", "stdin", "SIGTERM"]) {
        await end(relay, how);
        relay = await start(program, ...args);
        await historyIsWhole(relay, newest++);
      }
    }
    await end(relay, store ? "stdin" : "SIGTERM");
  });
}

for (const program of [process.execPath, bun]) {
  const name = program === bun ? "bun" : "node";

  test(`${name}: what is malformed ends that socket only, and says why`, LIMIT, async () => {
    const relay = await start(program);
    const viewer = await new Viewer(relay).joined();
    const refusals = [
      ["{", 1007, "a message is no JSON"],
      ["7", 1008, "an event is {seq, t, payload}"],
      ["null", 1008, "an event is {seq, t, payload}"],
      ['{"seq":-1,"t":"1","payload":""}', 1008, "an event is {seq, t, payload}"],
      ['{"seq":1,"t":1,"payload":""}', 1008, "an event is {seq, t, payload}"],
      ['{"seq":1,"t":"1"}', 1008, "an event is {seq, t, payload}"],
      [Buffer.from('{"seq":1,"t":"1","payload":""}'), 1008, "messages are text"],
    ];
    for (const [message, code, reason] of refusals) {
      const daemon = await Daemon.join(relay);
      daemon.socket.send(message);
      daemon.send(event(1)); // Comes after the refusal and is not taken.
      assert.deepEqual(await daemon.closed, { code, reason }, `${message}`);
      assert.deepEqual(daemon.received, []);
    }
    for (const [path, reason] of [["/daemon", "session is missing"], ["/viewer?session=", "session is missing"], ["/viewer?session=a&after=x", "after is no number"]]) {
      assert.deepEqual(await new Peer(relay.url + path).closed, { code: 1008, reason });
    }
    const daemon = await Daemon.join(relay);
    daemon.send(event(2));
    await daemon.acked(2);
    await viewer.seen(2);
    assert.deepEqual(viewer.events, [event(2)]);
    await end(relay, "stdin");
  });

  test(`${name}: too large a message ends that socket only`, LIMIT, async () => {
    const relay = await start(program);
    const large = await Daemon.join(relay);
    large.socket.on("error", () => undefined);
    large.send({ ...event(1), payload: "x".repeat(16 * 1024 * 1024) });
    await large.closed;
    assert.deepEqual(large.received, []);
    const daemon = await Daemon.join(relay);
    daemon.send({ ...event(2), payload: "x".repeat(15 * 1024 * 1024) });
    await daemon.acked(2);
    await end(relay, "SIGTERM");
  });

  test(`${name}: unknown paths are not found`, LIMIT, async () => {
    const relay = await start(program);
    assert.equal((await fetch(`${relay.url.replace("ws", "http")}/other`)).status, 404);
    const socket = new WebSocket(`${relay.url}/other?session=a`);
    const [error] = await once(socket, "error");
    assert.match(error.message, /404/);
    await end(relay, "SIGTERM");
  });
}

test("a command line that cannot be followed is refused with exit code 2, and says why", LIMIT, async () => {
  const refused = [
    [process.execPath, ["--store", "full", "--db", join(home, "x.db")], /needs Bun/],
    [bun, ["--store", "full"], /needs --db/],
    [bun, ["--db", join(home, "x.db")], /--db needs --store/],
    [bun, ["--store", "off"], /none, normal or full/],
    [process.execPath, ["--port", "70000"], /no port/],
    [process.execPath, ["--fast"], /usage: /],
  ];
  for (const [program, args, why] of refused) {
    const child = run(program, ...args);
    assert.equal(await child.ended, 2, args.join(" "));
    assert.match(child.said, why);
    assert.deepEqual(child.printed, []);
  }
});
