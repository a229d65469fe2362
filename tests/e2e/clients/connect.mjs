// The scenario of clients.test.mjs with Connect for JavaScript over gRPC-Web.
// Arguments: directory of the generated modules, URL, token file, working directory, name of the file that the
// agent is to make, longest time for one step in ms.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

const [generated, url, tokenFile, cwd, name, patience] = process.argv.slice(2);
const timeoutMs = Number(patience);
const load = (path) => import(pathToFileURL(join(generated, path)));
const { SessionService, EndReason, Lifecycle } = await load("baton/v1/session_pb.js");
const { EventService } = await load("baton/v1/event_pb.js");
const { PromptService, PromptState } = await load("baton/v1/prompt_pb.js");
const { PermissionMode } = await load("baton/v1/common_pb.js");
const { ErrorInfoSchema } = await load("google/rpc/error_details_pb.js");

const token = readFileSync(tokenFile, "utf8").trim();
const authorize = (next) => (request) => {
  request.header.set("authorization", `Bearer ${token}`);
  return next(request);
};
const transport = createGrpcWebTransport({ baseUrl: url, interceptors: [authorize], defaultTimeoutMs: timeoutMs });
const sessions = createClient(SessionService, transport);
const events = createClient(EventService, transport);
const prompts = createClient(PromptService, transport);

const log = []; // Every event that a watch gave, in order.
const cursor = { epoch: 0n, seq: 0n };
let watches = 0;

/** Follows the session from the cursor until an event is the one that is looked for; then hangs up. */
async function watchUntil(sessionId, found) {
  watches += 1;
  const hangUp = new AbortController();
  // Not timeoutMs: its timer outlives the stream that is hung up, and with it the process.
  const options = { signal: AbortSignal.any([hangUp.signal, AbortSignal.timeout(timeoutMs)]), timeoutMs: 0 };
  const scope = { case: "session", value: { sessionId, logEpoch: cursor.epoch, afterSeq: cursor.seq } };
  try {
    for await (const { body } of events.watch({ scopes: [{ scope }] }, options)) {
      assert.notEqual(body.case, "truncated");
      if (body.case === "started") cursor.epoch = body.value.logEpoch;
      if (body.case !== "events") continue;
      for (const event of body.value.events) {
        log.push(event);
        cursor.seq = event.seq;
        // The rest of the batch is dropped on purpose: the cursor says what was read, and the rest comes again.
        if (found(event)) return event.body.value;
      }
    }
  } finally {
    hangUp.abort();
  }
  throw new Error("the watch ended before what was looked for");
}

// Created once, though asked twice.
const create = { requestId: `create-${name}`, input: `run: touch ${name}`, cwd, harness: "demo", permissionMode: PermissionMode.ASK };
const { session } = await sessions.createSession(create);
assert.equal((await sessions.createSession(create)).session.id, session.id);

// Watched until it asks.
const { prompt } = await watchUntil(session.id, (event) => event.body.case === "promptRequested");
assert.equal(JSON.parse(prompt.input.text).command, `touch ${name}`);

// Answered, once.
const answer = (allow) => ({ promptId: prompt.id, answer: { case: "decision", value: { allow } } });
const answered = await prompts.answerPrompt(answer(true));
assert.equal(answered.prompt.state, PromptState.ANSWERED);
const second = await prompts.answerPrompt(answer(false)).then(() => assert.fail("a second answer was taken"), ConnectError.from);
assert.equal(second.code, Code.FailedPrecondition);
const [info] = second.findDetails(ErrorInfoSchema);
assert.ok(info.metadata.winner && info.metadata.at);

// Goes on behind the cursor.
await watchUntil(session.id, (event) => event.body.case === "turnEnded");

// Listed.
const listed = (await sessions.listSessions({ lifecycles: [Lifecycle.RUNNING] })).sessions.filter((one) => one.id === session.id);
assert.equal(listed.length, 1);
const asked = (await prompts.listPrompts({ sessionId: session.id })).prompts;
assert.deepEqual(asked.map((one) => [one.id, one.state]), [[prompt.id, PromptState.ANSWERED]]);

// Ended, and followed to the last event.
await sessions.endSession({ requestId: `end-${name}`, sessionId: session.id });
const { end } = await watchUntil(session.id, (event) => event.body.case === "ended");

// The watches together are the log: from 1, each once, in order, the same events.
const whole = [];
let pageToken = "";
do {
  const page = await events.listEvents({ sessionId: session.id, pageSize: 3, pageToken });
  whole.push(...page.events);
  pageToken = page.nextPageToken;
} while (pageToken);
const short = (event) => `${event.seq} ${event.body.case}`;
assert.deepEqual(log.map((event) => Number(event.seq)), log.map((_, index) => index + 1));
assert.deepEqual(log.map(short), whole.slice(0, log.length).map(short));

console.log(
  `created once, watched, asked ${prompt.tool}, allowed, second answer ${info.reason} from ${info.domain} ` +
    `(${info.metadata.answer}, ${info.metadata.effect}), listed, ended ${EndReason[end.reason]}, ` +
    `followed by ${watches} watches: no gap, no duplicate`,
);
