// What is done to a task: moved, completed, opened again, given, handed on, deleted. What needs a word is asked for.
import { type ReactNode, useEffect, useState } from "react";

import { problem } from "../../api/problem";
import { tasks as api, requestId } from "../../api/transport";
import { CompleteOutcome, type Task, TaskStatus } from "../../gen/baton/v1/task_pb";
import { WorktreeState } from "../../gen/baton/v1/worktree_pb";
import { useCell } from "../../store/cell";
import { reread, tasks } from "../../store/tasks";
import { auth, records } from "../../store/world";
import { tail } from "../../text/format";
import { Button, complain, Dialog, Field, Refused, toast, useAttempt } from "../../ui/bits";
import { Dispatch } from "./dispatch";
import { type Column, COLUMNS, columnOf, type Move, moveTo } from "./moves";
import { AgentField, agentName } from "./pick";
import { Problems } from "./problems";
import { STATUS } from "./words";

type Asked = { verb: Move["kind"] | "move" | "assign" | "hand-off" | "delete"; task: Task };

export interface Verbs {
  /** Moves a task into a column, or asks for what that needs; says why not. */
  move: (task: Task, column: Column) => void;
  ask: (asked: Asked) => void;
  /** The dialog that is open. */
  dialog: ReactNode;
}

/** `after` is told of a task whose dialog was closed, or that was moved. */
export function useVerbs(after: (id: string) => void, deleted?: () => void): Verbs {
  const [asked, setAsked] = useState<Asked>();
  const close = () => {
    if (asked) after(asked.task.id);
    setAsked(undefined);
  };
  const perform = (task: Task, move: Move) => {
    if (move.kind !== "status" && move.kind !== "close") {
      setAsked({ verb: move.kind, task });
      return;
    }
    const target = { requestId: requestId(), taskId: task.id, etag: task.etag };
    const done =
      move.kind === "close"
        ? api.completeTask({ ...target, outcome: CompleteOutcome.CLOSED })
        : api.updateTask({ ...target, status: move.status, updateMask: { paths: ["status"] } });
    done
      .then(
        (answer) => {
          tasks.put(answer.task);
          if (answer.task) toast(`“${answer.task.title}” is ${STATUS[answer.task.status]}.`);
        },
        (thrown: unknown) => {
          complain(thrown);
          // Somebody else was quicker: what is there now is shown.
          if (problem(thrown).reason === "STALE") void reread(task.id);
        },
      )
      .finally(() => after(task.id));
  };
  const move = (task: Task, column: Column) => {
    const way = moveTo(task, column);
    if (typeof way === "string") toast(way, "bad");
    else perform(task, way);
  };
  const dialog = asked && (
    <Ask
      key={`${asked.verb}/${asked.task.id}`}
      asked={asked}
      close={close}
      gone={() => {
        setAsked(undefined);
        deleted?.();
      }}
      move={(column) => {
        setAsked(undefined);
        move(asked.task, column);
      }}
    />
  );
  return { move, ask: setAsked, dialog };
}

function Ask({ asked, close, gone, move }: { asked: Asked; close: () => void; gone: () => void; move: (column: Column) => void }) {
  const { task } = asked;
  switch (asked.verb) {
    case "move":
      return <MoveTo task={task} close={close} move={move} />;
    case "complete":
    case "close-work":
    case "settle":
      return <Complete task={task} verb={asked.verb} close={close} />;
    case "reopen":
      return <Reopen task={task} close={close} />;
    case "release":
    case "hand-off":
      return <HandOff task={task} back={asked.verb === "release"} close={close} />;
    case "dispatch":
      return <Dispatch task={task} close={close} />;
    case "assign":
      return <Assign task={task} close={close} />;
    case "delete":
      return <Delete task={task} close={close} gone={gone} />;
    case "status":
    case "close":
      return null;
  }
}

/** The columns as buttons: what a drag does, for keys and fingers. */
function MoveTo({ task, close, move }: { task: Task; close: () => void; move: (column: Column) => void }) {
  return (
    <Dialog title={`Move “${task.title}”`} close={close}>
      <ul className="move-list">
        {COLUMNS.map(({ column, name }) => {
          const way = moveTo(task, column);
          const here = columnOf(task) === column;
          return (
            <li key={column}>
              <Button disabled={typeof way === "string"} onClick={() => move(column)}>{name}</Button>
              {typeof way === "string" && <span className="dim">{here ? "It is there." : way}</span>}
            </li>
          );
        })}
      </ul>
    </Dialog>
  );
}

function Complete({ task, verb, close }: { task: Task; verb: "complete" | "close-work" | "settle"; close: () => void }) {
  const [summary, setSummary] = useState("");
  const { busy, refused, run } = useAttempt();
  const finish = (outcome: CompleteOutcome) =>
    run(async (id) => {
      tasks.put((await api.completeTask({ requestId: id, taskId: task.id, etag: tasks.get(task.id)?.etag ?? task.etag, summary, outcome })).task);
      close();
    });
  const title = verb === "settle" ? `How did the review of “${task.title}” end?` : verb === "complete" ? `“${task.title}” is done` : `Close “${task.title}”`;
  return (
    <Dialog title={title} close={close}>
      {verb === "complete" && <p>It goes to review.</p>}
      <Field label="What was done" hint="May be empty.">
        {(id) => <textarea id={id} rows={3} autoFocus value={summary} onChange={(event) => setSummary(event.target.value)} />}
      </Field>
      <Problems by={refused} />
      <div className="buttons">
        {verb === "complete" && <Button kind="primary" busy={busy} onClick={() => finish(CompleteOutcome.UNSPECIFIED)}>To review</Button>}
        {verb === "close-work" && <Button kind="primary" busy={busy} onClick={() => finish(CompleteOutcome.CLOSED)}>Close it</Button>}
        {verb === "settle" && (
          <>
            <Button kind="primary" busy={busy} onClick={() => finish(CompleteOutcome.MERGED)}>It is merged</Button>
            <Button busy={busy} onClick={() => finish(CompleteOutcome.CLOSED)}>Close it without a merge</Button>
          </>
        )}
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
      {verb === "settle" && <p className="hint">This only says how it ended. A branch is merged under <i>Worktrees</i>.</p>}
    </Dialog>
  );
}

function Reopen({ task, close }: { task: Task; close: () => void }) {
  const [note, setNote] = useState("");
  const [same, setSame] = useState(false);
  const [last, setLast] = useState("");
  const { busy, refused, run } = useAttempt();
  useEffect(() => {
    let left = false;
    void reread(task.id).then((whole) => {
      if (!left && whole) setLast(whole.pastAssignments.at(-1)?.agentId ?? "");
    });
    return () => {
      left = true;
    };
  }, [task.id]);
  return (
    <Dialog title={`Open “${task.title}” again`} close={close}>
      <Field label="Why" hint="May be empty.">
        {(id) => <textarea id={id} rows={3} autoFocus value={note} onChange={(event) => setNote(event.target.value)} />}
      </Field>
      {last !== "" && (
        <label className="check"><input type="checkbox" checked={same} onChange={(event) => setSame(event.target.checked)} /> {agentName(last)} has it again</label>
      )}
      <Problems by={refused} />
      <div className="buttons">
        <Button
          kind="primary"
          busy={busy}
          onClick={() =>
            run(async (id) => {
              tasks.put((await api.reopenTask({ requestId: id, taskId: task.id, etag: tasks.get(task.id)?.etag ?? task.etag, note, sameAgent: same })).task);
              close();
            })
          }
        >
          Open it again
        </Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}

function HandOff({ task, back, close }: { task: Task; back: boolean; close: () => void }) {
  const [note, setNote] = useState("");
  const [next, setNext] = useState("");
  const { busy, refused, run } = useAttempt();
  const has = agentName(task.assignment?.agentId ?? "");
  return (
    <Dialog title={back ? `Take “${task.title}” back from ${has}` : `Hand “${task.title}” on`} close={close}>
      <p>{has} does not have it any more; what it began stays in its branch and worktree. A session that runs is not stopped.</p>
      <AgentField label="Who has it next" value={next} none="nobody: back to the ready queue" set={setNext} />
      <Field label="Note" hint="What the next one should know.">
        {(id) => <textarea id={id} rows={3} value={note} onChange={(event) => setNote(event.target.value)} />}
      </Field>
      <Problems by={refused} />
      <div className="buttons">
        <Button
          kind="primary"
          busy={busy}
          onClick={() =>
            run(async (id) => {
              tasks.put((await api.handOffTask({ requestId: id, taskId: task.id, etag: tasks.get(task.id)?.etag ?? task.etag, note, agentId: next })).task);
              close();
            })
          }
        >
          {next === "" ? "Take it back" : "Hand it on"}
        </Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}

function Assign({ task, close }: { task: Task; close: () => void }) {
  useCell(records);
  const [agent, setAgent] = useState("");
  const [worktree, setWorktree] = useState("");
  const { busy, refused, run } = useAttempt();
  const trees = [...records.worktrees.values()].filter((one) => one.state === WorktreeState.ACTIVE || one.state === WorktreeState.SUSPENDED);
  const place = records.worktrees.get(worktree)?.place;
  return (
    <Dialog title={`Who shall do “${task.title}”?`} close={close}>
      <AgentField label="Agent" value={agent} none="choose…" set={setAgent} hint="It has the task from now on, and does not begin by itself, unless the scheduler works and gives it tasks." />
      {trees.length > 0 && (
        <Field label="Worktree" hint="Empty: that of who had it before, if anybody.">
          {(id) => (
            <select id={id} value={worktree} onChange={(event) => setWorktree(event.target.value)}>
              <option value="">none</option>
              {trees.map((one) => (
                <option key={one.id} value={one.id}>{one.place?.branch} ({tail(one.place?.path ?? "")})</option>
              ))}
            </select>
          )}
        </Field>
      )}
      <Problems by={refused} />
      <div className="buttons">
        <Button
          kind="primary"
          busy={busy}
          disabled={agent === ""}
          onClick={() =>
            run(async (id) => {
              const target = { requestId: id, taskId: task.id, etag: tasks.get(task.id)?.etag ?? task.etag };
              tasks.put((await api.assignTask({ ...target, agentId: agent, worktreeId: worktree, branch: place?.branch ?? "" })).task);
              close();
            })
          }
        >
          Give it
        </Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}

function Delete({ task, close, gone }: { task: Task; close: () => void; gone: () => void }) {
  const { busy, refused, run } = useAttempt();
  const held = refused?.reason === "INVALID_STATE";
  const remove = (force: boolean) =>
    run(async (id) => {
      await api.deleteTask({ requestId: id, taskId: task.id, force });
      tasks.drop(task.id);
      gone();
    });
  return (
    <Dialog title={`Delete “${task.title}”?`} close={close}>
      <p>Its text and its history are gone then. What is only over can be closed.</p>
      <Refused by={refused}>{held && <p>If you delete it all the same, what depends on it does not wait for it any more.</p>}</Refused>
      <div className="buttons">
        {held ? (
          <Button kind="danger" busy={busy} onClick={() => remove(true)}>Delete it all the same</Button>
        ) : (
          <Button kind="danger" busy={busy} onClick={() => remove(false)}>Delete it</Button>
        )}
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}

/** Whether the caller may change tasks. */
export function mayChange(): boolean {
  return auth.operator;
}

export function assignable(task: Task): boolean {
  return !task.assignment && [TaskStatus.OPEN, TaskStatus.DEFERRED, TaskStatus.IN_PROGRESS].includes(task.status);
}
