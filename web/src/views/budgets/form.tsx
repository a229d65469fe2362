// What may be spent, set anew, raised or taken away.
import { type FormEvent, useState } from "react";

import { budgets as api } from "../../api/transport";
import { type Allowance, type Budget, BudgetPeriod } from "../../gen/baton/v1/budget_pb";
import { budgets } from "../../store/budgets";
import { useCell } from "../../store/cell";
import { auth, records } from "../../store/world";
import { living, ms, short } from "../../text/format";
import { Button, Dialog, Field, Refused, toast, useAttempt } from "../../ui/bits";
import { AgentField, TaskField, TaskName } from "../tasks/pick";
import { Told } from "../told";
import { ScopeName, scopeKind } from "./name";
import { costWords, PERIOD, sameScope, tokenWords } from "./words";

/** Limits as they are typed; empty is none. */
interface Typed {
  usd: string;
  input: string;
  output: string;
  cache: string;
}

const NOTHING: Typed = { usd: "", input: "", output: "", cache: "" };

/** Micro-dollars as dollars, and back, without a rounding. */
function dollars(micros: bigint): string {
  const part = (micros % 1_000_000n).toString().padStart(6, "0").replace(/0+$/, "");
  return `${micros / 1_000_000n}${part === "" ? "" : `.${part.padEnd(2, "0")}`}`;
}

function micros(text: string): bigint {
  const [units = "0", part = ""] = text.split(".");
  return BigInt(units || "0") * 1_000_000n + BigInt(part.padEnd(6, "0").slice(0, 6) || "0");
}

function typed(limits: Allowance | undefined): Typed {
  if (!limits) return NOTHING;
  const tokens = (value: bigint) => (value === 0n ? "" : value.toString());
  return { usd: limits.costMicroUsd === 0n ? "" : dollars(limits.costMicroUsd), input: tokens(limits.inputTokens), output: tokens(limits.outputTokens), cache: tokens(limits.cacheTokens) };
}

function allowance(from: Typed): { costMicroUsd: bigint; inputTokens: bigint; outputTokens: bigint; cacheTokens: bigint } {
  const tokens = (text: string) => BigInt(text.trim() || "0");
  return { costMicroUsd: micros(from.usd.trim()), inputTokens: tokens(from.input), outputTokens: tokens(from.output), cacheTokens: tokens(from.cache) };
}

const MONEY = /^\s*(\d{1,12}(\.\d{0,6})?|\.\d{1,6})?\s*$/;
const TOKENS = /^\s*\d{0,15}\s*$/;
const readable = ({ usd, ...tokens }: Typed): boolean => MONEY.test(usd) && Object.values(tokens).every((text) => TOKENS.test(text));
const bounds = (from: Typed): boolean => readable(from) && Object.values(allowance(from)).some((value) => value > 0n);

type Kind = "everything" | "agent" | "task" | "session";

/** Sessions that are offered by name. */
const SESSIONS_MAX = 100;

export function BudgetForm({ budget, close, made }: { budget?: Budget; close: () => void; made?: (id: string) => void }) {
  useCell(records);
  useCell(budgets);
  const all = auth.state.kind === "in" && !auth.state.caller.narrowing;
  const [kind, setKind] = useState<Kind>("agent");
  const [id, setId] = useState("");
  const [period, setPeriod] = useState<BudgetPeriod>(BudgetPeriod.TOTAL);
  const [soft, setSoft] = useState(() => typed(budget?.soft));
  const [hard, setHard] = useState(() => typed(budget?.hard));
  const { busy, refused, clear, run } = useAttempt();
  const scope = (): { of: NonNullable<Budget["scope"]>["of"] } => {
    switch (kind) {
      case "everything":
        return { of: { case: "everything", value: true } };
      case "agent":
        return { of: { case: "agentId", value: id } };
      case "task":
        return { of: { case: "taskId", value: id } };
      case "session":
        return { of: { case: "sessionId", value: id } };
    }
  };
  const named = budget !== undefined || kind === "everything" || id !== "";
  const wanted = scope();
  // What has one already gets other limits for it.
  const same = budget ? undefined : budgets.items.find((one) => named && one.period === period && sameScope(one.scope, { $typeName: "baton.v1.BudgetScope", ...wanted }));
  const current = budget ? (budgets.get(budget.id) ?? budget) : undefined;
  const spent = current?.spent;
  const save = (event: FormEvent) => {
    event.preventDefault();
    run(async (requestId) => {
      try {
        const answer = await api.setBudget({
          requestId,
          scope: budget?.scope ?? wanted,
          period: budget?.period ?? period,
          soft: allowance(soft),
          hard: allowance(hard),
          etag: current?.etag ?? "",
        });
        if (answer.budget) {
          budgets.put(answer.budget);
          made?.(answer.budget.id);
        }
        toast(budget ? "The budget has other limits now." : "The budget is set.");
        close();
      } finally {
        // Somebody else may have changed it meanwhile.
        budgets.again();
      }
    });
  };
  const sessions = [...records.sessions.values()].sort((a, b) => Number(living(b)) - Number(living(a)) || ms(b.createdAt) - ms(a.createdAt)).slice(0, SESSIONS_MAX);
  return (
    <Dialog title={budget ? "Limits of the budget" : "New budget"} close={close} wide>
      <form className="new" onSubmit={save} onChange={clear}>
        {budget ? (
          <p className="field">Of {scopeKind(budget.scope)} <ScopeName scope={budget.scope} />, {PERIOD[budget.period]}. {spent && <span className="dim">Spent so far: {costWords(spent)}; {tokenWords(spent.inputTokens, spent)} input, {tokenWords(spent.outputTokens, spent)} output, {tokenWords(spent.cacheReadTokens + spent.cacheWriteTokens, spent)} cache tokens.</span>}</p>
        ) : (
          <>
            <div className="columns">
              <Field label="Of">
                {(field) => (
                  <select id={field} value={kind} onChange={(event) => (setKind(event.target.value as Kind), setId(""))}>
                    <option value="agent">an agent: all its sessions</option>
                    <option value="task">a task: what is worked on it</option>
                    <option value="session">one session</option>
                    {all && <option value="everything">everything that the server runs</option>}
                  </select>
                )}
              </Field>
              <Field label="Counts" hint={period === BudgetPeriod.DAY ? "Days are days in UTC." : "What was spent before counts."}>
                {(field) => (
                  <select id={field} value={period} onChange={(event) => setPeriod(Number(event.target.value))}>
                    <option value={BudgetPeriod.TOTAL}>in all, for good</option>
                    <option value={BudgetPeriod.DAY}>each day anew</option>
                  </select>
                )}
              </Field>
            </div>
            {kind === "agent" && <AgentField label="Agent" value={id} none="choose…" set={setId} />}
            {kind === "task" && (id === "" ? (
              <TaskField label="Task" not={[]} pick={(task) => setId(task.id)} />
            ) : (
              <ul className="chips" aria-label="Chosen"><li><TaskName id={id} plain /><Button small kind="quiet" icon="close" label="Choose another" onClick={() => setId("")} /></li></ul>
            ))}
            {kind === "session" && (
              <Field label="Session">
                {(field) => (
                  <select id={field} value={id} onChange={(event) => setId(event.target.value)}>
                    <option value="">choose…</option>
                    {sessions.map((one) => (
                      <option key={one.id} value={one.id}>{one.title || short(one.id)}{living(one) ? "" : " (over)"}</option>
                    ))}
                  </select>
                )}
              </Field>
            )}
            {same && <p className="warn field">It has a budget like this already: its limits are replaced.</p>}
          </>
        )}
        <Limits legend="Soft limit: a person is asked, and everything goes on" value={soft} set={setSoft} />
        <Limits legend="Hard limit: what it covers is parked" value={hard} set={setHard} />
        <p className="hint field">An empty field is no limit. Where a model has no price, a limit in money cannot hold it: limit tokens too.</p>
        <Refused by={refused} says={refused && <Told text={refused.message} />}>
          {refused?.reason === "STALE" && <p>Somebody changed it meanwhile. Look at what it is now; saving again replaces that.</p>}
        </Refused>
        <div className="buttons">
          <Button submit kind="primary" busy={busy} disabled={!named || !readable(soft) || !readable(hard) || (!bounds(soft) && !bounds(hard))}>{budget ? "Save" : "Set the budget"}</Button>
          <Button kind="quiet" onClick={close}>Back</Button>
          {(!readable(soft) || !readable(hard)) && <span className="bad" role="status">Money is like 12.50, tokens are whole numbers.</span>}
        </div>
      </form>
    </Dialog>
  );
}

function Limits({ legend, value, set }: { legend: string; value: Typed; set: (value: Typed) => void }) {
  const field = (name: keyof Typed, says: string, pattern: RegExp) => (
    <label className="bound">
      <span>{says}</span>
      <input inputMode={name === "usd" ? "decimal" : "numeric"} aria-invalid={!pattern.test(value[name]) || undefined} value={value[name]} onChange={(event) => set({ ...value, [name]: event.target.value })} />
    </label>
  );
  return (
    <fieldset className="limits">
      <legend>{legend}</legend>
      {field("usd", "US dollars", MONEY)}
      {field("input", "input tokens", TOKENS)}
      {field("output", "output tokens", TOKENS)}
      {field("cache", "cache tokens", TOKENS)}
    </fieldset>
  );
}

export function RemoveDialog({ budget, close, gone }: { budget: Budget; close: () => void; gone?: () => void }) {
  const { busy, refused, run } = useAttempt();
  return (
    <Dialog title="Take the budget away?" close={close}>
      <p>Of {scopeKind(budget.scope)} <ScopeName scope={budget.scope} plain />, {PERIOD[budget.period]}. What it parked goes on at once. What was spent stays known.</p>
      <Refused by={refused}>{refused?.reason === "STALE" && <p>Somebody changed it meanwhile. Look at it again first.</p>}</Refused>
      <div className="buttons">
        <Button
          kind="danger"
          busy={busy}
          onClick={() =>
            run(async (requestId) => {
              try {
                await api.setBudget({ requestId, scope: budget.scope, period: budget.period, etag: budget.etag });
                budgets.drop(budget.id);
                toast("The budget is gone.");
                close();
                gone?.();
              } finally {
                budgets.again();
              }
            })
          }
        >
          Take it away
        </Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}
