// One agent: what it does, how it is set, what it has to do, and what it did before.
import { useEffect, useState } from "react";

import { agents as api, tasks as taskApi } from "../../api/transport";
import { problem } from "../../api/problem";
import type { Agent } from "../../gen/baton/v1/agent_pb";
import { type Session, SessionMode } from "../../gen/baton/v1/session_pb";
import { type Task, TaskStatus } from "../../gen/baton/v1/task_pb";
import { type Worktree, WorktreeState } from "../../gen/baton/v1/worktree_pb";
import { useCell } from "../../store/cell";
import { tasks } from "../../store/tasks";
import { auth, records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { cost, MODE, moment, ms, short, tail, who } from "../../text/format";
import { Ago, Badge, Button, CopyButton, Dialog, Empty, Failure, Loading, Refused, useAction, useAttempt } from "../../ui/bits";
import { go, Link } from "../../ui/route";
import { Facts, State } from "../facts";
import { TaskName } from "../tasks/pick";
import { AgentForm } from "./form";
import { ResumeDialog, StartDialog, StopDialog } from "./start";
import { TriggerStates } from "./triggers";
import { activeId, activeOf, AgentState, nameOf, roleOf } from "./words";

/** Sessions of an agent's past that are shown. */
const HISTORY = 20;

export function AgentPage({ id }: { id: string }) {
  useCell(records);
  const agent = records.agents.get(id);
  const [missing, setMissing] = useState(false);
  const [past, setPast] = useState<Session[]>();
  const [failure, setFailure] = useState<unknown>();
  const [round, setRound] = useState(0);
  const [open, setOpen] = useState<"start" | "resume" | "stop" | "edit" | "delete">();
  const [resume, setResume] = useState("");
  const active = agent ? activeOf(agent) : undefined;
  // A session that ends, begins or can be continued changes what was.
  const marks = [...records.sessions.values()].filter((session) => session.agent?.id === id).map((session) => `${session.id}${session.lifecycle}${String(session.resumable)}`).sort().join();
  useEffect(() => {
    const abort = new AbortController();
    api.getAgentStatus({ agentId: id, history: HISTORY }, { signal: abort.signal }).then(
      (answer) => {
        if (abort.signal.aborted) return;
        setPast(answer.history);
        setFailure(undefined);
      },
      (thrown: unknown) => {
        if (abort.signal.aborted) return;
        if (["NOT_FOUND", "INVALID_INPUT"].includes(problem(thrown).reason)) setMissing(true);
        else setFailure(thrown);
      },
    );
    return () => abort.abort();
  }, [id, round, marks]);
  if (missing && !agent) return <Empty title="There is no such agent."><Button onClick={() => go("/agents")}>All agents</Button></Empty>;
  if (!agent?.settings) return failure === undefined ? <Loading what="the agent" /> : <div className="page"><Failure thrown={failure} retry={() => setRound(round + 1)} /></div>;
  const settings = agent.settings;
  const runs = activeId(agent) !== "";
  const resumable = past?.some((session) => session.resumable) ?? false;
  const mine = [...records.worktrees.values()].filter((tree) => tree.state !== WorktreeState.ARCHIVED && tree.agentName.toLowerCase() === settings.name.toLowerCase());
  const close = () => setOpen(undefined);
  return (
    <div className="page">
      <header className="page-head">
        <p className="crumbs"><Link to="/agents">Agents</Link></p>
        <h1><Visible text={settings.name} /></h1>
        <AgentState agent={agent} />
        <Badge>{roleOf(agent)}</Badge>
        {settings.disabled && <Badge tone="warn">disabled</Badge>}
      </header>
      {auth.operator && (
        <div className="buttons task-buttons">
          {runs ? (
            <Button kind="danger" icon="stop" onClick={() => setOpen("stop")}>Stop…</Button>
          ) : (
            <>
              <Button kind="primary" disabled={settings.disabled} onClick={() => setOpen("start")}>Start…</Button>
              {resumable && <Button disabled={settings.disabled} onClick={() => (setResume(""), setOpen("resume"))}>Go on…</Button>}
            </>
          )}
          <Button icon="edit" onClick={() => setOpen("edit")}>Edit</Button>
          <Disable agent={agent} />
          <Button kind="quiet" onClick={() => setOpen("delete")}>Delete…</Button>
        </div>
      )}
      {active && (
        <section aria-label="Its session">
          <h2>Now</h2>
          <ul className="session-list">
            <li>
              <Link to={`/sessions/${active.id}`} className="session-line">
                <span className="line-title"><Visible text={active.title || short(active.id)} /></span>
                <span className="line-state"><Facts session={active} /></span>
                <span className="line-where dim"><span>{active.harness}</span><span className="path clip">{tail(active.cwd)}</span></span>
                <span className="line-facts dim">{cost(active.usage) && <span>{cost(active.usage)}</span>}<Ago at={ms(active.lastEventAt ?? active.createdAt)} /></span>
                {active.task && <span className="line-snippet">works on: <TaskName id={active.task.taskId} plain /></span>}
                {records.pending(active.id)[0] && <span className="line-prompt">{records.pending(active.id)[0]?.summary}</span>}
              </Link>
            </li>
          </ul>
        </section>
      )}
      <TriggerStates agent={agent} marks={marks} />
      <Work id={id} />
      {mine.length > 0 && <Trees trees={mine} />}
      <section>
        <h2>Before</h2>
        {failure !== undefined && <Failure thrown={failure} retry={() => setRound(round + 1)} />}
        {!past && failure === undefined && <Loading what="its sessions" />}
        {past?.length === 0 && <p className="dim">It has not run yet.</p>}
        {past && past.length > 0 && (
          <ul className="lines-list" aria-label="Earlier sessions">
            {past.map((session) => (
              <li key={session.id}>
                <Link to={`/sessions/${session.id}`}><Visible text={session.title || short(session.id)} /></Link>
                <State session={session} />
                <span className="dim"><Ago at={ms(session.createdAt)} prefix="begun " />{cost(session.usage) && ` · ${cost(session.usage)}`}{session.resumedFrom !== "" && <> · continues <Link to={`/sessions/${session.resumedFrom}`}>another</Link></>}</span>
                <span className="spacer" />
                {auth.operator && !runs && session.resumable && !settings.disabled && <Button small label={`Go on with ${session.title || short(session.id)}`} onClick={() => (setResume(session.id), setOpen("resume"))}>Go on…</Button>}
              </li>
            ))}
          </ul>
        )}
      </section>
      <Settings agent={agent} />
      {open === "start" && <StartDialog agent={agent} close={close} />}
      {open === "resume" && <ResumeDialog agent={agent} sessions={past ?? []} first={resume} close={close} />}
      {open === "stop" && <StopDialog agent={agent} close={close} />}
      {open === "edit" && <AgentForm agent={agent} close={close} />}
      {open === "delete" && <Delete agent={agent} close={close} />}
    </div>
  );
}

function Disable({ agent }: { agent: Agent }) {
  const [busy, run] = useAction();
  const disabled = agent.settings?.disabled ?? false;
  const set = () =>
    run(async () => {
      const answer = await api.updateAgent({ agentId: agent.id, etag: agent.etag, settings: { disabled: !disabled }, updateMask: { paths: ["disabled"] } });
      records.putAgent(answer.agent);
    });
  return <Button busy={busy} title={disabled ? undefined : "It is not started any more; a session that runs goes on."} onClick={set}>{disabled ? "Enable" : "Disable"}</Button>;
}

function Delete({ agent, close }: { agent: Agent; close: () => void }) {
  const { busy, refused, run } = useAttempt();
  return (
    <Dialog title={`Delete ${nameOf(agent)}?`} close={close}>
      <p>Its sessions stay, and are nobody&apos;s then.</p>
      <Refused by={refused} />
      <div className="buttons">
        <Button
          kind="danger"
          busy={busy}
          onClick={() =>
            run(async (requestId) => {
              await api.deleteAgent({ requestId, agentId: agent.id, etag: agent.etag });
              go("/agents", true);
              records.forget(agent.id);
            })
          }
        >
          Delete it
        </Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}

/** Tasks that it has, and those that wait to be looked at. */
function Work({ id }: { id: string }) {
  const [list, setList] = useState<Task[]>();
  const [round, setRound] = useState(0);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const soon = () => {
      timer ??= setTimeout(() => {
        timer = undefined;
        setRound((old) => old + 1);
      }, 200);
    };
    const stop = tasks.tell({ take: soon, drop: soon, again: soon });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, []);
  useEffect(() => {
    const abort = new AbortController();
    taskApi.listTasks({ agentId: id, pageSize: 50, statuses: [TaskStatus.OPEN, TaskStatus.IN_PROGRESS, TaskStatus.DEFERRED] }, { signal: abort.signal }).then(
      (answer) => {
        if (!abort.signal.aborted) setList(answer.tasks);
      },
      // The list of tasks says why.
      () => undefined,
    );
    return () => abort.abort();
  }, [id, round]);
  if (!list || list.length === 0) return null;
  return (
    <section>
      <h2>Has to do</h2>
      <ul className="lines-list" aria-label="Its tasks">
        {list.map((task) => (
          <li key={task.id}>
            <Link to={`/tasks/${task.id}`}><Visible text={task.title} /></Link>
            <Badge tone={task.status === TaskStatus.IN_PROGRESS ? "work" : ""}>{task.status === TaskStatus.IN_PROGRESS ? "at work" : "not begun"}</Badge>
            {task.blocked && <Badge tone="wait">blocked</Badge>}
          </li>
        ))}
      </ul>
    </section>
  );
}

function Trees({ trees }: { trees: Worktree[] }) {
  return (
    <section>
      <h2>Its worktrees</h2>
      <ul className="lines-list" aria-label="Its worktrees">
        {trees.map((tree) => (
          <li key={tree.id}>
            <Link to={`/worktrees/${tree.id}`}>{tree.place?.branch || tree.id}</Link>
            <span className="dim path clip">{tail(tree.place?.path ?? "")}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}

function Settings({ agent }: { agent: Agent }) {
  const settings = agent.settings;
  if (!settings) return null;
  const pairs = (map: Record<string, string>) => Object.entries(map).map(([name, value]) => `${name}=${value}`).join(", ");
  const texts: [string, string | undefined][] = [
    ["Instructions", settings.definition?.instructions],
    ["At the start", settings.definition?.onStartup],
    ["With a task", settings.definition?.onTaskAssigned],
    ["When stuck", settings.definition?.onStuck],
    ["Before handing on", settings.definition?.onHandoff],
    ["After an error", settings.definition?.onError],
  ];
  const limits = settings.limits;
  const bounds = [
    limits?.runtime && `${Math.round(Number(limits.runtime.seconds) / 60)} min in all`,
    limits?.idle && `${Math.round(Number(limits.idle.seconds) / 60)} min idle`,
    limits && limits.turns > 0 && `${limits.turns} turns`,
    limits && limits.costMicroUsd > 0n && `$${(Number(limits.costMicroUsd) / 1e6).toFixed(2)}`,
  ].filter((text) => typeof text === "string");
  return (
    <section>
      <h2>How it is set</h2>
      <dl className="facts agent-facts">
        <div><dt>Program</dt><dd>{settings.harness}{settings.model !== "" && `, ${settings.model}`}, {settings.mode === SessionMode.INTERACTIVE ? "in a terminal" : "without a terminal"}</dd></div>
        <div><dt>Permissions</dt><dd>{MODE[settings.permissionMode]}</dd></div>
        <div><dt>Directory</dt><dd className="path">{settings.directory || "the machine's default"}</dd></div>
        <div><dt>Machine</dt><dd>{settings.daemonId !== "" ? (records.daemons.get(settings.daemonId)?.name ?? short(settings.daemonId)) : pairs(settings.selector) || "any that fits"}</dd></div>
        {settings.capabilities.length > 0 && <div><dt>Can</dt><dd>{settings.capabilities.join(", ")}</dd></div>}
        {bounds.length > 0 && <div><dt>Limits</dt><dd>{bounds.join(", ")}</dd></div>}
        {settings.envNames.length > 0 && <div><dt>Sees</dt><dd>{settings.envNames.join(", ")}</dd></div>}
        {settings.argv.length > 0 && <div><dt>Command</dt><dd><code>{settings.argv.join(" ")}</code></dd></div>}
        {Object.keys(settings.labels).length > 0 && <div><dt>Labels</dt><dd>{pairs(settings.labels)}</dd></div>}
        <div><dt>Made</dt><dd>{moment(ms(agent.createdAt))}{who(agent.createdBy) !== "" && ` by ${who(agent.createdBy)}`}</dd></div>
        <div><dt>Id</dt><dd><code>{agent.id}</code> <CopyButton text={agent.id} label="Copy the id" /></dd></div>
      </dl>
      {texts.map(([name, text]) => text !== undefined && text !== "" && (
        <details key={name} className="told">
          <summary>{name}</summary>
          <pre className="told-text">{text}</pre>
        </details>
      ))}
    </section>
  );
}
