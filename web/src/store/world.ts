// Everything this tab knows, put together.
import { events, onSignedOut, requestId, sessions, streams } from "../api/transport";
import { Auth } from "./auth";
import { type Page, SessionLog } from "./log";
import { Places } from "./places";
import { Records } from "./records";
import { settings } from "./settings";
import { Watch } from "./watch";

export { requestId };

/** Beyond every seq: the newest events are those before it. */
const AFTER_ALL = 2n ** 63n - 1n;

async function readPage(sessionId: string, after: number | "newest", count: number): Promise<Page> {
  const page: Page = { events: [], first: 1, head: 0, epoch: 0n };
  let pageToken = "";
  // A page has at most 2 MiB, so large events make it short.
  do {
    const range = after === "newest" ? { beforeSeq: AFTER_ALL } : { afterSeq: BigInt(after) };
    const answer = await events.listEvents({ sessionId, ...range, pageSize: count, pageToken });
    page.events.push(...answer.events);
    page.first = Number(answer.firstSeq);
    page.head = Number(answer.headSeq);
    page.epoch = answer.logEpoch;
    pageToken = answer.nextPageToken;
  } while (pageToken !== "" && page.events.length < count);
  return page;
}

export const auth = new Auth();
export const records = new Records();
const places = new Places();

export function notificationsOn(): boolean {
  return settings.value.notify && "Notification" in self && Notification.permission === "granted";
}

export const watch = new Watch(records, {
  open: (request, signal) => streams.watch(request, { signal }),
  visible: () => document.visibilityState === "visible",
  notifies: notificationsOn,
  place: () => places.take(),
  random: Math.random,
  now: Date.now,
});

/** Logs that were looked at last; older ones are forgotten. */
const LOGS_MAX = 3;
const logs = new Map<string, SessionLog>();

export function logOf(sessionId: string): SessionLog {
  const log = logs.get(sessionId) ?? new SessionLog(sessionId, readPage);
  logs.delete(sessionId);
  logs.set(sessionId, log);
  const oldest = logs.keys().next().value;
  if (logs.size > LOGS_MAX && oldest !== undefined) logs.delete(oldest);
  return log;
}

const asked = new Map<string, Promise<void>>();

/** Reads a session's record that the stream has not told of; who asks meanwhile waits for the same answer. */
export function askSession(id: string): Promise<void> {
  const running = asked.get(id);
  if (running) return running;
  const answer = sessions
    .getSession({ sessionId: id })
    .then((found) => records.putSession(found.session))
    .finally(() => asked.delete(id));
  asked.set(id, answer);
  return answer;
}

/** The session that the address names, with the event that it is to be opened at; 0 is its end. */
function addressed(): { id: string; at: number } | undefined {
  const id = /^\/sessions\/([^/]+)$/.exec(location.pathname)?.[1];
  return id === undefined || location.hash.includes("code=") ? undefined : { id, at: Number(/^#(\d+)$/.exec(location.hash)?.[1] ?? 0) };
}

/** How long a tab may be hidden before its stream is given back, in ms: a glance aside costs nothing. */
const HIDE_AFTER_MS = 5_000;

export function begin(): void {
  settings.show();
  onSignedOut(() => auth.lost());
  let hide: ReturnType<typeof setTimeout> | undefined;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(hide);
    if (document.visibilityState === "visible") {
      if (watch.phase.kind !== "live") watch.retry();
    } else {
      hide = setTimeout(() => watch.again(), HIDE_AFTER_MS);
    }
  });
  window.addEventListener("online", () => watch.retry());
  // A broken network does not always break the stream.
  window.addEventListener("offline", () => watch.again());
  window.addEventListener("focus", () => {
    if (watch.phase.kind === "polling") watch.retry();
  });
  auth.subscribe(() => {
    if (auth.state.kind === "in" && watch.phase.kind === "signed-out") watch.signedIn();
    if (auth.state.kind === "in") watch.start();
    if (auth.state.kind === "out") watch.signedOut();
  });
  watch.subscribe(() => {
    if (watch.phase.kind === "signed-out") auth.lost();
  });
  // What the address asks for is read beside the question who is signed in, not after it.
  const open = addressed();
  if (open) {
    logOf(open.id).prime(open.at);
    // Whoever shows it asks again if this fails.
    askSession(open.id).catch(() => undefined);
  }
  void auth.start();
}
