// Which events of a segment are shown, and what stands in one row.
import type { Event } from "../../gen/baton/v1/event_pb";
import { InputState, Lifecycle } from "../../gen/baton/v1/session_pb";
import { keys, type Segment, type SessionLog } from "../../store/log";

export interface Row {
  seq: number;
  events: readonly Event[];
}

/** Rows of a segment, oldest first. With `all`, every event has one; event `alone` has one in any case. */
export function rowsOf(segment: Segment, log: SessionLog, all: boolean, alone: number): Row[] {
  const rows: Row[] = [];
  let run: Event[] = [];
  const flush = () => {
    if (run[0]) rows.push({ seq: Number(run[0].seq), events: run });
    run = [];
  };
  for (const event of segment.events) {
    if (!event) {
      flush();
      continue;
    }
    const kind = event.body.case;
    if (!all && (kind === "output" || kind === "stderr")) {
      const single = Number(event.seq) === alone;
      if (single || (run[0] && run[0].body.case !== kind)) flush();
      run.push(event);
      if (single) flush();
      continue;
    }
    if (!all && !shown(event, log)) continue;
    flush();
    rows.push({ seq: Number(event.seq), events: [event] });
  }
  flush();
  return rows;
}

/** What another row says already is not said twice; what only machines care about is not said at all. */
function shown(event: Event, log: SessionLog): boolean {
  const { body } = event;
  switch (body.case) {
    case "activityChanged":
    case "turnStarted":
    case "usageUpdated":
      return false;
    case "lifecycleChanged":
      return body.value.to === Lifecycle.SUSPENDED || body.value.from === Lifecycle.ENDED;
    case "started":
      return body.value.model !== "" || body.value.version !== "";
    case "inputAccepted": {
      // A text stands where the agent took it. While it waits it is in the queue, not in the conversation.
      const fate = log.about(`input:${body.value.inputId}`).filter((other) => other.body.case === "inputChanged");
      return fate.length > 0 && !fate.some(applied);
    }
    case "inputChanged":
      if (applied(event)) return has(log, `input:${body.value.inputId}`, "inputAccepted");
      return (
        log.about(`input:${body.value.inputId}`)[0] === event &&
        [InputState.REJECTED, InputState.INDETERMINATE, InputState.WITHDRAWN].includes(body.value.state)
      );
    case "toolResult":
      return !has(log, `call:${body.value.callId}`, "toolCall");
    case "promptRequested":
      return !body.value.prompt?.callId || !has(log, `call:${body.value.prompt.callId}`, "toolCall");
    case "promptAnswered":
    case "promptExpired":
    case "promptWithdrawn":
      return !has(log, `prompt:${body.value.promptId}`, "promptRequested");
    case "promptDelivered":
      return false;
    case "message":
      return body.value.blocks.length > 0;
    default:
      return true;
  }
}

/** The event whose row shows what event `seq` says: a result stands with its call, a text where it was taken. */
export function home(log: SessionLog, seq: number): number {
  const event = log.event(seq);
  if (!event) return seq;
  for (const key of keys(event)) {
    const about = log.about(key);
    const shows = key.startsWith("input:") ? about.find(applied) : about[0];
    if (shows) return key.startsWith("prompt:") ? (homeOfPrompt(log, shows) ?? Number(shows.seq)) : Number(shows.seq);
  }
  return seq;
}

function homeOfPrompt(log: SessionLog, event: Event): number | undefined {
  if (event.body.case !== "promptRequested" || !event.body.value.prompt?.callId) return undefined;
  const call = log.about(`call:${event.body.value.prompt.callId}`)[0];
  return call && Number(call.seq);
}

export function applied(event: Event): boolean {
  return event.body.case === "inputChanged" && event.body.value.state === InputState.APPLIED;
}

function has(log: SessionLog, key: string, kind: Event["body"]["case"]): boolean {
  return log.about(key).some((event) => event.body.case === kind);
}
