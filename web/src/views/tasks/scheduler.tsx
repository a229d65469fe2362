// The scheduler: whether it works, who said so, what it runs, and at what a person must look.
import { type ReactNode, useEffect, useState } from "react";

import { scheduler as api } from "../../api/transport";
import type { Scheduler } from "../../gen/baton/v1/scheduler_pb";
import { AgentRole, WorkerMode } from "../../gen/baton/v1/session_pb";
import { useCell } from "../../store/cell";
import { scheduler } from "../../store/scheduler";
import { tasks } from "../../store/tasks";
import { auth, records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { moment, ms, who } from "../../text/format";
import { Ago, Badge, Button, Dialog, Empty, Failure, Field, Loading, Refused, toast, useAttempt } from "../../ui/bits";
import { Link } from "../../ui/route";
import { activeOf, nameOf } from "../agents/words";
import { State } from "../facts";
import { sentence, Told } from "../told";
import { dispatchable } from "./moves";
import { agentName, TaskName } from "./pick";
import { mayChange, useVerbs, type Verbs } from "./verbs";

/** The scheduler in a word, and the way to it. */
export function SchedulerLink() {
  useCell(scheduler);
  useEffect(() => scheduler.follow(), []);
  const { state } = scheduler;
  const looks = state?.escalatedTaskIds.length ?? 0;
  return (
    <Link to="/tasks/scheduler" className="scheduler-link">
      Scheduler{state && <>: <span className={state.paused ? "warn" : "good"}>{state.paused ? "paused" : `works, ${state.running} of ${state.maxRunning}`}</span></>}
      {looks > 0 && <Badge tone="bad" title="Tasks at which a person must look">{looks}{looks === 100 ? "+" : ""} need{looks === 1 ? "s" : ""} you</Badge>}
    </Link>
  );
}

/** The agents that it gives tasks to. */
function crew() {
  return [...records.agents.values()].filter(({ settings }) => settings?.role === AgentRole.WORKER && settings.workerMode !== WorkerMode.PERSISTENT).sort((a, b) => nameOf(a).localeCompare(nameOf(b)));
}

export function SchedulerPage() {
  useCell(records);
  useCell(tasks);
  useCell(scheduler);
  useEffect(() => scheduler.follow(), []);
  const [asking, setAsking] = useState<"" | "pause" | "resume">("");
  const verbs = useVerbs(() => scheduler.again());
  const { state } = scheduler;
  const head = (badge?: ReactNode) => (
    <header className="page-head">
      <p className="crumbs"><Link to="/tasks">Tasks</Link></p>
      <h1>Scheduler</h1>
      {badge}
    </header>
  );
  if (scheduler.hidden) {
    return (
      <div className="page">
        {head()}
        <Empty title="This sign-in does not see the scheduler.">
          <p>It tells of the whole server, and your token sees a part of it. Why a task of yours is not worked on stands on the task&apos;s own page, and <i>Dispatch…</i> there lets an agent begin it.</p>
        </Empty>
      </div>
    );
  }
  if (!state) return <div className="page">{head()}{scheduler.failure !== undefined ? <Failure thrown={scheduler.failure} retry={() => scheduler.again()} /> : <Loading what="the scheduler" />}</div>;
  return (
    <div className="page">
      {head(<Badge tone={state.paused ? "wait" : "good"}>{state.paused ? "paused" : "works"}</Badge>)}
      {scheduler.failure !== undefined && <Failure thrown={scheduler.failure} retry={() => scheduler.again()} />}
      {auth.operator && (
        <div className="buttons task-buttons">
          {state.paused ? <Button kind="primary" onClick={() => setAsking("resume")}>Let it work…</Button> : <Button kind="danger" icon="stop" onClick={() => setAsking("pause")}>Pause…</Button>}
        </div>
      )}
      {state.paused && !state.changedBy && (
        <div className="why">
          <p><b>It is paused, as on every new server.</b> <Means /></p>
        </div>
      )}
      <dl className="facts scheduler-facts">
        {state.changedBy && <div><dt>{state.paused ? "Paused" : "Works"}</dt><dd>since {moment(ms(state.changedAt))}, by {who(state.changedBy) || "somebody"}</dd></div>}
        {state.reason !== "" && <div><dt>Why</dt><dd><Visible text={state.reason} /></dd></div>}
        <div><dt>Runs now</dt><dd>{state.running} of at most {state.maxRunning} agents</dd></div>
        <div><dt>Looked last</dt><dd>{state.lookedAt ? <Ago at={ms(state.lookedAt)} /> : "not since the server started"}</dd></div>
      </dl>
      <Escalated state={state} verbs={verbs} />
      <Crew />
      {asking === "pause" && <Pause close={() => setAsking("")} />}
      {asking === "resume" && <Resume close={() => setAsking("")} />}
      {verbs.dialog}
    </div>
  );
}

/** What letting it work means. */
function Means() {
  return <>When it works, it gives tasks that are ready to ephemeral workers that are idle, and takes up again what failed: agents begin by themselves, without anybody asking them to, and that costs money. <Link to="/budgets">Budgets</Link> say how much it may be.</>;
}

function Escalated({ state, verbs }: { state: Scheduler; verbs: Verbs }) {
  if (state.escalatedTaskIds.length === 0) return null;
  return (
    <section>
      <h2>A person must look <span className="dim">{state.escalatedTaskIds.length}{state.escalatedTaskIds.length === 100 ? "+" : ""}</span></h2>
      <ul className="lines-list" aria-label="A person must look">
        {state.escalatedTaskIds.map((id) => {
          const task = tasks.get(id);
          const held = task?.assignment;
          return (
            <li key={id}>
              <TaskName id={id} />
              {held && <span className="dim">{agentName(held.agentId)}</span>}
              <span className="spacer" />
              {task && mayChange() && dispatchable(task) && <Button small label={`Dispatch again: ${task.title}`} onClick={() => verbs.ask({ verb: "dispatch", task })}>Dispatch again…</Button>}
              {held && held.escalation !== "" && <span className="ref warn"><Told text={sentence(held.escalation)} /></span>}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

/** Workers that are shown before a person asks for more. */
const STEP = 50;

function Crew() {
  const [most, setMost] = useState(STEP);
  const all = crew();
  const running = all.filter((agent) => activeOf(agent));
  const rest = all.filter((agent) => !activeOf(agent));
  const shown = [...running, ...rest].slice(0, most);
  return (
    <section>
      <h2>Agents that it gives tasks to <span className="dim">{all.length}</span></h2>
      {all.length === 0 ? (
        <p className="dim">There is no ephemeral worker to give a task to. They are made under <Link to="/agents">Agents</Link>. Persistent workers, directors and stewards are never given anything by the scheduler.</p>
      ) : (
        <ul className="lines-list" aria-label="It gives tasks to">
          {shown.map((agent) => {
            const session = activeOf(agent);
            return (
              <li key={agent.id}>
                <Link to={`/agents/${agent.id}`}><Visible text={nameOf(agent)} /></Link>
                {session ? <State session={session} /> : <span className="dim">{agent.settings?.disabled ? "disabled" : "idle"}</span>}
                {session?.task && <TaskName id={session.task.taskId} />}
                <span className="spacer" />
                {session && <Link to={`/sessions/${session.id}`}>its session</Link>}
              </li>
            );
          })}
        </ul>
      )}
      {all.length > most && <Button onClick={() => setMost(most + STEP)}>{all.length - most} more</Button>}
    </section>
  );
}

function Pause({ close }: { close: () => void }) {
  const [reason, setReason] = useState("");
  const { busy, refused, run } = useAttempt();
  return (
    <Dialog title="Pause the scheduler?" close={close}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          run(async () => {
            scheduler.put((await api.pauseScheduler({ reason: reason.trim() })).scheduler);
            toast("The scheduler is paused.");
            close();
          });
        }}
      >
        <p className="field">What runs goes on. Nothing new is begun, and nothing is taken up again.</p>
        <Field label="Why" hint="For people. May be empty.">
          {(id) => <input id={id} autoFocus maxLength={500} value={reason} onChange={(event) => setReason(event.target.value)} />}
        </Field>
        <Refused by={refused} />
        <div className="buttons">
          <Button submit kind="danger" busy={busy}>Pause it</Button>
          <Button kind="quiet" onClick={close}>Back</Button>
        </div>
      </form>
    </Dialog>
  );
}

function Resume({ close }: { close: () => void }) {
  const { busy, refused, run } = useAttempt();
  return (
    <Dialog title="Let the scheduler work?" close={close}>
      <p><Means /></p>
      <Refused by={refused} />
      <div className="buttons">
        <Button
          kind="primary"
          busy={busy}
          onClick={() =>
            run(async () => {
              scheduler.put((await api.resumeScheduler({})).scheduler);
              toast("The scheduler works.");
              close();
            })
          }
        >
          Let it work
        </Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}
