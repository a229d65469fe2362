// The crew: agents by role, with what each does now.
import "../../styles/agents.css";

import { useEffect, useState } from "react";

import { type Agent } from "../../gen/baton/v1/agent_pb";
import { AgentRole } from "../../gen/baton/v1/session_pb";
import { useCell } from "../../store/cell";
import { tasks } from "../../store/tasks";
import { auth, records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { ms, tail } from "../../text/format";
import { Ago, Badge, Button, Empty, Loading } from "../../ui/bits";
import { go, Link, usePlace } from "../../ui/route";
import { TaskName } from "../tasks/pick";
import { AgentForm } from "./form";
import { AgentPage } from "./page";
import { StartDialog } from "./start";
import { activeId, AgentState, activeOf, asks, nameOf, roleOf, ROLES } from "./words";

/** Agents of a role that are shown before a person asks for more. */
const STEP = 50;

export default function Agents() {
  const { path } = usePlace();
  useCell(records);
  useEffect(() => tasks.follow(), []);
  const id = path[1];
  if (!records.complete) return <Loading what="agents" />;
  if (id !== undefined) return <AgentPage key={id} id={id} />;
  return <All />;
}

function All() {
  const [words, setWords] = useState("");
  const [creating, setCreating] = useState(false);
  const all = [...records.agents.values()];
  const needle = words.trim().toLowerCase();
  const fits = all.filter(({ settings }) => settings && (needle === "" || [settings.name, settings.harness, settings.directory, ...settings.capabilities, ...Object.values(settings.labels)].some((text) => text.toLowerCase().includes(needle))));
  return (
    <div className="page">
      <header className="page-head">
        <h1>Agents</h1>
        <span className="spacer" />
        {auth.operator && <Button kind="primary" icon="plus" onClick={() => setCreating(true)}>New agent</Button>}
      </header>
      {all.length === 0 ? (
        <Empty title="No agents yet.">
          <p>An agent is a name that lasts: a role, and how its sessions are started. It has one session at a time, and what it did before is kept.</p>
          {auth.operator && <Button kind="primary" icon="plus" onClick={() => setCreating(true)}>New agent</Button>}
        </Empty>
      ) : (
        <>
          <div className="filters" role="search">
            <input type="search" aria-label="Search agents" placeholder="Name, program, directory or capability" value={words} onChange={(event) => setWords(event.target.value)} />
          </div>
          {ROLES.map(({ role, many }) => (
            <Group key={role} title={many} role={role} agents={fits} />
          ))}
          {fits.length === 0 && <Empty title="No agent fits." />}
        </>
      )}
      {creating && <AgentForm close={() => setCreating(false)} made={(id) => go(`/agents/${id}`)} />}
    </div>
  );
}

/** Who asks first, then who works, then by name. */
function order(a: Agent, b: Agent): number {
  return Number(asks(b)) - Number(asks(a)) || Number(activeId(b) !== "") - Number(activeId(a) !== "") || nameOf(a).localeCompare(nameOf(b));
}

function Group({ title, role, agents }: { title: string; role: AgentRole; agents: Agent[] }) {
  const [most, setMost] = useState(STEP);
  const mine = agents.filter(({ settings }) => settings?.role === role).sort(order);
  if (mine.length === 0) return null;
  return (
    <section>
      <h2>{title} <span className="dim">{mine.length}</span></h2>
      <ul className="session-list" aria-label={title}>
        {mine.slice(0, most).map((agent) => (
          <Line key={agent.id} agent={agent} />
        ))}
      </ul>
      {mine.length > most && <Button onClick={() => setMost(most + STEP)}>{mine.length - most} more</Button>}
    </section>
  );
}

function Line({ agent }: { agent: Agent }) {
  const [starting, setStarting] = useState(false);
  const session = activeOf(agent);
  const prompt = session && records.pending(session.id)[0];
  const settings = agent.settings;
  if (!settings) return null;
  const machine = settings.daemonId === "" ? Object.entries(settings.selector).map(([key, value]) => `${key}=${value}`).join(" ") : (records.daemons.get(settings.daemonId)?.name ?? "");
  return (
    <li className="agent-line" data-agent={settings.name}>
      <Link to={`/agents/${agent.id}`} className="session-line">
        <span className="line-title"><Visible text={settings.name} /></span>
        <span className="line-state"><AgentState agent={agent} /></span>
        <span className="line-where dim">
          <span>{roleOf(agent)}</span>
          <span>{settings.harness}</span>
          {machine !== "" && <span className="clip">{machine}</span>}
          {settings.directory !== "" && <span className="path clip" title={settings.directory}>{tail(settings.directory)}</span>}
        </span>
        <span className="line-facts dim">{session && <Ago at={ms(session.lastEventAt ?? session.createdAt)} />}</span>
        {session?.task && <span className="line-snippet">works on: <TaskName id={session.task.taskId} plain /></span>}
        {session && !session.task && session.title !== "" && <span className="line-snippet"><Visible text={session.title} /></span>}
        {prompt && <span className="line-prompt">{prompt.summary}</span>}
      </Link>
      <span className="agent-buttons">
        {settings.disabled && activeId(agent) !== "" && <Badge>disabled</Badge>}
        {activeId(agent) !== "" ? (
          <Button small label={`Session of ${settings.name}`} onClick={() => go(`/sessions/${agent.activeSessionId}`)}>Session</Button>
        ) : (
          auth.operator && !settings.disabled && <Button small label={`Start ${settings.name}`} onClick={() => setStarting(true)}>Start…</Button>
        )}
      </span>
      {starting && <StartDialog agent={agent} close={() => setStarting(false)} />}
    </li>
  );
}
