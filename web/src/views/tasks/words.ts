// What tasks are called by people.
import { DependencyKind, GateKind, MergeStatus, type Task, type TaskHistoryEntry, TaskHistoryKind, TaskStatus, TaskType, AssignmentState } from "../../gen/baton/v1/task_pb";
import { moment, ms } from "../../text/format";

export const STATUS: Record<TaskStatus, string> = {
  [TaskStatus.UNSPECIFIED]: "unknown",
  [TaskStatus.OPEN]: "open",
  [TaskStatus.IN_PROGRESS]: "in progress",
  [TaskStatus.DEFERRED]: "deferred",
  [TaskStatus.BACKLOG]: "backlog",
  [TaskStatus.REVIEW]: "in review",
  [TaskStatus.CLOSED]: "closed",
};

export const STATUS_TONE: Record<TaskStatus, string> = {
  [TaskStatus.UNSPECIFIED]: "",
  [TaskStatus.OPEN]: "",
  [TaskStatus.IN_PROGRESS]: "work",
  [TaskStatus.DEFERRED]: "",
  [TaskStatus.BACKLOG]: "",
  [TaskStatus.REVIEW]: "wait",
  [TaskStatus.CLOSED]: "good",
};

export const TYPE: Record<TaskType, string> = {
  [TaskType.UNSPECIFIED]: "task",
  [TaskType.BUG]: "bug",
  [TaskType.FEATURE]: "feature",
  [TaskType.TASK]: "task",
  [TaskType.CHORE]: "chore",
};
export const TYPES = [TaskType.TASK, TaskType.BUG, TaskType.FEATURE, TaskType.CHORE] as const;

export const PRIORITIES: readonly { priority: number; name: string }[] = [
  { priority: 1, name: "1, critical" },
  { priority: 2, name: "2, high" },
  { priority: 3, name: "3, medium" },
  { priority: 4, name: "4, low" },
  { priority: 5, name: "5, least" },
];

/** A dependency as it reads on the task that has it. */
export const KIND: Record<DependencyKind, string> = {
  [DependencyKind.UNSPECIFIED]: "has to do with",
  [DependencyKind.BLOCKS]: "waits for",
  [DependencyKind.PARENT_CHILD]: "is a part of",
  [DependencyKind.AWAITS]: "waits for",
  [DependencyKind.RELATES_TO]: "has to do with",
  [DependencyKind.REFERENCES]: "mentions",
  [DependencyKind.SUPERSEDES]: "takes the place of",
  [DependencyKind.DUPLICATES]: "is the same as",
  [DependencyKind.CAUSED_BY]: "is there because of",
  [DependencyKind.VALIDATES]: "checks",
};

export const KINDS = [
  DependencyKind.BLOCKS,
  DependencyKind.PARENT_CHILD,
  DependencyKind.RELATES_TO,
  DependencyKind.REFERENCES,
  DependencyKind.SUPERSEDES,
  DependencyKind.DUPLICATES,
  DependencyKind.CAUSED_BY,
  DependencyKind.VALIDATES,
] as const;

export function gateWords(kind: GateKind, name: string, until: number): string {
  switch (kind) {
    case GateKind.TIMER:
      return `the time: ${moment(until)}`;
    case GateKind.APPROVAL:
      return `somebody's approval: ${name}`;
    case GateKind.EXTERNAL:
      return name;
    case GateKind.UNSPECIFIED:
      return "something";
  }
}

export const MERGE: Record<MergeStatus, string> = {
  [MergeStatus.UNSPECIFIED]: "",
  [MergeStatus.NOT_APPLICABLE]: "",
  [MergeStatus.PENDING]: "to be merged",
  [MergeStatus.TESTING]: "tests run",
  [MergeStatus.MERGING]: "being merged",
  [MergeStatus.MERGED]: "merged",
  [MergeStatus.CONFLICT]: "does not fit",
  [MergeStatus.TEST_FAILED]: "tests failed",
  [MergeStatus.FAILED]: "merge failed",
  [MergeStatus.AWAITING_APPROVAL]: "merge to be allowed",
};
export const MERGE_BAD: readonly MergeStatus[] = [MergeStatus.CONFLICT, MergeStatus.TEST_FAILED, MergeStatus.FAILED];

export const ASSIGNMENT: Record<AssignmentState, string> = {
  [AssignmentState.UNSPECIFIED]: "",
  [AssignmentState.ASSIGNED]: "not begun",
  [AssignmentState.IN_PROGRESS]: "at work",
  [AssignmentState.COMPLETED]: "done",
  [AssignmentState.MERGED]: "merged",
  [AssignmentState.HANDED_OFF]: "handed on",
  [AssignmentState.RELEASED]: "taken back",
};

/** What an entry of the history says, after who did it. */
export function deed(entry: TaskHistoryEntry, agent: string): string {
  const more = entry.text === "" ? "" : `: ${entry.text}`;
  switch (entry.kind) {
    case TaskHistoryKind.CREATED:
      return "made it";
    case TaskHistoryKind.UPDATED:
      return `changed ${entry.text === "" ? "it" : entry.text.replaceAll("_", " ")}`;
    case TaskHistoryKind.MOVED:
      return `moved it${entry.text === "" ? "" : ` ${entry.text.replaceAll("_", " ")}`}`;
    case TaskHistoryKind.ASSIGNED:
      return `gave it to ${agent}`;
    case TaskHistoryKind.STARTED:
      return `${agent} began`;
    case TaskHistoryKind.SESSION_LINKED:
      return `${agent} works on in another session`;
    case TaskHistoryKind.HANDED_OFF:
      return `took it from ${agent}${more}`;
    case TaskHistoryKind.RELEASED:
      return `took it back from ${agent}${more}`;
    case TaskHistoryKind.COMPLETED:
      return `completed it${more}`;
    case TaskHistoryKind.REOPENED:
      return `opened it again${more}`;
    case TaskHistoryKind.DEPENDENCY_ADDED:
      return `added: ${entry.text}`;
    case TaskHistoryKind.DEPENDENCY_REMOVED:
      return `removed: ${entry.text}`;
    case TaskHistoryKind.MERGE_MOVED:
      return `merging${more}`;
    case TaskHistoryKind.RETRIED:
      return `took it up again, with ${agent}${more}`;
    case TaskHistoryKind.PARKED:
      return `let it wait: ${agent} is refused by its provider until ${entry.text}`;
    case TaskHistoryKind.ESCALATED:
      return `left it to a person${more}`;
    case TaskHistoryKind.UNSPECIFIED:
      return entry.text;
  }
}

/** Its priority, and its own where it is another. */
export function urgency(task: Task): string {
  return task.effectivePriority === task.priority || task.effectivePriority === 0 ? `P${task.priority}` : `P${task.effectivePriority} (${task.priority})`;
}

export function urgencyTone(task: Task): string {
  const most = Math.min(task.priority, task.effectivePriority || task.priority);
  return most === 1 ? "bad" : most === 2 ? "wait" : "";
}

/** How many others it waits for, as far as lists say. */
export function waits(task: Task): string {
  const gates = task.dependencies.filter(({ on }) => on?.kind === DependencyKind.AWAITS).length;
  const others = task.blockedByIds.length;
  if (!task.blocked) return "";
  if (others === 0) return gates > 0 ? "waits for a gate" : "waits";
  return others === 1 ? "waits for 1 task" : `waits for ${others} tasks`;
}

export function later(task: Task): boolean {
  return ms(task.scheduledFor) > Date.now();
}
