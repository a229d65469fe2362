// What pages of other origins can do with the browser of somebody who is signed in: nothing. In a real browser, where
// some of them get the cookie sent along (ports are no sites), and by raw requests that say what they like.
//
// The last test lets such a page in by configuration and sees it do it all: so what they do here is an attack.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createServer, request as ask } from "node:http";
import { connect as connectH2 } from "node:http2";
import { connect, createServer as createSwitch } from "node:net";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { attack } from "./attack.mjs";
import { Baton, mustEndWithin, openBrowser, PATIENCE, until, Visitor, within } from "./stage.mjs";

const REBOUND = "rebound.test";

/** What is waited for has deadlines of its own, and says what it was; these are for all else. */
const LIMIT = { timeout: 4 * PATIENCE };
mustEndWithin(10 * PATIENCE);

let baton;
let browser;
let victim;
let home;
let cookie;
let attacker;
let rebinding;
let tap;
let aims;

/** A protobuf field of bytes, and a gRPC frame of fields; all lengths here are below 128. */
const field = (number, value) => Buffer.concat([Buffer.from([(number << 3) | 2, Buffer.byteLength(value)]), Buffer.from(value)]);
const frame = (...fields) => {
  const message = Buffer.concat(fields);
  return Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
};

/** The attacker's pages, on every name that leads to this machine. */
async function startAttacker() {
  const server = createServer((request, response) => {
    const headers = { "content-type": "text/html", connection: "close" };
    if (request.url === "/no-referrer") headers["referrer-policy"] = "no-referrer";
    if (request.url === "/sandboxed") headers["content-security-policy"] = "sandbox allow-scripts allow-forms allow-popups";
    response.writeHead(200, headers).end("<!doctype html><title>Kittens</title><body>");
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  return { server, port: server.address().port };
}

/** The head of a request in what a connection carries. */
const HEAD = /(?:GET|HEAD|POST|OPTIONS) \/\S* HTTP\/1\.1\r\n((?:[^\r\n]+\r\n)+)\r\n/g;

/** Counts the requests with the cookie in what comes in pieces, but for those of the server's own pages. */
function counter(count) {
  let rest = "";
  return (data) => {
    rest = (rest + data.toString("latin1")).slice(-100_000);
    let read = 0;
    for (const { index, 0: all, 1: fields } of rest.matchAll(HEAD)) {
      if (fields.includes("baton_session=") && !/sec-fetch-site: same-origin/i.test(fields)) count();
      read = index + all.length;
    }
    rest = rest.slice(read);
  };
}

/**
 * Passes connections on: to one port first and then to another, as the owner of a name changes where it leads. Sees on
 * the way how often the cookie is sent to the server, for not of every request does the browser tell all its headers.
 */
async function startSwitch(port) {
  const sockets = new Set();
  const self = { to: port, cookies: 0 };
  self.server = createSwitch((near) => {
    if (self.to === baton.port) near.on("data", counter(() => (self.cookies += 1)));
    const far = connect(self.to, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      sockets.add(one);
      one.pipe(other);
      one.on("error", () => other.destroy());
      one.on("close", () => (sockets.delete(one), other.destroy()));
    }
  });
  self.point = (to) => {
    self.to = to;
    for (const socket of sockets) socket.destroy();
  };
  self.close = () => {
    self.server.close();
    self.point(0);
  };
  await new Promise((done) => self.server.listen(0, "127.0.0.1", done));
  self.port = self.server.address().port;
  return self;
}

/** What can be read and what changes something, with all that an attacker could know but the cookie. */
async function aim() {
  const [session] = await baton.json("ps");
  const [prompt] = await baton.json("prompts");
  const code = new URL(await baton.link()).hash.replace("#code=", "");
  const spawn = JSON.stringify({ prompt: "run: touch stolen", cwd: baton.work, harness: "demo", permission_mode: "auto" });
  const allow = field(4, Buffer.from([8, 1]));
  const call = (method, ...fields) => ({ method: "POST", path: `/baton.v1.${method}`, body: frame(...fields), rpc: true, changes: !/\/(Get|List)/.test(method) });
  return {
    session: session.id,
    prompt: prompt.id,
    reads: [
      "/auth/caller",
      "/api/sessions/spawned",
      `/api/sessions/${session.id}/info`,
      "/api/daemon/status",
      "/api/daemon/list",
    ].map((path) => ({ method: "GET", path })),
    pages: ["/", `/sessions/${session.id}`, "/settings"].map((path) => ({ method: "GET", path })),
    calls: [
      call("AccessService/GetCaller"),
      call("AccessService/ListTokens"),
      call("SessionService/ListSessions"),
      call("PromptService/ListPrompts"),
      call("EventService/ListEvents", field(1, session.id)),
      call("SessionService/CreateSession", field(2, "run: touch stolen"), field(3, baton.work), field(4, "demo")),
      call("PromptService/AnswerPrompt", field(2, prompt.id), allow),
      call("PromptService/CreatePromptRule", field(2, "Bash"), Buffer.from([24, 1])),
      call("AccessService/CreateToken", field(1, "thief"), Buffer.from([16, 1])),
      call("SessionService/SendInput", field(2, session.id), field(3, "run: touch stolen")),
    ],
    posts: [
      { method: "POST", path: "/api/sessions/spawn", body: Buffer.from(spawn) },
      { method: "POST", path: `/api/sessions/${session.id}/resume`, body: Buffer.from("{}") },
      { method: "POST", path: "/auth/exchange", body: Buffer.from(JSON.stringify({ code })) },
    ],
    last: [
      call("SessionService/EndSession", field(2, session.id), Buffer.from([24, 1])),
      { method: "POST", path: "/auth/sign-out", body: Buffer.alloc(0) },
    ],
  };
}

/** Everything that an attack would change, seen by the admin. */
async function state() {
  const tokens = (await baton.json("token", "list")).map(({ id, revoked_at }) => ({ id, revoked_at }));
  const records = await Promise.all(["ps", "prompts"].map((what) => baton.json(what, "-a")));
  const rules = await baton.json("rules", "list");
  return { tokens, sessions: records[0], prompts: records[1], rules, stolen: existsSync(join(baton.work, "stolen")) };
}

/** Runs the attack in a page; gives what it got of each thing that it tried, and how often the cookie went along. */
async function strike(page, target, what) {
  tap.cookies = rebinding.cookies = 0;
  const pings = new Set();
  const begun = (request) => {
    if (new URL(request.url()).origin === target && request.resourceType() === "ping") pings.add(request);
  };
  const done = (request) => pings.delete(request);
  const listeners = { request: begun, requestfinished: done, requestfailed: done };
  for (const [name, listener] of Object.entries(listeners)) page.on(name, listener);
  const plain = (one) => ({ ...one, body: one.body?.toString("base64") });
  const requests = Object.fromEntries(["reads", "pages", "calls", "posts", "last"].map((name) => [name, what[name].map(plain)]));
  const aim = { target, session: what.session, prompt: what.prompt, patience: PATIENCE / 2, ...requests };
  const tried = await within("the page has tried everything", page.evaluate(attack, aim), 2 * PATIENCE);
  await until("what was sent as a beacon is answered", () => pings.size === 0);
  for (const frame of page.frames().slice(1)) {
    // A frame that may not be shown has a page of the browser's in its place.
    const roots = () => within(`the content of the frame ${frame.url()}`, frame.locator("#root").count());
    tried.push({ what: `frame ${frame.url()}`, shown: frame.url().startsWith(target) && (await roots()) > 0 });
  }
  return { tried, cookies: tap.cookies + rebinding.cookies };
}

async function strikeFrom(url, what, meanwhile) {
  const page = await within("a new page", victim.context.newPage());
  try {
    await page.goto(url);
    await meanwhile?.();
    const target = new URL(url).hostname === REBOUND ? new URL(url).origin : baton.url;
    return await strike(page, target, what);
  } finally {
    for (const one of victim.context.pages()) if (one !== home) await within(`${one.url()} is closed`, one.close());
  }
}

/** Whether an answer is a refusal: 403, or gRPC's word for it. */
const refused = ({ status, grpc, bytes }) => status === 403 || (status === 200 && grpc === "7" && !bytes);

/** What an attack got: an answer that is not a refusal, an open stream, a page. */
const gains = (tried) => tried.filter((one) => one.open || one.shown || (one.status !== undefined && !refused(one)));

async function isUnharmed(previous) {
  assert.deepEqual(await state(), previous);
  const asked = home.evaluate(() => fetch("/auth/caller").then((answer) => answer.status));
  assert.equal(await within("who is signed in", asked), 200, "still signed in");
}

before(async () => {
  baton = await Baton.start();
  attacker = await startAttacker();
  rebinding = await startSwitch(attacker.port);
  tap = await startSwitch(baton.port);
  const names = [
    `MAP ${REBOUND}:${baton.port} 127.0.0.1:${rebinding.port}`,
    `MAP 127.0.0.1:${baton.port} 127.0.0.1:${tap.port}`,
    "MAP kittens.test 127.0.0.1",
  ];
  browser = await openBrowser(`--host-resolver-rules=${names.join(",")}`);
  victim = await within("a browser's context", Visitor.open(browser, baton));
  home = await victim.signIn();
  const [own] = (await victim.context.cookies()).filter((one) => one.name === "baton_session");
  cookie = `baton_session=${own.value}`;
  // The worst case: the browser has the cookie for the name that is bound anew, too.
  await victim.context.addCookies([{ ...own, domain: REBOUND }]);
  await baton.demo("run: touch stolen");
  await until("the agent asks", async () => (await baton.json("prompts")).length === 1);
  await until("the agent's state is told", async () => (await baton.json("ps"))[0].activity === "awaiting_prompt");
  aims = await aim();
}, LIMIT);

after(async () => {
  try {
    await within("the browser ends", browser?.close());
  } finally {
    attacker?.server.close();
    attacker?.server.closeAllConnections();
    rebinding?.close();
    tap?.close();
    await baton?.stop();
  }
}, LIMIT);

for (const [name, host, path, withCookie] of [
  ["another site", "kittens.test", "/", false],
  ["another port of the same host", "127.0.0.1", "/", true],
  ["another port, which does not say where it comes from", "127.0.0.1", "/no-referrer", true],
  ["another name of the same machine", "localhost", "/", false],
  ["an origin that is none", "127.0.0.1", "/sandboxed", false],
]) {
  test(`a page of ${name} reads nothing and changes nothing`, LIMIT, async (t) => {
    const previous = await state();
    const { tried, cookies } = await strikeFrom(`http://${host}:${attacker.port}${path}`, aims);
    t.diagnostic(`${tried.length} things tried; the cookie went along ${cookies} times`);
    assert.ok(tried.length > 100);
    assert.equal(cookies > 0, withCookie, `the cookie went along ${cookies} times`);
    assert.deepEqual(gains(tried), []);
    // What a page of another origin sees of an answer is nothing at all, not even a refusal.
    assert.deepEqual(tried.filter((one) => one.status !== undefined), []);
    await isUnharmed(previous);
  });
}

test("a page whose name is pointed at the server reads nothing and changes nothing", LIMIT, async (t) => {
  const previous = await state();
  rebinding.point(attacker.port);
  const { tried, cookies } = await strikeFrom(`http://${REBOUND}:${baton.port}/`, aims, () => rebinding.point(baton.port));
  const answered = tried.filter((one) => one.status !== undefined);
  t.diagnostic(`${tried.length} things tried, ${answered.length} refusals read; the cookie went along ${cookies} times`);
  assert.ok(answered.length > 50 && cookies > 20, "the requests reached the server");
  assert.deepEqual(gains(tried), []);
  await isUnharmed(previous);
});

test("raw requests in the name of such pages are refused on every surface", LIMIT, async (t) => {
  const previous = await state();
  const admin = `Bearer ${readFileSync(join(baton.home, "data", "admin.token"), "utf8").trim()}`;
  const rebound = `${REBOUND}:${baton.port}`;
  const foreign = `http://127.0.0.1:${attacker.port}`;
  const secrets = [...aims.reads, ...aims.calls, ...aims.posts, ...aims.last];
  const socket = { method: "GET", path: `/api/sessions/${aims.session}/ws`, socket: true };
  const stream = { method: "GET", path: `/api/sessions/${aims.session}/stream` };
  const everything = [...secrets, ...aims.pages, socket, stream, { method: "OPTIONS", path: "/api/sessions/spawn" }];
  const handshake = { connection: "upgrade", upgrade: "websocket", "sec-websocket-version": "13", "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==" };

  const raw = (one, headers) => within(`an answer to ${one.method} ${one.path}`, sent(one, headers));
  const sent = ({ method, path, body, rpc, socket }, headers) =>
    new Promise((resolve, reject) => {
      const type = body && { "content-type": rpc ? "application/grpc-web+proto" : "application/json", "content-length": body.length };
      const request = ask({ port: baton.port, host: "127.0.0.1", agent: false, method, path, timeout: PATIENCE, headers: { ...type, ...(socket && handshake), ...headers } });
      request.on("upgrade", (_, connection) => (connection.destroy(), resolve({ open: true })));
      request.on("timeout", () => request.destroy(new Error(`no answer: ${method} ${path}`)));
      request.on("error", reject);
      request.on("response", (response) => {
        // Not the end: a stream that was opened has none.
        resolve({ status: response.statusCode, grpc: response.headers["grpc-status"], bytes: Number(response.headers["content-length"] ?? 0) });
        request.destroy();
      });
      request.end(body);
    });

  let count = 0;
  const refuses = async (requests, headers, change = (one) => one) => {
    for (const one of requests) {
      const got = await raw(change(one), headers);
      assert.ok(!got.open && refused(got), `${one.method} ${one.path} ${JSON.stringify(Object.keys(headers))}: ${JSON.stringify(got)}`);
      count += 1;
    }
  };
  const own = `127.0.0.1:${baton.port}`;
  // A name that is not the server's opens nothing, whatever else is said.
  await refuses(everything, { host: rebound, cookie });
  await refuses(everything, { host: rebound, cookie, origin: `http://${rebound}`, "sec-fetch-site": "same-origin" });
  await refuses(everything, { host: rebound, cookie, origin: baton.url, "sec-fetch-site": "same-origin" });
  await refuses(everything, { host: rebound, authorization: admin });
  // The same name in the request's first line.
  await refuses(everything, { host: own, cookie, origin: baton.url }, (one) => ({ ...one, path: `http://${rebound}${one.path}` }));
  // The server's name, and the page is somebody else's, or nobody says whose.
  const guarded = [...secrets, socket, stream];
  // (Whoever exchanges a code shows no cookie for it: programs, which have no origin, may.)
  const byCookie = guarded.filter(({ path }) => path !== "/auth/exchange");
  await refuses(byCookie, { host: own, cookie });
  for (const origin of [foreign, "null", `http://localhost:${attacker.port}`, `http://${rebound}`, `https://${own}`]) {
    await refuses(guarded, { host: own, cookie, origin });
    await refuses(guarded, { host: own, cookie, origin, "sec-fetch-site": "same-origin" });
  }
  for (const site of ["same-site", "cross-site", "none"]) await refuses(byCookie, { host: own, cookie, "sec-fetch-site": site });

  // The same over HTTP/2, with gRPC itself.
  const session = connectH2(baton.url);
  const broken = new Promise((_, reject) => session.on("error", reject));
  broken.catch(() => undefined);
  try {
    for (const { path, body } of aims.calls) {
      const headers = { ":method": "POST", ":path": path, ":authority": rebound, "content-type": "application/grpc", te: "trailers", authorization: admin };
      const answered = new Promise((resolve, reject) => {
        const call = session.request(headers);
        call.on("error", reject);
        call.on("response", (answer) => resolve({ status: answer[":status"], grpc: answer["grpc-status"] }));
        call.resume().end(body);
      });
      const got = await within(`an answer to ${path}`, Promise.race([answered, broken]));
      assert.ok(refused(got), `${path} ${JSON.stringify(got)}`);
      count += 1;
    }
  } finally {
    session.destroy();
  }
  t.diagnostic(`${count} requests refused`);
  await isUnharmed(previous);
});

test("the same page does it all where the configuration lets it in", LIMIT, async (t) => {
  // By name alone: a page from another port stays outside, for the browser says that it is not the server's own.
  // Killed, for what it has stored is all it needs, and open streams need not be waited for.
  await baton.down("SIGKILL");
  await baton.up("--origin", `http://${REBOUND}:${baton.port}`, "--host", REBOUND);
  await until("the daemon is linked again", async () => (await baton.json("daemons")).some((daemon) => daemon.attached));
  const previous = await state();
  rebinding.point(attacker.port);
  const { tried } = await strikeFrom(`http://${REBOUND}:${baton.port}/`, { ...aims, last: [] }, () => rebinding.point(baton.port));
  const got = gains(tried).map((one) => one.what);
  t.diagnostic(`${got.length} of ${tried.length} things worked`);
  // (Reading by GET stays closed: browsers leave Sec-Fetch-Site out where the name has no TLS.)
  for (const what of ["cors POST /baton.v1.AccessService/ListTokens application/grpc-web+proto", "WebSocket", "window /"]) {
    assert.ok(got.some((one) => one.startsWith(what)), `${what} is not among what it got: ${got.join(", ")}`);
  }
  const now = await state();
  for (const what of ["tokens", "sessions", "prompts", "rules"]) assert.notDeepEqual(now[what], previous[what], what);
});
