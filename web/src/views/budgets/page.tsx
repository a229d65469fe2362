// One budget, with what it parked and what was spent of it day by day.
import { useEffect, useMemo, useState } from "react";

import { problem } from "../../api/problem";
import { budgets as api } from "../../api/transport";
import { type Budget, UsageGroup } from "../../gen/baton/v1/budget_pb";
import { budgets } from "../../store/budgets";
import { useCell } from "../../store/cell";
import { auth, records } from "../../store/world";
import { living, moment, ms, short, who } from "../../text/format";
import { Visible } from "../../text/hidden";
import { Button, CopyButton, Empty, Failure, Loading } from "../../ui/bits";
import { go, Link } from "../../ui/route";
import { State } from "../facts";
import { BudgetForm, RemoveDialog } from "./form";
import { BudgetBadges, BudgetBody } from "./line";
import { ScopeName } from "./name";
import { Usage } from "./usage";
import { raiseWord } from "./words";

export function BudgetPage({ id }: { id: string }) {
  useCell(records);
  useCell(budgets);
  const [last, setLast] = useState<Budget>();
  const [missing, setMissing] = useState(false);
  const [failure, setFailure] = useState<unknown>();
  const [round, setRound] = useState(0);
  const [open, setOpen] = useState<"" | "change" | "remove">("");
  const listed = budgets.get(id);
  useEffect(() => {
    if (budgets.get(id)) return;
    const abort = new AbortController();
    // The list is on its way; one may be asked for by name before it is there.
    api.getBudget({ budgetId: id }, { signal: abort.signal }).then(
      ({ budget }) => {
        if (!abort.signal.aborted) setLast(budget);
      },
      (thrown: unknown) => {
        if (abort.signal.aborted) return;
        if (["NOT_FOUND", "INVALID_INPUT"].includes(problem(thrown).reason)) setMissing(true);
        else setFailure(thrown);
      },
    );
    return () => abort.abort();
  }, [id, round]);
  const budget = listed ?? (budgets.complete ? undefined : last);
  const of = budget?.scope?.of;
  const [kind, value] = [of?.case, of?.value];
  const only = useMemo(() => (typeof value === "string" && kind !== undefined ? { [kind]: value } : {}), [kind, value]);
  if (!budget) {
    if (failure !== undefined) return <div className="page"><Failure thrown={failure} retry={() => (setFailure(undefined), setRound(round + 1))} /></div>;
    if (!missing && !budgets.complete) return <Loading what="the budget" />;
    return (
      <Empty title="There is no such budget.">
        <p>It was taken away, or it is not yours to see.</p>
        <Button onClick={() => go("/budgets")}>All budgets</Button>
      </Empty>
    );
  }
  const parked = [...records.sessions.values()].filter((session) => session.parkedBy === id && living(session));
  const close = () => setOpen("");
  return (
    <div className="page">
      <header className="page-head">
        <p className="crumbs"><Link to="/budgets">Budgets</Link></p>
        <h1>Budget of <ScopeName scope={budget.scope} /></h1>
        <BudgetBadges budget={budget} />
      </header>
      {auth.operator && (
        <div className="buttons task-buttons">
          <Button kind="primary" onClick={() => setOpen("change")}>{raiseWord(budget)}</Button>
          <Button kind="quiet" onClick={() => setOpen("remove")}>Take it away…</Button>
        </div>
      )}
      <div className="budget"><BudgetBody budget={budget} /></div>
      {parked.length > 0 && (
        <section>
          <h2>Parked by it <span className="dim">{parked.length}</span></h2>
          <p className="hint field">Their inputs wait, and go on in their order when the budget is raised or taken away{budget.nextPeriodAt ? ", or its next day begins" : ""}.</p>
          <ul className="lines-list" aria-label="Parked by it">
            {parked.map((session) => (
              <li key={session.id}>
                <Link to={`/sessions/${session.id}`}><Visible text={session.title || short(session.id)} /></Link>
                <State session={session} />
                {session.queuedInputs > 0 && <span className="dim">{session.queuedInputs} queued</span>}
              </li>
            ))}
          </ul>
        </section>
      )}
      <section>
        <h2>Spent, by day</h2>
        <Usage group={UsageGroup.DAY} from="" to="" only={only} />
      </section>
      <dl className="facts task-ids">
        <div><dt>Id</dt><dd><code>{budget.id}</code> <CopyButton text={budget.id} label="Copy the id" /></dd></div>
        <div><dt>Made</dt><dd>{moment(ms(budget.createdAt))}{who(budget.createdBy) !== "" && ` by ${who(budget.createdBy)}`}</dd></div>
        <div><dt>Changed</dt><dd>{moment(ms(budget.updatedAt))}</dd></div>
      </dl>
      {open === "change" && <BudgetForm budget={budget} close={close} />}
      {open === "remove" && <RemoveDialog budget={budget} close={close} gone={() => go("/budgets", true)} />}
    </div>
  );
}
