// One task, whole: its text, what it waits for and what waits for it, who has it, and what was done to it.
import { useCallback, useEffect, useRef, useState } from "react";

import { problem } from "../../api/problem";
import { tasks as api } from "../../api/transport";
import { ActorKind, type Actor } from "../../gen/baton/v1/common_pb";
import { type Assignment, type Dependency, DependencyKind, type DependencyTarget, type ExplainTaskResponse, GateKind, type Task, type TaskCandidate, TaskReasonKind, TaskStatus } from "../../gen/baton/v1/task_pb";
import { useCell } from "../../store/cell";
import { tasks } from "../../store/tasks";
import { whileVisible } from "../../store/visible";
import { records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { Markdown } from "../../text/markdown";
import { living, moment, ms, short, tail } from "../../text/format";
import { Ago, Badge, Button, CopyButton, Dialog, Failure, Field, Loading, useAttempt } from "../../ui/bits";
import { go, Link } from "../../ui/route";
import { sentence, Told } from "../told";
import { Thought } from "./dispatch";
import { TaskForm } from "./form";
import { NoTask } from "./index";
import { dispatchable, moveTo } from "./moves";
import { agentName, TaskField, TaskName } from "./pick";
import { Problems } from "./problems";
import { assignable, mayChange, useVerbs } from "./verbs";
import { ASSIGNMENT, deed, gateWords, KIND, KINDS, later, MERGE, MERGE_BAD, STATUS, STATUS_TONE, TYPE, urgency, urgencyTone } from "./words";

interface Whole {
  task: Task;
  why: ExplainTaskResponse;
  waiters: string[];
}

/** How often why it is not worked on is asked again, in ms. */
const LOOK_MS = 10_000;

export function TaskPage({ id }: { id: string }) {
  useCell(tasks);
  useCell(records);
  const [whole, setWhole] = useState<Whole>();
  const [failure, setFailure] = useState<unknown>();
  const [missing, setMissing] = useState(false);
  const [editing, setEditing] = useState(false);
  const [depending, setDepending] = useState(false);
  const [round, setRound] = useState(0);
  const again = useCallback(() => setRound((old) => old + 1), []);
  const verbs = useVerbs(again, () => go("/tasks", true));
  // Lists and the stream do not tell all of a task: whatever is told of it, or of what it is connected with, has it
  // read again.
  const near = useRef(new Set<string>());
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        again();
      }, 150);
    };
    const stop = tasks.tell({
      take: (task) => {
        if (task.id === id || near.current.has(task.id) || task.dependencies.some(({ on }) => on?.onTaskId === id)) soon();
      },
      drop: (gone) => {
        if (gone === id) setMissing(true);
        else if (near.current.has(gone)) soon();
      },
      again: soon,
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [id, again]);
  // Who could take it follows from what agents do, and from the scheduler, of which no stream tells.
  const crew = [...records.agents.values()].map(({ id: agent, etag, activeSessionId }) => `${agent}${etag}${activeSessionId}`).join();
  const met = useRef(crew);
  useEffect(() => {
    if (met.current === crew) return;
    met.current = crew;
    const timer = setTimeout(again, 1_000);
    return () => clearTimeout(timer);
  }, [crew, again]);
  useEffect(() => whileVisible(again, LOOK_MS), [again]);
  useEffect(() => {
    const abort = new AbortController();
    const { signal } = abort;
    Promise.all([api.getTask({ taskId: id }, { signal }), api.explainTask({ taskId: id }, { signal })]).then(
      ([got, why]) => {
        if (signal.aborted || !got.task) return;
        near.current = new Set([...got.waiterIds, ...got.task.blockedByIds, ...got.task.dependencies.flatMap(({ on }) => on?.onTaskId ?? [])]);
        tasks.remember(got.task);
        setWhole({ task: got.task, why, waiters: got.waiterIds });
        setFailure(undefined);
      },
      (thrown: unknown) => {
        if (signal.aborted) return;
        if (["NOT_FOUND", "INVALID_INPUT"].includes(problem(thrown).reason)) setMissing(true);
        else setFailure(thrown);
      },
    );
    return () => abort.abort();
  }, [id, round]);
  if (missing) return <NoTask />;
  if (failure !== undefined && !whole) return <div className="page"><Failure thrown={failure} retry={again} /></div>;
  if (!whole) return <Loading what="the task" />;
  const { task, why, waiters } = whole;
  const may = mayChange();
  const labels = Object.entries(task.labels);
  const children = waiters.length > 0 ? task.dependencies.filter(({ on }) => on?.kind === DependencyKind.PARENT_CHILD).map(({ on }) => on?.onTaskId) : [];
  const waiting = waiters.filter((other) => !children.includes(other));
  return (
    <div className="page task-page">
      <header className="page-head">
        <p className="crumbs"><Link to="/tasks">Tasks</Link></p>
        <h1><Visible text={task.title} /></h1>
      </header>
      <div className="task-badges">
        <Badge tone={STATUS_TONE[task.status]}>{STATUS[task.status]}</Badge>
        {task.blocked && <Badge tone="wait">blocked</Badge>}
        <Badge tone={urgencyTone(task)}>{urgency(task)}</Badge>
        <Badge>{TYPE[task.type]}</Badge>
        {MERGE[task.mergeStatus] && <Badge tone={MERGE_BAD.includes(task.mergeStatus) ? "bad" : "work"}>{MERGE[task.mergeStatus]}</Badge>}
        {later(task) && <Badge>not before {moment(ms(task.scheduledFor))}</Badge>}
        {labels.map(([name, value]) => <Badge key={name}>{value === "" ? name : `${name}=${value}`}</Badge>)}
      </div>
      {may && <Buttons task={task} verbs={verbs} edit={() => setEditing(true)} />}
      <Escalation task={task} verbs={verbs} may={may} />
      <Why why={why} task={task} />
      {task.body !== "" && <section className="task-body"><Markdown text={task.body} /></section>}
      {task.acceptance !== "" && <section><h2>It is done when</h2><div className="task-body"><Markdown text={task.acceptance} /></div></section>}
      {task.summary !== "" && <section><h2>What was done</h2><div className="task-body"><Markdown text={task.summary} /></div></section>}
      {task.attachments.length > 0 && (
        <section>
          <h2>Attachments</h2>
          <ul className="lines-list">
            {task.attachments.map((one, at) => (
              <li key={at}>
                <b>{one.name}</b>
                {one.body.case === "uri" && (/^https?:/.test(one.body.value) ? <a href={one.body.value} target="_blank" rel="noopener noreferrer">{one.body.value}</a> : <code>{one.body.value}</code>)}
                {one.body.case === "text" && <pre className="attached">{one.body.value}</pre>}
              </li>
            ))}
          </ul>
        </section>
      )}
      <section>
        <h2>Depends on</h2>
        {task.dependencies.length === 0 && <p className="dim">Nothing.</p>}
        {task.dependencies.length > 0 && (
          <ul className="lines-list" aria-label="Depends on">
            {task.dependencies.map((one, at) => <DependencyLine key={at} task={task} one={one} may={may} again={again} />)}
          </ul>
        )}
        {may && <Button small icon="plus" onClick={() => setDepending(true)}>Add a dependency</Button>}
      </section>
      {waiting.length > 0 && (
        <section>
          <h2>Waits for this</h2>
          <ul className="lines-list" aria-label="Waits for this">
            {waiting.map((other) => <Other key={other} id={other} />)}
          </ul>
        </section>
      )}
      {(task.assignment ?? task.pastAssignments[0]) && (
        <section>
          <h2>Who had it</h2>
          <ul className="lines-list" aria-label="Who had it">
            {task.assignment && <Held one={task.assignment} now />}
            {task.pastAssignments.toReversed().map((one) => <Held key={one.id} one={one} />)}
          </ul>
        </section>
      )}
      <section>
        <h2>History</h2>
        <ol className="lines-list history" aria-label="History">
          {task.history.map((entry, at) => (
            <li key={at}>
              <time className="dim" dateTime={new Date(ms(entry.at)).toISOString()}>{moment(ms(entry.at))}</time>
              <span><b>{actor(entry.actor)}</b> <Told text={deed(entry, agentName(entry.agentId))} /></span>
            </li>
          )).reverse()}
          {task.historyDropped > 0n && <li className="dim">{String(task.historyDropped)} older entries are not kept.</li>}
        </ol>
      </section>
      <dl className="facts task-ids">
        <div><dt>Id</dt><dd><code>{task.id}</code> <CopyButton text={task.id} label="Copy the id" /></dd></div>
        {task.directory !== "" && <div><dt>Directory</dt><dd className="path">{task.directory}</dd></div>}
        {task.requiredCapabilities.length > 0 && <div><dt>Needs</dt><dd>{task.requiredCapabilities.join(", ")}</dd></div>}
        {task.preferredCapabilities.length > 0 && <div><dt>Better with</dt><dd>{task.preferredCapabilities.join(", ")}</dd></div>}
        <div><dt>Complexity</dt><dd>{task.complexity} of 5</dd></div>
        <div><dt>Made</dt><dd>{moment(ms(task.createdAt))} by {actor(task.createdBy)}</dd></div>
      </dl>
      {editing && <TaskForm task={task} close={() => (setEditing(false), again())} />}
      {depending && <Depend task={task} close={() => (setDepending(false), again())} />}
      {verbs.dialog}
    </div>
  );
}

function actor(one: Actor | undefined): string {
  if (!one) return "somebody";
  if (one.name !== "") return one.name;
  switch (one.kind) {
    case ActorKind.SERVER:
      return "Baton";
    case ActorKind.AGENT:
      return "the agent";
    default:
      return one.id === "" ? "somebody" : short(one.id);
  }
}

function Buttons({ task, verbs, edit }: { task: Task; verbs: ReturnType<typeof useVerbs>; edit: () => void }) {
  const over = task.status === TaskStatus.REVIEW || task.status === TaskStatus.CLOSED;
  const last = records.sessions.get(task.assignment?.sessionIds.at(-1) ?? "");
  const works = task.status === TaskStatus.IN_PROGRESS && last !== undefined && living(last);
  // What is to be done then stands beside why.
  const escalated = (task.assignment?.escalation ?? "") !== "";
  return (
    <div className="buttons task-buttons">
      {dispatchable(task) && !works && !escalated && <Button kind="primary" onClick={() => verbs.ask({ verb: "dispatch", task })}>{(task.assignment?.sessionIds.length ?? 0) > 0 ? "Dispatch again…" : "Dispatch…"}</Button>}
      {assignable(task) && <Button onClick={() => verbs.ask({ verb: "assign", task })}>Assign…</Button>}
      {typeof moveTo(task, "review") !== "string" && <Button kind="primary" onClick={() => verbs.move(task, "review")}>Done…</Button>}
      {task.status === TaskStatus.REVIEW && <Button kind="primary" onClick={() => verbs.move(task, "closed")}>End the review…</Button>}
      {task.assignment && !escalated && <Button onClick={() => verbs.ask({ verb: "hand-off", task })}>Hand on…</Button>}
      {over && <Button onClick={() => verbs.ask({ verb: "reopen", task })}>Open again…</Button>}
      <Button icon="move" onClick={() => verbs.ask({ verb: "move", task })}>Move…</Button>
      <Button icon="edit" onClick={edit}>Edit</Button>
      <Button kind="quiet" onClick={() => verbs.ask({ verb: "delete", task })}>Delete…</Button>
    </div>
  );
}

/** Why it is ready, or what keeps it. */
function Why({ why, task }: { why: ExplainTaskResponse; task: Task }) {
  if (task.status === TaskStatus.CLOSED) return null;
  // What a person must look at stands above, with what to do.
  const escalation = task.assignment?.escalation ?? "";
  const reasons = why.reasons.filter(({ kind, message }) => kind !== TaskReasonKind.READY && (escalation === "" || !message.includes(escalation)));
  return (
    <div className={`why${why.ready ? " ready" : ""}`}>
      <p><b>{why.ready ? "Ready." : "Not ready."}</b> {why.priorityFromIds.length > 0 && (
        <>It is as urgent as {task.effectivePriority} because of {why.priorityFromIds.map((id, at) => <span key={id}>{at > 0 && ", then "}<TaskName id={id} /></span>)}.</>
      )}</p>
      <ul>
        {reasons.map((reason, at) => (
          <li key={at}>
            {reason.kind === TaskReasonKind.BLOCKED && reason.taskId !== "" ? <>It waits for <TaskName id={reason.taskId} />, which is {tasks.get(reason.taskId) ? STATUS[tasks.get(reason.taskId)?.status ?? TaskStatus.UNSPECIFIED] : "not closed"}.</>
              : reason.kind === TaskReasonKind.ASSIGNED && reason.agentId !== "" ? <><Link to={`/agents/${reason.agentId}`}>{agentName(reason.agentId)}</Link> has it{task.status === TaskStatus.IN_PROGRESS ? "" : ", and has not begun"}.</>
                : <><Told text={sentence(reason.message)} />{reason.kind === TaskReasonKind.SCHEDULER && <> <Link to="/tasks/scheduler">Scheduler</Link></>}</>}
          </li>
        ))}
      </ul>
      {why.candidates.length > 0 && <Candidates all={why.candidates} />}
      {why.ready && !task.assignment && why.candidates.length === 0 && <p>There is no ephemeral worker that it could be given to by itself. They are made under <Link to="/agents">Agents</Link>.</p>}
    </div>
  );
}

/** Candidates that are shown without being asked for. */
const SHOWN = 6;

/** What the scheduler thinks of each agent for it. */
function Candidates({ all }: { all: TaskCandidate[] }) {
  return (
    <details className="candidates" open={all.length <= SHOWN}>
      <summary>{all.filter(({ eligible }) => eligible).length} of {all.length}{all.length === 50 ? " or more" : ""} agents could take it</summary>
      <ul aria-label="Agents that could be given it">
        {all.map((one) => (
          <li key={one.agentId} className="candidate">
            <Link to={`/agents/${one.agentId}`}><Visible text={one.name} /></Link> <Thought one={one} />
          </li>
        ))}
      </ul>
    </details>
  );
}

/** What nobody goes on with until a person has looked. */
function Escalation({ task, verbs, may }: { task: Task; verbs: ReturnType<typeof useVerbs>; may: boolean }) {
  const held = task.assignment;
  if (!held || held.escalation === "") return null;
  const session = held.sessionIds.at(-1);
  return (
    <section className="why escalated" aria-label="A person must look at it">
      <p><b>A person must look at it.</b> <Told text={sentence(held.escalation)} /></p>
      <p className="dim">Nothing is done until one has. Look at {session === undefined ? "what it did" : <Link to={`/sessions/${session}`}>its last session</Link>}; then dispatch it again, and {agentName(held.agentId)} goes on under the same assignment, hand it on, or say that it is done.</p>
      {may && (
        <div className="buttons">
          {dispatchable(task) && <Button kind="primary" onClick={() => verbs.ask({ verb: "dispatch", task })}>Dispatch again…</Button>}
          <Button onClick={() => verbs.ask({ verb: "hand-off", task })}>Hand on…</Button>
        </div>
      )}
    </section>
  );
}

function DependencyLine({ task, one, may, again }: { task: Task; one: Dependency; may: boolean; again: () => void }) {
  const { on } = one;
  const { busy, refused, run } = useAttempt();
  if (!on) return null;
  const other = on.onTaskId === "" ? undefined : tasks.get(on.onTaskId);
  const gate = on.kind === DependencyKind.AWAITS;
  const open = on.gate?.kind === GateKind.TIMER ? ms(on.gate.until) <= Date.now() : false;
  return (
    <li>
      <span className="dim">{KIND[on.kind]}</span>
      {gate ? <span>{gateWords(on.gate?.kind ?? GateKind.UNSPECIFIED, on.gate?.name ?? "", ms(on.gate?.until))}{open && " (over)"}</span> : <TaskName id={on.onTaskId} />}
      {other && <Badge tone={STATUS_TONE[other.status]}>{STATUS[other.status]}</Badge>}
      <span className="spacer" />
      {may && (
        <Button
          small
          kind="quiet"
          busy={busy}
          label={gate && on.gate?.kind !== GateKind.TIMER ? "Open the gate" : "Remove the dependency"}
          icon={gate ? "check" : "close"}
          onClick={() => run(async (requestId) => {
            tasks.put((await api.removeDependency({ requestId, taskId: task.id, on })).task);
            again();
          })}
        />
      )}
      <Problems by={refused} />
    </li>
  );
}

function Other({ id }: { id: string }) {
  const task = tasks.get(id);
  return (
    <li>
      <TaskName id={id} />
      {task && <><Badge tone={STATUS_TONE[task.status]}>{STATUS[task.status]}</Badge><Badge tone={urgencyTone(task)}>{urgency(task)}</Badge></>}
    </li>
  );
}

function Held({ one, now }: { one: Assignment; now?: boolean }) {
  const session = one.sessionIds.at(-1);
  const tree = records.worktrees.get(one.worktreeId);
  return (
    <li>
      <Link to={`/agents/${one.agentId}`}>{agentName(one.agentId)}</Link>
      <Badge tone={now ? "work" : ""}>{ASSIGNMENT[one.state]}</Badge>
      {one.restarts > 0 && <Badge>taken up again {one.restarts === 1 ? "once" : `${one.restarts} times`}</Badge>}
      {now && one.parkedUntil && <Badge tone="wait">refused by the provider until {moment(ms(one.parkedUntil))}</Badge>}
      {now && one.escalation !== "" && <Badge tone="bad">needs you</Badge>}
      <span className="dim">
        <Ago at={ms(one.assignedAt)} prefix="given " />{one.assignedBy && ` by ${actor(one.assignedBy)}`}
        {one.endedAt && <> · <Ago at={ms(one.endedAt)} prefix="over " /></>}
        {one.branch !== "" && <> · <code>{one.branch}</code></>}
      </span>
      {session !== undefined && <Link to={`/sessions/${session}`}>its session</Link>}
      {one.worktreeId !== "" && <Link to={`/worktrees/${one.worktreeId}`}>{tree ? tail(tree.place?.path ?? "") : "its worktree"}</Link>}
      {one.note !== "" && <p className="note-text"><Visible text={one.note} /></p>}
    </li>
  );
}

type GateChoice = "approval" | "external" | "timer";

function Depend({ task, close }: { task: Task; close: () => void }) {
  const [kind, setKind] = useState<DependencyKind>(DependencyKind.BLOCKS);
  const [gate, setGate] = useState<GateChoice>("approval");
  const [name, setName] = useState("");
  const [until, setUntil] = useState("");
  const [other, setOther] = useState("");
  const { busy, refused, run, clear } = useAttempt();
  const waits = kind === DependencyKind.AWAITS;
  const ready = waits ? (gate === "timer" ? until !== "" : name.trim() !== "") : other !== "";
  const add = () =>
    run(async (requestId) => {
      const on: Pick<DependencyTarget, "kind" | "onTaskId"> & { gate?: { kind: GateKind; name: string; until?: { seconds: bigint; nanos: number } } } = { kind, onTaskId: waits ? "" : other };
      if (waits) {
        const at = gate === "timer" ? { seconds: BigInt(Math.floor(new Date(until).getTime() / 1000)), nanos: 0 } : undefined;
        on.gate = { kind: gate === "timer" ? GateKind.TIMER : gate === "approval" ? GateKind.APPROVAL : GateKind.EXTERNAL, name: gate === "timer" ? "" : name.trim(), ...(at && { until: at }) };
      }
      tasks.put((await api.addDependency({ requestId, taskId: task.id, on })).task);
      close();
    });
  return (
    <Dialog title={`“${task.title}” …`} close={close}>
      <Field label="Kind">
        {(id) => (
          <select id={id} value={kind} onChange={(event) => (setKind(Number(event.target.value)), clear())}>
            {KINDS.map((one) => <option key={one} value={one}>{KIND[one]} another task</option>)}
            <option value={DependencyKind.AWAITS}>waits for a gate</option>
          </select>
        )}
      </Field>
      {waits ? (
        <>
          <Field label="Gate">
            {(id) => (
              <select id={id} value={gate} onChange={(event) => setGate(event.target.value as GateChoice)}>
                <option value="approval">somebody&apos;s approval</option>
                <option value="external">something outside</option>
                <option value="timer">a time</option>
              </select>
            )}
          </Field>
          {gate === "timer" ? (
            <Field label="Until">{(id) => <input id={id} type="datetime-local" value={until} onChange={(event) => setUntil(event.target.value)} />}</Field>
          ) : (
            <Field label={gate === "approval" ? "What is to be approved" : "What is to happen"}>{(id) => <input id={id} value={name} maxLength={200} onChange={(event) => setName(event.target.value)} />}</Field>
          )}
        </>
      ) : other === "" ? (
        <TaskField label="Task" not={[task.id]} pick={(found) => (setOther(found.id), clear())} />
      ) : (
        <ul className="chips" aria-label="Chosen">
          <li><TaskName id={other} plain /><Button small kind="quiet" icon="close" label="Choose another" onClick={() => (setOther(""), clear())} /></li>
        </ul>
      )}
      <Problems by={refused} />
      <div className="buttons">
        <Button kind="primary" busy={busy} disabled={!ready} onClick={add}>Add it</Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}

