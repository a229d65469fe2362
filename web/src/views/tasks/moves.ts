// Which columns a board has, and which way leads from one to another: the server's table of moves, and by which verb.
import { type Task, TaskStatus } from "../../gen/baton/v1/task_pb";

export type Column = "backlog" | "deferred" | "blocked" | "open" | "in_progress" | "review" | "closed";

export const COLUMNS: readonly { column: Column; name: string; status: TaskStatus }[] = [
  { column: "backlog", name: "Backlog", status: TaskStatus.BACKLOG },
  { column: "deferred", name: "Deferred", status: TaskStatus.DEFERRED },
  { column: "blocked", name: "Blocked", status: TaskStatus.OPEN },
  { column: "open", name: "Open", status: TaskStatus.OPEN },
  { column: "in_progress", name: "In progress", status: TaskStatus.IN_PROGRESS },
  { column: "review", name: "Review", status: TaskStatus.REVIEW },
  { column: "closed", name: "Closed", status: TaskStatus.CLOSED },
];

/** Where a task stands on the board. What is blocked and begun stays with those who work. */
export function columnOf(task: Task): Column {
  if (task.status === TaskStatus.OPEN && task.blocked) return "blocked";
  return COLUMNS.find((one) => one.status === task.status && one.column !== "blocked")?.column ?? "open";
}

/** How a task gets into a column. Some need to be asked about first. */
export type Move =
  /** A field of UpdateTask. */
  | { kind: "status"; status: TaskStatus }
  /** Closed without a word. */
  | { kind: "close" }
  /** Done, by whoever had it: to review, or closed. */
  | { kind: "complete" }
  | { kind: "close-work" }
  /** The end of a review. */
  | { kind: "settle" }
  | { kind: "reopen" }
  /** Taken from who has it. */
  | { kind: "release" }
  /** Given to an agent, which begins. */
  | { kind: "dispatch" };

/** Whether an agent could be let begin it, or go on with it. */
export function dispatchable(task: Task): boolean {
  return !task.blocked && [TaskStatus.OPEN, TaskStatus.DEFERRED, TaskStatus.IN_PROGRESS].includes(task.status);
}

/** The move into a column, or why there is none. */
export function moveTo(task: Task, column: Column): Move | string {
  const from = columnOf(task);
  if (from === column) return "It is there.";
  const begun = task.status === TaskStatus.IN_PROGRESS;
  const over = task.status === TaskStatus.REVIEW || task.status === TaskStatus.CLOSED;
  switch (column) {
    case "blocked":
      return "What it waits for puts it there: add a dependency.";
    case "open":
      if (from === "blocked") return "It waits for something. When that is over, it goes there by itself.";
      if (over) return { kind: "reopen" };
      return begun ? { kind: "release" } : { kind: "status", status: TaskStatus.OPEN };
    case "deferred":
    case "backlog":
      if (over) return "Open it again first.";
      if (begun) return "Take it back to Open first.";
      return { kind: "status", status: column === "deferred" ? TaskStatus.DEFERRED : TaskStatus.BACKLOG };
    case "in_progress":
      if (over) return "Open it again first.";
      if (task.status === TaskStatus.BACKLOG) return "Move it to Open first.";
      return dispatchable(task) ? { kind: "dispatch" } : "It waits for something: nobody can begin it yet.";
    case "review":
      if (task.status === TaskStatus.CLOSED) return "Open it again first.";
      if (begun) return task.skipReview ? "It needs no review: close it." : { kind: "complete" };
      return "There is nothing to review before an agent has begun.";
    case "closed":
      if (task.status === TaskStatus.REVIEW) return { kind: "settle" };
      if (task.status === TaskStatus.DEFERRED) return "Move it to Open or Backlog first.";
      return begun ? { kind: "close-work" } : { kind: "close" };
  }
}
