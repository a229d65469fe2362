// Budgets, of which no stream tells: they are asked for while somebody looks. One that is named somewhere is read once.
import { problem } from "../api/problem";
import { budgets as api } from "../api/transport";
import type { Budget } from "../gen/baton/v1/budget_pb";
import { Cell } from "./cell";
import { whileVisible } from "./visible";

/** How often they are asked for, in ms. */
const LOOK_MS = 5_000;
/** Of more than this many, only every sixth time. */
const MANY = 500;

class Budgets extends Cell {
  private known = new Map<string, Budget>();
  private readonly asked = new Set<string>();
  /** Whether all were read once. */
  complete = false;
  failure: unknown;
  private round = 0;
  private followers = 0;
  private stop: () => void = () => undefined;

  get items(): Budget[] {
    return [...this.known.values()];
  }

  get(id: string): Budget | undefined {
    return this.known.get(id);
  }

  /** Keeps all of them true until the answer is called. */
  follow(): () => void {
    this.followers += 1;
    if (this.followers === 1) {
      let turn = 0;
      this.stop = whileVisible(() => {
        turn += 1;
        if (this.known.size <= MANY || turn % 6 === 0) this.again();
      }, LOOK_MS);
      this.again();
    }
    return () => {
      this.followers -= 1;
      if (this.followers === 0) this.stop();
    };
  }

  again(): void {
    void this.read();
  }

  put(budget: Budget): void {
    this.round += 1;
    this.known.set(budget.id, budget);
    this.changed();
  }

  drop(id: string): void {
    this.round += 1;
    this.known.delete(id);
    this.changed();
  }

  /** Reads one that is named somewhere; once. */
  want(id: string): void {
    if (this.known.has(id) || this.asked.has(id)) return;
    this.asked.add(id);
    api.getBudget({ budgetId: id }).then(
      ({ budget }) => {
        if (budget && !this.known.has(id)) this.put(budget);
      },
      (thrown: unknown) => {
        // It is shown by its id; what was not reached is asked again.
        if (problem(thrown).reason === "") this.asked.delete(id);
      },
    );
  }

  private async read(): Promise<void> {
    this.round += 1;
    const { round } = this;
    try {
      const found = new Map<string, Budget>();
      let pageToken = "";
      do {
        const answer = await api.listBudgets({ pageSize: 500, pageToken });
        if (round !== this.round) return;
        for (const budget of answer.budgets) found.set(budget.id, budget);
        pageToken = answer.nextPageToken;
      } while (pageToken !== "");
      this.known = found;
      this.complete = true;
      this.failure = undefined;
    } catch (thrown) {
      if (round !== this.round) return;
      this.failure = thrown;
    }
    this.changed();
  }
}

export const budgets = new Budgets();
