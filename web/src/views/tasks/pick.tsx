// Choosing a task or an agent in a form.
import { useEffect, useState } from "react";

import { tasks as api } from "../../api/transport";
import type { Task } from "../../gen/baton/v1/task_pb";
import { useCell } from "../../store/cell";
import { tasks } from "../../store/tasks";
import { records } from "../../store/world";
import { short } from "../../text/format";
import { Button, Field } from "../../ui/bits";
import { Link } from "../../ui/route";
import { STATUS } from "./words";

/** An agent's name; its id where the record is not known. */
export function agentName(id: string): string {
  return records.agents.get(id)?.settings?.name ?? (id === "" ? "" : `agent ${short(id)}`);
}

/** Beyond this many a list to scroll through is no help. */
const SELECT_MAX = 200;

export function AgentField({ label, hint, value, none, set }: { label: string; hint?: string; value: string; none: string; set: (id: string) => void }) {
  useCell(records);
  const agents = [...records.agents.values()].sort((a, b) => (a.settings?.name ?? "").localeCompare(b.settings?.name ?? ""));
  const [typed, setTyped] = useState(() => records.agents.get(value)?.settings?.name ?? "");
  return (
    <Field label={label} hint={hint}>
      {(id) =>
        agents.length <= SELECT_MAX ? (
          <select id={id} value={value} onChange={(event) => set(event.target.value)}>
            <option value="">{none}</option>
            {agents.map((agent) => (
              <option key={agent.id} value={agent.id}>{agent.settings?.name}{agent.settings?.disabled ? " (disabled)" : ""}</option>
            ))}
          </select>
        ) : (
          <input
            id={id}
            value={typed}
            placeholder={`name; empty: ${none}`}
            onChange={(event) => {
              setTyped(event.target.value);
              set(agents.find((agent) => agent.settings?.name.toLowerCase() === event.target.value.trim().toLowerCase())?.id ?? "");
            }}
          />
        )
      }
    </Field>
  );
}

/** Finds a task by a part of its title, or by its id. */
export function TaskField({ label, hint, not, pick }: { label: string; hint?: string; not: readonly string[]; pick: (task: Task) => void }) {
  const [words, setWords] = useState("");
  const [found, setFound] = useState<Task[]>([]);
  const needle = words.trim();
  useEffect(() => {
    if (needle === "") return;
    const abort = new AbortController();
    const timer = setTimeout(() => {
      const asked = needle.startsWith("tsk_")
        ? api.getTask({ taskId: needle }, { signal: abort.signal }).then(({ task }) => (task ? [task] : []))
        : api.listTasks({ titleContains: needle, pageSize: 8 }, { signal: abort.signal }).then((answer) => answer.tasks);
      asked.then(
        (all) => {
          if (abort.signal.aborted) return;
          for (const task of all) tasks.remember(task);
          setFound(all);
        },
        () => {
          if (!abort.signal.aborted) setFound([]);
        },
      );
    }, 200);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [needle]);
  const shown = needle === "" ? [] : found.filter((task) => !not.includes(task.id));
  return (
    <>
      <Field label={label} hint={hint}>
        {(id) => <input id={id} type="search" placeholder="Part of a title, or an id" value={words} onChange={(event) => setWords(event.target.value)} />}
      </Field>
      {shown.length > 0 && (
        <ul className="lines-list found-tasks" aria-label="Tasks found">
          {shown.map((task) => (
            <li key={task.id}>
              <span className="clip">{task.title}</span>
              <span className="dim">{STATUS[task.status]}</span>
              <span className="spacer" />
              <Button
                small
                label={`Take ${task.title}`}
                onClick={() => {
                  setWords("");
                  setFound([]);
                  pick(task);
                }}
              >
                Take
              </Button>
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

/** A task by its title, which is read if it is not known. */
export function TaskName({ id, plain }: { id: string; plain?: boolean }) {
  useCell(tasks);
  const task = tasks.get(id);
  useEffect(() => tasks.want(id), [id]);
  const name = task?.title ?? `task ${short(id)}`;
  return plain ? <>{name}</> : <Link to={`/tasks/${id}`}>{name}</Link>;
}
