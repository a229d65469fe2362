// A new task, or another text for one.
import { type FormEvent, useState } from "react";

import { tasks as api } from "../../api/transport";
import { DependencyKind, type Task, TaskStatus, TaskType } from "../../gen/baton/v1/task_pb";
import { reread, tasks } from "../../store/tasks";
import { ms } from "../../text/format";
import { Button, Dialog, Field, toast, useAttempt } from "../../ui/bits";
import { labelsOf } from "../new";
import { TaskField, TaskName } from "./pick";
import { Problems } from "./problems";
import { PRIORITIES, TYPE, TYPES } from "./words";

const FIELDS = ["title", "body", "type", "priority", "complexity", "labels", "scheduled_for", "required_capabilities", "preferred_capabilities", "acceptance", "skip_review"];

const words = (text: string) => text.split(/[\s,]+/).filter(Boolean);

/** A time as the browser's own field has it: in this place's time, to the minute. */
function local(millis: number): string {
  if (millis === 0) return "";
  const at = new Date(millis);
  return new Date(millis - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** `task` is whole; without one, a new one is made. */
export function TaskForm({ task, close }: { task?: Task; close: () => void }) {
  const [title, setTitle] = useState(task?.title ?? "");
  const [body, setBody] = useState(task?.body ?? "");
  const [type, setType] = useState<TaskType>(task?.type ?? TaskType.TASK);
  const [priority, setPriority] = useState(task?.priority ?? 3);
  const [complexity, setComplexity] = useState(task?.complexity ?? 3);
  const [status, setStatus] = useState<TaskStatus>(TaskStatus.OPEN);
  const [labels, setLabels] = useState(Object.entries(task?.labels ?? {}).map(([name, value]) => `${name}=${value}`).join(" "));
  const [from, setFrom] = useState(local(ms(task?.scheduledFor)));
  const [required, setRequired] = useState(task?.requiredCapabilities.join(" ") ?? "");
  const [preferred, setPreferred] = useState(task?.preferredCapabilities.join(" ") ?? "");
  const [acceptance, setAcceptance] = useState(task?.acceptance ?? "");
  const [skipReview, setSkipReview] = useState(task?.skipReview ?? false);
  const [directory, setDirectory] = useState("");
  const [after, setAfter] = useState<string[]>([]);
  const { busy, refused, run } = useAttempt();

  const save = (event: FormEvent) => {
    event.preventDefault();
    const at = from === "" ? undefined : new Date(from).getTime();
    const scheduledFor = at === undefined ? undefined : { seconds: BigInt(Math.floor(at / 1000)), nanos: 0 };
    const both = {
      title: title.trim(),
      body,
      type,
      priority,
      complexity,
      labels: labelsOf(labels),
      requiredCapabilities: words(required),
      preferredCapabilities: words(preferred),
      acceptance,
      skipReview,
      ...(scheduledFor && { scheduledFor }),
    };
    run(async (requestId) => {
      if (task) {
        try {
          tasks.put((await api.updateTask({ requestId, taskId: task.id, etag: tasks.get(task.id)?.etag ?? task.etag, updateMask: { paths: FIELDS }, ...both })).task);
        } catch (thrown) {
          // The next try is on top of what is there now.
          await reread(task.id);
          throw thrown;
        }
      } else {
        const dependencies = after.map((onTaskId) => ({ kind: DependencyKind.BLOCKS, onTaskId }));
        const made = (await api.createTask({ requestId, status, directory, dependencies, ...both })).task;
        tasks.put(made);
        if (made) toast(`“${made.title}” is made.`);
      }
      close();
    });
  };

  return (
    <Dialog title={task ? "Change the task" : "New task"} close={close} wide>
      <form className="new" onSubmit={save}>
        <Field label="Title">
          {(id) => <input id={id} autoFocus required maxLength={200} value={title} onChange={(event) => setTitle(event.target.value)} />}
        </Field>
        <Field label="What is to be done" hint="Markdown.">
          {(id) => <textarea id={id} rows={5} value={body} onChange={(event) => setBody(event.target.value)} />}
        </Field>
        <div className="columns">
          <Field label="Priority">
            {(id) => (
              <select id={id} value={priority} onChange={(event) => setPriority(Number(event.target.value))}>
                {PRIORITIES.map((one) => (
                  <option key={one.priority} value={one.priority}>{one.name}</option>
                ))}
              </select>
            )}
          </Field>
          <Field label="Type">
            {(id) => (
              <select id={id} value={type} onChange={(event) => setType(Number(event.target.value))}>
                {TYPES.map((one) => (
                  <option key={one} value={one}>{TYPE[one]}</option>
                ))}
              </select>
            )}
          </Field>
        </div>
        {!task && (
          <>
            <TaskField label="Waits for" not={after} pick={(other) => setAfter([...after, other.id])} />
            {after.length > 0 && (
              <ul className="chips" aria-label="Waits for these">
                {after.map((id) => (
                  <li key={id}><TaskName id={id} plain /><Button small kind="quiet" icon="close" label="Leave it out" onClick={() => setAfter(after.filter((other) => other !== id))} /></li>
                ))}
              </ul>
            )}
          </>
        )}
        <details>
          <summary>Labels, schedule, capabilities, acceptance{task ? "" : ", directory"}</summary>
          <div className="columns">
            <Field label="Labels" hint="NAME=VALUE, separated by spaces.">
              {(id) => <input id={id} className="mono" value={labels} onChange={(event) => setLabels(event.target.value)} />}
            </Field>
            <Field label="Not before">
              {(id) => <input id={id} type="datetime-local" value={from} onChange={(event) => setFrom(event.target.value)} />}
            </Field>
            <Field label="An agent must be able to" hint="Words such as rust or review.">
              {(id) => <input id={id} value={required} onChange={(event) => setRequired(event.target.value)} />}
            </Field>
            <Field label="An agent should be able to">
              {(id) => <input id={id} value={preferred} onChange={(event) => setPreferred(event.target.value)} />}
            </Field>
            <Field label="Complexity">
              {(id) => (
                <select id={id} value={complexity} onChange={(event) => setComplexity(Number(event.target.value))}>
                  {["1, small", "2", "3", "4", "5, large"].map((name, at) => (
                    <option key={name} value={at + 1}>{name}</option>
                  ))}
                </select>
              )}
            </Field>
            {!task && (
              <Field label="Begins as">
                {(id) => (
                  <select id={id} value={status} onChange={(event) => setStatus(Number(event.target.value))}>
                    <option value={TaskStatus.OPEN}>open</option>
                    <option value={TaskStatus.DEFERRED}>deferred</option>
                    <option value={TaskStatus.BACKLOG}>backlog</option>
                  </select>
                )}
              </Field>
            )}
          </div>
          <Field label="How to tell that it is done">
            {(id) => <textarea id={id} rows={2} value={acceptance} onChange={(event) => setAcceptance(event.target.value)} />}
          </Field>
          {!task && (
            <Field label="Directory" hint="What it is about: absolute. It decides who sees the task, and never changes.">
              {(id) => <input id={id} className="mono" value={directory} onChange={(event) => setDirectory(event.target.value)} />}
            </Field>
          )}
          <label className="check"><input type="checkbox" checked={skipReview} onChange={(event) => setSkipReview(event.target.checked)} /> Closed when it is done, without a review</label>
        </details>
        <Problems by={refused} />
        <div className="buttons">
          <Button submit kind="primary" busy={busy} disabled={title.trim() === ""}>{task ? "Save" : "Make the task"}</Button>
          <Button kind="quiet" onClick={close}>Back</Button>
        </div>
      </form>
    </Dialog>
  );
}
