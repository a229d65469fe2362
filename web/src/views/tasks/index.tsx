// What is to be done: a board, a list, and the queue of what is ready.
import "../../styles/tasks.css";

import { useEffect, useState } from "react";

import { TaskType } from "../../gen/baton/v1/task_pb";
import { useCell } from "../../store/cell";
import { type Query, tasks } from "../../store/tasks";
import { auth, records } from "../../store/world";
import { Button, Empty, Loading } from "../../ui/bits";
import { go, usePlace } from "../../ui/route";
import { Board } from "./board";
import { TaskForm } from "./form";
import { AllTasks, ReadyTasks } from "./list";
import { TaskPage } from "./page";
import { SchedulerLink, SchedulerPage } from "./scheduler";
import { PRIORITIES, TYPE, TYPES } from "./words";

type Shape = "board" | "list" | "ready";
const SHAPES: readonly { shape: Shape; name: string }[] = [
  { shape: "board", name: "Board" },
  { shape: "list", name: "List" },
  { shape: "ready", name: "Ready queue" },
];

export default function Tasks() {
  const { path } = usePlace();
  useCell(records);
  useEffect(() => tasks.follow(), []);
  const id = path[1];
  // Pages are read after the place from which the stream tells of changes.
  if (!records.complete) return <Loading what="tasks" />;
  // No task has a name for an id.
  if (id === "scheduler") return <SchedulerPage />;
  if (id !== undefined) return <TaskPage key={id} id={id} />;
  return <All />;
}

/** What the address says is to be shown, so that a link leads to the same. */
function read(query: URLSearchParams): { shape: Shape; words: string; agent: string; type: TaskType; priority: number; closed: boolean } {
  return {
    shape: SHAPES.find((one) => one.shape === query.get("as"))?.shape ?? "board",
    words: query.get("q") ?? "",
    agent: query.get("agent") ?? "",
    type: TYPES.find((type) => TYPE[type] === query.get("type")) ?? TaskType.UNSPECIFIED,
    priority: PRIORITIES.find(({ priority }) => String(priority) === query.get("p"))?.priority ?? 0,
    closed: query.has("closed"),
  };
}

/** `name=value` is a label, all else a part of the title. */
export function queryOf(words: string, agent: string, type: TaskType, priority: number): Query {
  const all = words.split(/\s+/).filter(Boolean);
  const labels = all.filter((word) => /^[^=]+=/.test(word));
  return {
    statuses: [],
    types: type === TaskType.UNSPECIFIED ? [] : [type],
    priorities: priority === 0 ? [] : [priority],
    agentId: agent === "none" ? "" : agent,
    unassigned: agent === "none",
    labels: Object.fromEntries(labels.map((word) => [word.slice(0, word.indexOf("=")), word.slice(word.indexOf("=") + 1)])),
    text: all.filter((word) => !labels.includes(word)).join(" "),
  };
}

/** Typing is over after this long without a key, in ms. */
const TYPED_MS = 250;

function All() {
  const place = usePlace();
  const [creating, setCreating] = useState(false);
  const shown = read(place.query);
  const [words, setWords] = useState(shown.words);
  const set = (name: string, value: string) => {
    const next = new URLSearchParams(place.query);
    if (value === "") next.delete(name);
    else next.set(name, value);
    const text = next.toString();
    go(text === "" ? "/tasks" : `/tasks?${text}`, true);
  };
  useEffect(() => {
    if (words === shown.words) return;
    const timer = setTimeout(() => set("q", words), TYPED_MS);
    return () => clearTimeout(timer);
  });
  const query = queryOf(shown.words, shown.agent, shown.type, shown.priority);
  const agents = [...records.agents.values()].sort((a, b) => (a.settings?.name ?? "").localeCompare(b.settings?.name ?? ""));
  const ready = shown.shape === "ready";
  return (
    <div className="page tasks-page">
      <header className="page-head">
        <h1>Tasks</h1>
        <div className="shapes" role="group" aria-label="Shown as">
          {SHAPES.map(({ shape, name }) => (
            <Button key={shape} small pressed={shown.shape === shape} onClick={() => set("as", shape === "board" ? "" : shape)}>{name}</Button>
          ))}
        </div>
        <SchedulerLink />
        <span className="spacer" />
        {shown.shape === "board" && <span className="keys-hint dim" title="The arrows go from card to card"><kbd>m</kbd> moves a card, <kbd>Enter</kbd> opens it</span>}
        {auth.operator && <Button kind="primary" icon="plus" onClick={() => setCreating(true)}>New task</Button>}
      </header>
      <div className="filters" role="search">
        {!ready && <input type="search" aria-label="Search titles and labels" placeholder="Words of the title, or label=value" value={words} onChange={(event) => setWords(event.target.value)} />}
        <select aria-label="Who has it" value={shown.agent} onChange={(event) => set("agent", event.target.value)}>
          <option value="">anybody&apos;s</option>
          <option value="none">nobody&apos;s</option>
          {agents.slice(0, 500).map((agent) => (
            <option key={agent.id} value={agent.id}>{agent.settings?.name}</option>
          ))}
        </select>
        <select aria-label="Type" value={shown.type === TaskType.UNSPECIFIED ? "" : TYPE[shown.type]} onChange={(event) => set("type", event.target.value)}>
          <option value="">all types</option>
          {TYPES.map((type) => (
            <option key={type}>{TYPE[type]}</option>
          ))}
        </select>
        {!ready && (
          <select aria-label="Priority" value={shown.priority || ""} onChange={(event) => set("p", event.target.value)}>
            <option value="">all priorities</option>
            {PRIORITIES.map(({ priority, name }) => (
              <option key={priority} value={priority}>{name}</option>
            ))}
          </select>
        )}
        {shown.shape === "list" && (
          <label className="check"><input type="checkbox" checked={shown.closed} onChange={(event) => set("closed", event.target.checked ? "1" : "")} /> closed ones too</label>
        )}
      </div>
      {shown.shape === "board" && <Board query={query} />}
      {shown.shape === "list" && <AllTasks query={query} closed={shown.closed} />}
      {ready && <ReadyTasks query={{ ...query, text: "", labels: {}, priorities: [] }} />}
      {creating && <TaskForm close={() => setCreating(false)} />}
    </div>
  );
}

export function NoTask() {
  return <Empty title="There is no such task."><Button onClick={() => go("/tasks")}>All tasks</Button></Empty>;
}
