// What budgets and spending are called by people. What is not known is said to be, and never shown as nothing.
import { type Allowance, type Budget, BudgetPeriod, type BudgetScope, BudgetState, type Spent } from "../../gen/baton/v1/budget_pb";
import { money } from "../../text/format";

export const PERIOD: Record<BudgetPeriod, string> = {
  [BudgetPeriod.UNSPECIFIED]: "in all",
  [BudgetPeriod.TOTAL]: "in all",
  [BudgetPeriod.DAY]: "each day",
};

export function state(budget: Budget): { word: string; tone: string } {
  if (budget.stopped) return { word: "stopped", tone: "bad" };
  switch (budget.state) {
    case BudgetState.HARD:
      return { word: "spent", tone: "bad" };
    case BudgetState.SOFT:
      return { word: "at its soft limit", tone: "wait" };
    case BudgetState.WITHIN:
    case BudgetState.UNSPECIFIED:
      return { word: "within", tone: "good" };
  }
}

/** Whether something of the cost is not known: what is known is the least that it was. */
export function costUnknown(spent: Spent): boolean {
  return spent.unpricedTurns > 0n || spent.unreportedTurns > 0n;
}

/** Whether something of the tokens is not known. */
export function tokensUnknown(spent: Spent): boolean {
  return spent.unreportedTurns > 0n;
}

function least(value: bigint, unknown: boolean, say: (value: bigint) => string): string {
  if (!unknown) return say(value);
  return value === 0n ? "unknown" : `at least ${say(value)}`;
}

export const whole = (value: bigint): string => value.toLocaleString();

export function costWords(spent: Spent): string {
  return least(spent.costMicroUsd, costUnknown(spent), money);
}

export function tokenWords(value: bigint, spent: Spent): string {
  return least(value, tokensUnknown(spent), whole);
}

const turns = (count: bigint): string => (count === 1n ? "1 turn" : `${whole(count)} turns`);

/** Of what nothing is known, in a line; empty if all is. */
export function unknownWords(spent: Spent): string {
  const parts: string[] = [];
  if (spent.unpricedTurns > 0n) parts.push(`${turns(spent.unpricedTurns)} without a price`);
  if (spent.unreportedTurns > 0n) parts.push(`${turns(spent.unreportedTurns)} without a report`);
  return parts.join(", ");
}

/** One thing that a budget bounds. */
export interface Measure {
  name: string;
  spent: bigint;
  unknown: boolean;
  /** What was spent, in words. */
  words: string;
  soft: bigint;
  hard: bigint;
  say: (value: bigint) => string;
}

/** What a budget bounds, with what was spent of it. */
export function measures(budget: Budget): Measure[] {
  const { spent, soft, hard } = budget;
  if (!spent) return [];
  const of = (name: string, amount: (from: Allowance) => bigint, value: bigint, unknown: boolean, say: (value: bigint) => string): Measure => ({
    name,
    spent: value,
    unknown,
    words: least(value, unknown, say),
    soft: soft ? amount(soft) : 0n,
    hard: hard ? amount(hard) : 0n,
    say,
  });
  const blind = tokensUnknown(spent);
  return [
    of("Money", (from) => from.costMicroUsd, spent.costMicroUsd, costUnknown(spent), money),
    of("Input tokens", (from) => from.inputTokens, spent.inputTokens, blind, whole),
    of("Output tokens", (from) => from.outputTokens, spent.outputTokens, blind, whole),
    of("Cache tokens", (from) => from.cacheTokens, spent.cacheReadTokens + spent.cacheWriteTokens, blind, whole),
  ].filter((one) => one.soft > 0n || one.hard > 0n);
}

/** The same scope, and the same time. */
export function sameScope(a: BudgetScope | undefined, b: BudgetScope | undefined): boolean {
  return a?.of.case === b?.of.case && a?.of.value === b?.of.value;
}

/** What changing it is mostly for. */
export function raiseWord(budget: Budget): string {
  return state(budget).tone === "good" ? "Change…" : "Raise…";
}
