// The one way to the server: gRPC-Web on the page's own origin, with the session cookie.
import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { AccessService } from "../gen/baton/v1/access_pb";
import { AgentService } from "../gen/baton/v1/agent_pb";
import { BudgetService } from "../gen/baton/v1/budget_pb";
import { DaemonService } from "../gen/baton/v1/daemon_pb";
import { EventService } from "../gen/baton/v1/event_pb";
import { PromptService } from "../gen/baton/v1/prompt_pb";
import { SchedulerService } from "../gen/baton/v1/scheduler_pb";
import { SessionService } from "../gen/baton/v1/session_pb";
import { SystemService } from "../gen/baton/v1/system_pb";
import { TerminalService } from "../gen/baton/v1/terminal_pb";
import { TaskService } from "../gen/baton/v1/task_pb";
import { WorktreeService } from "../gen/baton/v1/worktree_pb";

/** Called when the server no longer knows who we are. */
let signedOut: () => void = () => undefined;

export function onSignedOut(call: () => void): void {
  signedOut = call;
}

/** A call that is no stream and has no answer after this long has failed. */
const UNARY_TIMEOUT_MS = 30_000;

const watchAccess: Interceptor = (next) => async (request) => {
  try {
    return await next(request);
  } catch (problem) {
    if (ConnectError.from(problem).code === Code.Unauthenticated) signedOut();
    throw problem;
  }
};

const options = { baseUrl: location.origin, interceptors: [watchAccess] };
const unary = createGrpcWebTransport({ ...options, defaultTimeoutMs: UNARY_TIMEOUT_MS });
const streaming = createGrpcWebTransport(options);

export const access = createClient(AccessService, unary);
export const agents = createClient(AgentService, unary);
export const budgets = createClient(BudgetService, unary);
export const daemons = createClient(DaemonService, unary);
export const events = createClient(EventService, unary);
export const streams = createClient(EventService, streaming);
export const prompts = createClient(PromptService, unary);
export const scheduler = createClient(SchedulerService, unary);
export const sessions = createClient(SessionService, unary);
export const system = createClient(SystemService, unary);
export const terminals = createClient(TerminalService, unary);
export const terminalStreams = createClient(TerminalService, streaming);
export const tasks = createClient(TaskService, unary);
export const worktrees = createClient(WorktreeService, unary);

/** For what sets up or tests a worktree first, which may take half an hour. */
export const PATIENT = { timeoutMs: 35 * 60_000 };

/**
 * A fresh id for a request that changes something: a repeat with the same id does it once.
 * Not randomUUID, which browsers only have on https and localhost.
 */
export function requestId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
