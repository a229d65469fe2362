// The older design, as a baseline for `baton bench`: a relay of WebSockets that takes a daemon's events, stores
// each in SQLite if it is told to, and makes JSON anew for every viewer. README.md says what it stands for.
//
//   node relay.mjs [--port 0] [--store none|normal|full] [--db FILE] [--batch]
//
// It runs unchanged under Node and under Bun. When it listens it prints one line, and then nothing more:
//   {"port":N,"pid":P,"runtime":"node v20…"}
// It ends on SIGTERM, and when its standard input ends, so that it never outlives the one who started it.
import { createServer, STATUS_CODES } from "node:http";
import { parseArgs } from "node:util";
import { WebSocketServer } from "ws";

const USAGE = "relay.mjs [--port 0] [--store none|normal|full] [--db FILE] [--batch]";
/** The most bytes of one message: what Bun's own server allows by default. */
const MAX_PAYLOAD = 16 * 1024 * 1024;
/** Events of the history that are read at once. */
const PAGE = 256;
const INVALID = 1007;
const REFUSED = 1008;

/** Ends the program, saying why. */
function fail(code, why) {
  process.stderr.write(`relay.mjs: ${why}\n`);
  process.exit(code);
}

function options() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        port: { type: "string", default: "0" },
        store: { type: "string", default: "none" },
        db: { type: "string" },
        batch: { type: "boolean", default: false },
      },
    }));
  } catch (error) {
    fail(2, `${error.message}\nusage: ${USAGE}`);
  }
  const { port, store, db, batch } = values;
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65_535) fail(2, `--port is no port: ${port}`);
  if (!["none", "normal", "full"].includes(store)) fail(2, `--store is none, normal or full, not ${store}`);
  if (store === "none" && db !== undefined) fail(2, "--db needs --store normal or full");
  if (store !== "none" && db === undefined) fail(2, `--store ${store} needs --db FILE`);
  if (store !== "none" && !process.versions.bun) fail(2, `--store ${store} needs Bun, for its SQLite: run this with bun, not node`);
  return { port: Number(port), store, db, batch };
}

/** SQLite as the old relay had it: one table, a row for each event, its JSON as text. */
async function openStore({ store, db: file }) {
  if (store === "none") return undefined;
  const { Database } = await import("bun:sqlite");
  const db = new Database(file);
  db.run("PRAGMA journal_mode=WAL");
  db.run(`PRAGMA synchronous=${store.toUpperCase()}`);
  db.run("CREATE TABLE IF NOT EXISTS events (session TEXT NOT NULL, seq INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (session, seq)) WITHOUT ROWID");
  const insert = db.prepare("INSERT INTO events (session, seq, body) VALUES (?, ?, ?)");
  const last = db.prepare("SELECT max(seq) AS seq FROM events WHERE session = ?");
  const page = db.prepare(`SELECT seq, body FROM events WHERE session = ? AND seq > ? ORDER BY seq LIMIT ${PAGE}`);
  const add = (session, event) => insert.run(session.id, event.seq, JSON.stringify(event));
  return {
    /** One event, in a commit of its own. */
    add,
    /** All that one turn brought, in one commit. */
    addAll: db.transaction((taken) => {
      for (const { session, event } of taken) add(session, event);
    }),
    last: (id) => last.get(id)?.seq ?? undefined,
    page: (id, after) => page.all(id, after),
    close: () => db.close(),
  };
}

const asked = options();
const store = await openStore(asked).catch((error) => fail(1, `${asked.db}: ${error.message}`));

/** Sessions by their id: `viewers`, and `last`, the seq of the newest event that was taken. */
const sessions = new Map();

function sessionOf(id) {
  let session = sessions.get(id);
  if (!session) {
    session = { id, viewers: new Set(), last: store?.last(id) ?? -1 };
    sessions.set(id, session);
  }
  return session;
}

function isOpen(socket) {
  return socket.readyState === socket.OPEN;
}

/** The JSON is made once for each viewer, and nobody looks how much waits in a viewer's socket: so the old one did. */
function broadcast(session, event) {
  for (const viewer of session.viewers) {
    if (isOpen(viewer)) viewer.send(JSON.stringify({ type: "message", messages: [event] }));
  }
}

function acknowledge(daemon, seq) {
  if (isOpen(daemon)) daemon.send(JSON.stringify({ type: "ack", seq }));
}

/** Takes one event at once: stored, shown, acknowledged. */
function takeAlone(session, event, daemon) {
  store?.add(session, event);
  broadcast(session, event);
  acknowledge(daemon, event.seq);
}

/** What this turn of the event loop has brought so far. */
let gathered = [];

/** Takes one event at the end of this turn, with all others of it. */
function takeTogether(session, event, daemon) {
  if (gathered.length === 0) setImmediate(commitGathered);
  gathered.push({ session, event, daemon });
}

function commitGathered() {
  const taken = gathered;
  gathered = [];
  store?.addAll(taken);
  const newest = new Map();
  for (const { session, event, daemon } of taken) {
    broadcast(session, event);
    newest.set(daemon, event.seq);
  }
  for (const [daemon, seq] of newest) acknowledge(daemon, seq);
}

const take = asked.batch ? takeTogether : takeAlone;

function isEvent(value) {
  return (
    typeof value === "object" && value !== null &&
    Number.isSafeInteger(value.seq) && value.seq >= 0 &&
    typeof value.t === "string" && /^\d+$/.test(value.t) &&
    typeof value.payload === "string"
  );
}

function daemonJoins(socket, session) {
  socket.on("message", (data, isBinary) => {
    // What still arrives after a refusal is not taken: it would leave a gap.
    if (!isOpen(socket)) return;
    if (isBinary) return socket.close(REFUSED, "messages are text");
    let message;
    try {
      message = JSON.parse(data.toString());
    } catch {
      return socket.close(INVALID, "a message is no JSON");
    }
    for (const event of Array.isArray(message) ? message : [message]) {
      if (!isEvent(event)) return socket.close(REFUSED, "an event is {seq, t, payload}");
      // History is read in the order of seq, so that it has to be the order of arrival too.
      if (store && event.seq <= session.last) return socket.close(REFUSED, `seq ${event.seq} is not after ${session.last}`);
      session.last = event.seq;
      take(session, event, socket);
    }
  });
}

function viewerJoins(socket, session, after) {
  socket.on("close", () => session.viewers.delete(socket));
  // The old one took a viewer's words here; load has none.
  socket.on("message", () => undefined);
  socket.send(JSON.stringify({ type: "connected" }));
  if (store) sendHistory(socket, session, after);
  else session.viewers.add(socket);
}

/** Sends what is stored after `after`, a page in each turn, and then lets the viewer in on what comes. */
function sendHistory(socket, session, after) {
  if (!isOpen(socket)) return;
  const rows = store.page(session.id, after);
  for (const { body } of rows) socket.send(JSON.stringify({ type: "message", messages: [JSON.parse(body)] }));
  if (rows.length === PAGE) {
    setImmediate(sendHistory, socket, session, rows.at(-1).seq);
  } else {
    // Within the turn that read the last row. What is stored is broadcast in the turn that stored it, so that
    // nothing falls between the two and nothing is in both.
    session.viewers.add(socket);
  }
}

const PATHS = ["/daemon", "/viewer"];

function joins(socket, path, query) {
  // The library closes a socket that breaks the protocol; there is nothing to do but not to fall over it.
  socket.on("error", () => undefined);
  const id = query.get("session");
  if (!id) return socket.close(REFUSED, "session is missing");
  if (path === "/daemon") return daemonJoins(socket, sessionOf(id));
  const after = query.get("after") ?? "-1";
  if (!/^(-1|\d{1,15})$/.test(after)) return socket.close(REFUSED, "after is no number");
  viewerJoins(socket, sessionOf(id), Number(after));
}

function urlOf(request) {
  try {
    return new URL(request.url, "http://relay");
  } catch {
    return new URL("http://relay/");
  }
}

const sockets = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: MAX_PAYLOAD });
const server = createServer((request, response) => {
  const code = PATHS.includes(urlOf(request).pathname) ? 426 : 404;
  response.writeHead(code, { "content-type": "text/plain" }).end(`${STATUS_CODES[code]}\n`);
});
server.on("upgrade", (request, socket, head) => {
  const { pathname, searchParams } = urlOf(request);
  if (!PATHS.includes(pathname)) {
    socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    return;
  }
  sockets.handleUpgrade(request, socket, head, (opened) => joins(opened, pathname, searchParams));
});

function stop() {
  store?.close();
  process.exit(0);
}
// A store that fails is the end: an event that was not stored may not be acknowledged.
process.on("uncaughtException", (error) => fail(1, error.stack));
process.on("SIGTERM", stop);
process.stdin.on("end", stop).on("error", stop).resume();

server.on("error", (error) => fail(1, error.message));
server.listen(asked.port, "127.0.0.1", () => {
  const runtime = process.versions.bun ? `bun ${process.versions.bun}` : `node ${process.version}`;
  process.stdout.write(`${JSON.stringify({ port: server.address().port, pid: process.pid, runtime })}\n`);
});
