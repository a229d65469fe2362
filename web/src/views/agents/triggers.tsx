// What starts a steward by itself: as a person sets it, and how it stands.
import { create } from "@bufbuild/protobuf";
import { useEffect, useState } from "react";

import { agents as api } from "../../api/transport";
import { type Agent, TaskEvent, type Trigger, TriggerSchema, type TriggerState } from "../../gen/baton/v1/agent_pb";
import { Visible } from "../../text/hidden";
import { moment, ms } from "../../text/format";
import { Ago, Button, Field } from "../../ui/bits";
import { labelsOf } from "../new";

const EVENTS: readonly { event: TaskEvent; says: string }[] = [
  { event: TaskEvent.TASK_CREATED, says: "a task is made" },
  { event: TaskEvent.TASK_IN_REVIEW, says: "a task waits for a review" },
  { event: TaskEvent.TASK_CLOSED, says: "a task is closed" },
  { event: TaskEvent.TASK_ESCALATED, says: "a person must look at a task" },
  { event: TaskEvent.MERGE_FAILED, says: "a branch could not be merged" },
];

const pairs = (map: Record<string, string>) => Object.entries(map).map(([name, value]) => `${name}=${value}`).join(" ");

/** A trigger while it is edited: all that either kind needs, so that changing the kind loses nothing. */
export interface Draft {
  /** 0 is a time. */
  event: TaskEvent;
  schedule: string;
  timeZone: string;
  labels: string;
  input: string;
}

export function draftsOf(triggers: readonly Trigger[] | undefined): Draft[] {
  return (triggers ?? []).map(({ on, input }) => ({
    event: on.case === "event" ? on.value.event : TaskEvent.UNSPECIFIED,
    schedule: on.case === "cron" ? on.value.schedule : "0 7 * * 1-5",
    timeZone: on.case === "cron" ? on.value.timeZone : here(),
    labels: on.case === "event" ? pairs(on.value.labels) : "",
    input,
  }));
}

export function triggersOf(drafts: readonly Draft[]): Trigger[] {
  return drafts.map(({ event, schedule, timeZone, labels, input }) =>
    create(TriggerSchema, {
      on:
        event === TaskEvent.UNSPECIFIED
          ? { case: "cron", value: { schedule: schedule.trim(), timeZone: timeZone.trim() } }
          : { case: "event", value: { event, labels: labelsOf(labels) } },
      input,
    }),
  );
}

/** The time zone of who looks. */
function here(): string {
  return Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";
}

export function Triggers({ drafts, set }: { drafts: readonly Draft[]; set: (drafts: Draft[]) => void }) {
  const change = (at: number, to: Partial<Draft>) => set(drafts.map((one, index) => (index === at ? { ...one, ...to } : one)));
  const fresh: Draft = { event: TaskEvent.UNSPECIFIED, schedule: "0 7 * * 1-5", timeZone: here(), labels: "", input: "" };
  return (
    <fieldset className="triggers">
      <legend>Starts by itself</legend>
      <p className="hint">While the scheduler works: a session of one turn, without a terminal.</p>
      {drafts.map((one, at) => (
        // A row has no name of its own, and its fields are all set from here.
        <div className="trigger" key={at} role="group" aria-label={`Start ${at + 1}`}>
          <div className="columns">
            <Field label="When">
              {(id) => (
                <select id={id} value={one.event} onChange={(event) => change(at, { event: Number(event.target.value) })}>
                  <option value={TaskEvent.UNSPECIFIED}>at a time</option>
                  {EVENTS.map(({ event, says }) => (
                    <option key={event} value={event}>{says}</option>
                  ))}
                </select>
              )}
            </Field>
            {one.event === TaskEvent.UNSPECIFIED ? (
              <Field label="Schedule" hint="Minute, hour, day, month, day of the week.">
                {(id) => <input id={id} className="mono" required value={one.schedule} onChange={(event) => change(at, { schedule: event.target.value })} />}
              </Field>
            ) : (
              <Field label="Only with the labels" hint="NAME=VALUE, separated by spaces; empty is all.">
                {(id) => <input id={id} className="mono" value={one.labels} onChange={(event) => change(at, { labels: event.target.value })} />}
              </Field>
            )}
          </div>
          {one.event === TaskEvent.UNSPECIFIED && (
            <Field label="Time zone" hint="Such as Europe/Berlin; empty is UTC.">
              {(id) => <input id={id} value={one.timeZone} onChange={(event) => change(at, { timeZone: event.target.value })} />}
            </Field>
          )}
          <Field label="What it is told">
            {(id) => <textarea id={id} rows={2} value={one.input} onChange={(event) => change(at, { input: event.target.value })} />}
          </Field>
          <Button small label={`Take it away: start ${at + 1}`} onClick={() => set(drafts.filter((_, index) => index !== at))}>Take it away</Button>
        </div>
      ))}
      {drafts.length < 16 && <Button small icon="plus" onClick={() => set([...drafts, fresh])}>Add a start</Button>}
    </fieldset>
  );
}

/** How often what is shown is read again, in ms: times pass, and events come, without the agent changing. */
const AGAIN_MS = 15_000;

/** How a steward's triggers stand; nothing for an agent without. */
export function TriggerStates({ agent, marks }: { agent: Agent; marks: string }) {
  const [states, setStates] = useState<TriggerState[]>();
  const has = (agent.settings?.triggers.length ?? 0) > 0;
  const { id, etag } = agent;
  useEffect(() => {
    if (!has) return;
    const abort = new AbortController();
    const read = () => {
      if (document.visibilityState !== "visible") return;
      api.getAgentStatus({ agentId: id, history: 1 }, { signal: abort.signal }).then(
        (answer) => {
          if (!abort.signal.aborted) setStates(answer.triggers);
        },
        // What fails is said by the page, which asks the same.
        () => undefined,
      );
    };
    read();
    const timer = setInterval(read, AGAIN_MS);
    return () => {
      clearInterval(timer);
      abort.abort();
    };
  }, [id, etag, has, marks]);
  if (!has || !states) return null;
  return (
    <section aria-label="Starts by itself">
      <h2>Starts by itself</h2>
      <ul className="lines-list trigger-states">
        {states.map((state, at) => (
          <li key={at}>
            <span><When trigger={state.trigger} /></span>
            <span className="dim">
              {state.nextAt && `next ${moment(ms(state.nextAt))}`}
              {state.tasks > 0 && `${state.tasks} ${state.tasks === 1 ? "task" : "tasks"} to tell of`}
              {state.firedAt && <> · <Ago at={ms(state.firedAt)} prefix="last " /></>}
            </span>
            {state.obstacle !== "" && <span className="warn"><Visible text={state.obstacle} /></span>}
            {state.trigger && state.trigger.input !== "" && <span className="trigger-input dim"><Visible text={state.trigger.input} /></span>}
          </li>
        ))}
      </ul>
    </section>
  );
}

function When({ trigger }: { trigger: Trigger | undefined }) {
  if (trigger?.on.case === "cron") {
    const { schedule, timeZone } = trigger.on.value;
    return <><code>{schedule}</code> {timeZone || "UTC"}</>;
  }
  if (trigger?.on.case !== "event") return null;
  const { event, labels } = trigger.on.value;
  const only = pairs(labels);
  return <>when {EVENTS.find((one) => one.event === event)?.says ?? "something happens to a task"}{only !== "" && <> with <code>{only}</code></>}</>;
}
