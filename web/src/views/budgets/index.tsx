// Budgets: what may be spent, and what was.
import "../../styles/budgets.css";

import { useEffect, useState } from "react";

import type { Budget } from "../../gen/baton/v1/budget_pb";
import { budgets } from "../../store/budgets";
import { useCell } from "../../store/cell";
import { auth, records } from "../../store/world";
import { Button, Empty, Failure, Field, Loading } from "../../ui/bits";
import { go, Link, usePlace } from "../../ui/route";
import { BudgetForm, RemoveDialog } from "./form";
import { BudgetBadges, BudgetBody } from "./line";
import { ScopeName } from "./name";
import { BudgetPage } from "./page";
import { GROUPS, type Only, Usage } from "./usage";
import { raiseWord, state } from "./words";

/** Budgets that are shown before a person asks for more. */
const STEP = 50;
/** How far usage looks back where nobody says, in days. */
const DAYS = 30;

export default function Budgets() {
  const { path } = usePlace();
  useCell(records);
  useEffect(() => budgets.follow(), []);
  const id = path[1];
  if (!records.complete) return <Loading what="budgets" />;
  if (id !== undefined) return <BudgetPage key={id} id={id} />;
  return <All />;
}

function All() {
  const place = usePlace();
  const [creating, setCreating] = useState(false);
  const usage = place.query.get("as") === "usage";
  return (
    <div className="page">
      <header className="page-head">
        <h1>Budgets</h1>
        <div className="shapes" role="group" aria-label="Shown">
          <Button small pressed={!usage} onClick={() => go("/budgets", true)}>Limits</Button>
          <Button small pressed={usage} onClick={() => go("/budgets?as=usage", true)}>Usage</Button>
        </div>
        <span className="spacer" />
        {auth.operator && <Button kind="primary" icon="plus" onClick={() => setCreating(true)}>New budget</Button>}
      </header>
      {usage ? <Spending /> : <List create={() => setCreating(true)} />}
      {creating && <BudgetForm close={() => setCreating(false)} made={(id) => go(`/budgets/${id}`)} />}
    </div>
  );
}

/** What holds something first, then what asks, then the oldest. */
function order(a: Budget, b: Budget): number {
  const rank = (one: Budget) => ["bad", "wait", "good"].indexOf(state(one).tone);
  return rank(a) - rank(b) || (a.id < b.id ? -1 : 1);
}

function List({ create }: { create: () => void }) {
  useCell(budgets);
  const [most, setMost] = useState(STEP);
  const all = budgets.items.sort(order);
  if (!budgets.complete) return budgets.failure === undefined ? <Loading what="budgets" /> : <Failure thrown={budgets.failure} retry={() => budgets.again()} />;
  return (
    <>
      {budgets.failure !== undefined && <Failure thrown={budgets.failure} retry={() => budgets.again()} />}
      {all.length === 0 ? (
        <Empty title="No budgets.">
          <p>A budget says what may be spent: of an agent, a task, a session, or of everything; in all or each day. At its soft limit a person is asked, at its hard limit what it covers is parked.</p>
          {auth.operator && <Button kind="primary" icon="plus" onClick={create}>New budget</Button>}
        </Empty>
      ) : (
        <ul className="budget-list" aria-label="Budgets">
          {all.slice(0, most).map((budget) => <Line key={budget.id} budget={budget} />)}
        </ul>
      )}
      {all.length > most && <Button onClick={() => setMost(most + STEP)}>{all.length - most} more</Button>}
    </>
  );
}

function Line({ budget }: { budget: Budget }) {
  const [open, setOpen] = useState<"" | "change" | "remove">("");
  const close = () => setOpen("");
  return (
    <li className="budget" data-budget={budget.id}>
      <header>
        <h2><Link to={`/budgets/${budget.id}`}><ScopeName scope={budget.scope} plain /></Link></h2>
        <BudgetBadges budget={budget} />
        <span className="spacer" />
        {auth.operator && (
          <span className="budget-buttons">
            <Button small onClick={() => setOpen("change")}>{raiseWord(budget)}</Button>
            <Button small kind="quiet" icon="close" label="Take it away…" onClick={() => setOpen("remove")} />
          </span>
        )}
      </header>
      <BudgetBody budget={budget} />
      {open === "change" && <BudgetForm budget={budget} close={close} />}
      {open === "remove" && <RemoveDialog budget={budget} close={close} />}
    </li>
  );
}

/** Of everything that the caller sees. */
const ALL: Only = {};

function Spending() {
  const place = usePlace();
  const [first] = useState(() => new Date(Date.now() - (DAYS - 1) * 86_400_000).toISOString().slice(0, 10));
  const day = (name: string) => (/^\d{4}-\d\d-\d\d$/.test(place.query.get(name) ?? "") ? (place.query.get(name) ?? "") : "");
  const about = GROUPS.find(({ by }) => by === place.query.get("by")) ?? GROUPS[0];
  const from = place.query.has("from") ? day("from") : first;
  const to = day("to");
  const set = (name: string, value: string) => {
    const next = new URLSearchParams(place.query);
    next.set(name, value);
    go(`/budgets?${next.toString()}`, true);
  };
  if (!about) return null;
  return (
    <>
      <div className="filters usage-filters" role="search">
        <Field label="By">
          {(id) => (
            <select id={id} value={about.by} onChange={(event) => set("by", event.target.value)}>
              {GROUPS.map(({ by, name }) => <option key={by} value={by}>{name.toLowerCase()}</option>)}
            </select>
          )}
        </Field>
        <Field label="From (UTC)">{(id) => <input id={id} type="date" value={from} onChange={(event) => set("from", event.target.value)} />}</Field>
        <Field label="To">{(id) => <input id={id} type="date" value={to} onChange={(event) => set("to", event.target.value)} />}</Field>
      </div>
      <Usage group={about.group} from={from} to={to} only={ALL} />
    </>
  );
}
