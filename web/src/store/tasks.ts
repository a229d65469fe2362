// Tasks, of which there may be very many: pages of what is looked at, kept up with what the stream tells.
import { problem } from "../api/problem";
import { tasks as api } from "../api/transport";
import type { Change } from "../gen/baton/v1/event_pb";
import type { Task, TaskStatus, TaskType } from "../gen/baton/v1/task_pb";
import { Cell } from "./cell";
import { watch } from "./world";

/** Tasks that are read at once. */
const PAGE = 100;
/** Tasks whose titles are remembered although no list shows them. */
const KNOWN_MAX = 5_000;
/** The queue is the server's to order: it is read again this long after a change, in ms. */
const SETTLE_MS = 400;

export interface Query {
  statuses: readonly TaskStatus[];
  types: readonly TaskType[];
  priorities: readonly number[];
  agentId: string;
  unassigned: boolean;
  labels: Readonly<Record<string, string>>;
  text: string;
}

/** Whether a task belongs to a list. The same rule as the server's, which says what a page has. */
export function fits(query: Query, task: Task): boolean {
  return (
    (query.statuses.length === 0 || query.statuses.includes(task.status)) &&
    (query.types.length === 0 || query.types.includes(task.type)) &&
    (query.priorities.length === 0 || query.priorities.includes(task.priority)) &&
    (query.agentId === "" || task.assignment?.agentId === query.agentId) &&
    (!query.unassigned || task.assignment === undefined) &&
    Object.entries(query.labels).every(([name, value]) => task.labels[name] === value) &&
    (query.text === "" || task.title.toLowerCase().includes(query.text.toLowerCase()))
  );
}

interface Listener {
  take(task: Task): void;
  drop(id: string): void;
  again(): void;
}

class Tasks extends Cell {
  /** What was seen of tasks lately, as lists show it. */
  private readonly known = new Map<string, Task>();
  private readonly asked = new Set<string>();
  private readonly shown = new Set<Listener>();
  private followers = 0;

  /** Follows tasks until the answer is called. */
  follow(): () => void {
    this.followers += 1;
    watch.followTasks(this);
    return () => {
      this.followers -= 1;
      // The next view may want the same.
      setTimeout(() => {
        if (this.followers === 0) watch.followTasks(undefined);
      }, 1_000);
    };
  }

  tell(listener: Listener): () => void {
    this.shown.add(listener);
    return () => this.shown.delete(listener);
  }

  apply(changes: readonly Change[]): void {
    for (const { record } of changes) {
      if (record.case === "task") this.put(record.value);
      else if (record.case === "deletedId") this.drop(record.value);
    }
  }

  missed(): void {
    for (const listener of this.shown) listener.again();
  }

  /** What an answer to a call, or the stream, says. */
  put(task: Task | undefined): void {
    if (!task) return;
    this.remember(task);
    for (const listener of this.shown) listener.take(task);
    this.changed();
  }

  drop(id: string): void {
    this.known.delete(id);
    for (const listener of this.shown) listener.drop(id);
    this.changed();
  }

  remember(task: Task): void {
    this.known.delete(task.id);
    this.known.set(task.id, task);
    const oldest = this.known.keys().next().value;
    if (this.known.size > KNOWN_MAX && oldest !== undefined) this.known.delete(oldest);
  }

  get(id: string): Task | undefined {
    return this.known.get(id);
  }

  /** Reads a task that is named somewhere and was not seen yet; once. */
  want(id: string): void {
    if (this.known.has(id) || this.asked.has(id)) return;
    this.asked.add(id);
    api.getTask({ taskId: id }).then(
      ({ task }) => {
        if (task) this.remember(task);
        this.changed();
      },
      // It is shown by its id.
      () => undefined,
    );
  }
}

export const tasks = new Tasks();

/** One list, newest first, as far as it was scrolled. */
export class TaskList extends Cell implements Listener {
  private ids: string[] = [];
  private readonly found = new Map<string, Task>();
  private next = "";
  private round = 0;
  /** Whether the end was reached. */
  done = false;
  loading = false;
  failure: unknown;
  readonly query: Query;

  constructor(query: Query) {
    super();
    this.query = query;
  }

  get items(): Task[] {
    return this.ids.flatMap((id) => this.found.get(id) ?? []);
  }

  get size(): number {
    return this.ids.length;
  }

  /** Reads the next page. */
  async more(): Promise<void> {
    if (this.loading || this.done || this.failure !== undefined) return;
    await this.read(PAGE, this.next, false);
  }

  /** Reads again as much as was there. */
  again(): void {
    this.loading = false;
    void this.read(Math.max(PAGE, Math.min(this.ids.length, 1_000)), "", true);
  }

  private async read(count: number, pageToken: string, afresh: boolean): Promise<void> {
    this.round += 1;
    const { round } = this;
    this.loading = true;
    this.failure = undefined;
    this.changed();
    try {
      const { query } = this;
      const got: Task[] = [];
      let token = pageToken;
      // A page that others were passed over for is shorter, and may be empty.
      do {
        const answer = await api.listTasks({
          pageSize: count - got.length,
          pageToken: token,
          statuses: [...query.statuses],
          types: [...query.types],
          priorities: [...query.priorities],
          agentId: query.agentId,
          unassigned: query.unassigned,
          labels: { ...query.labels },
          titleContains: query.text,
        });
        got.push(...answer.tasks);
        token = answer.nextPageToken;
        if (round !== this.round) return;
      } while (token !== "" && got.length === 0);
      if (afresh) {
        this.ids = [];
        this.found.clear();
      }
      for (const task of got) {
        tasks.remember(task);
        this.insert(task);
      }
      this.next = token;
      this.done = token === "";
    } catch (thrown) {
      if (round !== this.round) return;
      this.failure = thrown;
    }
    this.loading = false;
    this.changed();
  }

  take(task: Task): void {
    if (fits(this.query, task)) {
      const last = this.ids.at(-1);
      // What is older than the end of the last page comes with the next.
      if (!this.done && (last === undefined || task.id < last)) return;
      this.insert(task);
      this.changed();
    } else this.drop(task.id);
  }

  drop(id: string): void {
    if (!this.found.delete(id)) return;
    this.ids = this.ids.filter((one) => one !== id);
    this.changed();
  }

  /** Ids sort by time, and the newest is first. */
  private insert(task: Task): void {
    if (!this.found.has(task.id)) {
      let low = 0;
      let high = this.ids.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((this.ids[middle] ?? "") > task.id) low = middle + 1;
        else high = middle;
      }
      this.ids.splice(low, 0, task.id);
    }
    this.found.set(task.id, task);
  }
}

/** What could be begun now, in the server's order. */
export class ReadyList extends Cell implements Listener {
  items: Task[] = [];
  private next = "";
  private round = 0;
  private timer: ReturnType<typeof setTimeout> | undefined;
  done = false;
  loading = false;
  failure: unknown;
  readonly query: Query;

  constructor(query: Query) {
    super();
    this.query = query;
  }

  async more(): Promise<void> {
    if (this.loading || this.done || this.failure !== undefined) return;
    await this.read(PAGE, this.next);
  }

  again(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    void this.read(Math.max(PAGE, Math.min(this.items.length, 1_000)), "");
  }

  take(): void {
    this.timer ??= setTimeout(() => this.again(), SETTLE_MS);
  }

  drop(): void {
    this.take();
  }

  private async read(pageSize: number, pageToken: string): Promise<void> {
    this.round += 1;
    const { round } = this;
    this.loading = true;
    this.failure = undefined;
    this.changed();
    try {
      const { query } = this;
      const got: Task[] = [];
      let token = pageToken;
      do {
        const answer = await api.listReadyTasks({
          pageSize,
          pageToken: token,
          types: [...query.types],
          agentId: query.agentId,
          unassigned: query.unassigned,
          labels: { ...query.labels },
        });
        got.push(...answer.tasks);
        token = answer.nextPageToken;
        if (round !== this.round) return;
      } while (token !== "" && got.length === 0);
      for (const task of got) tasks.remember(task);
      const before = pageToken === "" ? [] : this.items;
      // While the queue changes, a task may be on two pages.
      const there = new Set(before.map((task) => task.id));
      this.items = [...before, ...got.filter((task) => !there.has(task.id))];
      this.next = token;
      this.done = token === "";
    } catch (thrown) {
      if (round !== this.round) return;
      this.failure = thrown;
    }
    this.loading = false;
    this.changed();
  }
}

/** A task as a change of it needs it: who changes what has changed meanwhile is told so, not obeyed. */
export async function reread(id: string): Promise<Task | undefined> {
  try {
    const { task } = await api.getTask({ taskId: id });
    tasks.put(task);
    return task;
  } catch (thrown) {
    if (problem(thrown).reason === "NOT_FOUND") tasks.drop(id);
    return undefined;
  }
}
