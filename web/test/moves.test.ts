import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";

import { TaskSchema, TaskStatus } from "../src/gen/baton/v1/task_pb";
import { COLUMNS, columnOf, moveTo } from "../src/views/tasks/moves";

/** The server's table of moves (domain/task/status.rs), but for those that no verb makes. */
const ALLOWED: [TaskStatus, string[]][] = [
  [TaskStatus.BACKLOG, ["deferred", "open", "closed"]],
  [TaskStatus.DEFERRED, ["backlog", "open", "in_progress"]],
  [TaskStatus.OPEN, ["backlog", "deferred", "in_progress", "closed"]],
  [TaskStatus.IN_PROGRESS, ["open", "review", "closed"]],
  [TaskStatus.REVIEW, ["open", "closed"]],
  [TaskStatus.CLOSED, ["open"]],
];

test("a card goes where the status machine lets it, and says why not elsewhere", () => {
  for (const [status, allowed] of ALLOWED) {
    const task = create(TaskSchema, { id: "t", status });
    const ways = COLUMNS.map(({ column }) => ({ column, way: moveTo(task, column) }));
    expect(ways.filter(({ way }) => typeof way !== "string").map(({ column }) => column)).toEqual(COLUMNS.map(({ column }) => column).filter((column) => allowed.includes(column)));
    for (const { way } of ways) if (typeof way === "string") expect(way).toMatch(/^[A-Z].*\.$/);
  }
});

test("what is blocked has a column, and leaves it for all but open", () => {
  const task = create(TaskSchema, { id: "t", status: TaskStatus.OPEN, blocked: true });
  expect(columnOf(task)).toBe("blocked");
  expect(moveTo(task, "open")).toMatch(/waits for something/);
  expect(moveTo(task, "in_progress")).toMatch(/nobody can begin it/);
  expect(moveTo(task, "closed")).toEqual({ kind: "close" });
  expect(columnOf(create(TaskSchema, { status: TaskStatus.IN_PROGRESS, blocked: true }))).toBe("in_progress");
});

test("a task gets into progress by being given to an agent, which begins", () => {
  for (const status of [TaskStatus.OPEN, TaskStatus.DEFERRED]) expect(moveTo(create(TaskSchema, { id: "t", status }), "in_progress")).toEqual({ kind: "dispatch" });
  expect(moveTo(create(TaskSchema, { id: "t", status: TaskStatus.BACKLOG }), "in_progress")).toBe("Move it to Open first.");
  expect(moveTo(create(TaskSchema, { id: "t", status: TaskStatus.CLOSED }), "in_progress")).toBe("Open it again first.");
});

test("what needs no review is closed, not reviewed", () => {
  const task = create(TaskSchema, { id: "t", status: TaskStatus.IN_PROGRESS, skipReview: true });
  expect(typeof moveTo(task, "review")).toBe("string");
  expect(moveTo(task, "closed")).toEqual({ kind: "close-work" });
});
