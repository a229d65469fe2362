// The scheduler, of which no stream tells: it is asked after while somebody looks, and when tasks change.
import { problem } from "../api/problem";
import { scheduler as api } from "../api/transport";
import type { Scheduler } from "../gen/baton/v1/scheduler_pb";
import { Cell } from "./cell";
import { tasks } from "./tasks";
import { whileVisible } from "./visible";

/** How often it is asked after, in ms. */
const LOOK_MS = 5_000;
/** A change of a task has it asked after this long after, in ms. */
const SETTLE_MS = 1_000;
/** Of all time, at most one part in so many is spent asking: with very many agents an answer takes its time. */
const SHARE = 10;

class SchedulerCell extends Cell {
  state: Scheduler | undefined;
  /** Whether it tells this token nothing. */
  hidden = false;
  failure: unknown;
  private round = 0;
  /** When the last answer came, and how long it took, in ms of the page's clock. */
  private answered = 0;
  private took = 0;
  private followers = 0;
  private stop: () => void = () => undefined;

  /** Keeps it true until the answer is called. */
  follow(): () => void {
    this.followers += 1;
    if (this.followers === 1) this.begin();
    return () => {
      this.followers -= 1;
      if (this.followers === 0) this.stop();
    };
  }

  again(): void {
    void this.read();
  }

  put(state: Scheduler | undefined): void {
    if (!state) return;
    // What is on its way was asked before.
    this.round += 1;
    this.state = state;
    this.hidden = false;
    this.failure = undefined;
    this.changed();
  }

  private begin(): void {
    let soon: ReturnType<typeof setTimeout> | undefined;
    const settle = () => {
      soon ??= setTimeout(() => {
        soon = undefined;
        this.again();
      }, Math.max(SETTLE_MS, this.took * SHARE));
    };
    // A narrowed token stays one.
    const look = whileVisible(() => {
      if (!this.hidden && performance.now() - this.answered >= this.took * SHARE) this.again();
    }, LOOK_MS);
    const told = tasks.tell({ take: settle, drop: settle, again: settle });
    this.stop = () => {
      clearTimeout(soon);
      look();
      told();
    };
    this.again();
  }

  private async read(): Promise<void> {
    this.round += 1;
    const { round } = this;
    const began = performance.now();
    try {
      const { scheduler } = await api.getScheduler({});
      if (round === this.round) this.put(scheduler);
    } catch (thrown) {
      if (round !== this.round) return;
      this.hidden = problem(thrown).reason === "FORBIDDEN";
      this.failure = this.hidden ? undefined : thrown;
      this.changed();
    } finally {
      this.answered = performance.now();
      this.took = this.answered - began;
    }
  }
}

export const scheduler = new SchedulerCell();
