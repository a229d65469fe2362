// What a budget is of, by name.
import { useEffect } from "react";

import type { BudgetScope } from "../../gen/baton/v1/budget_pb";
import { budgets } from "../../store/budgets";
import { useCell } from "../../store/cell";
import { askSession, records } from "../../store/world";
import { short } from "../../text/format";
import { Visible } from "../../text/hidden";
import { Link } from "../../ui/route";
import { agentName, TaskName } from "../tasks/pick";

/** The thing that a budget is of; a link to it unless `plain`. */
export function ScopeName({ scope, plain }: { scope: BudgetScope | undefined; plain?: boolean }) {
  useCell(records);
  const of = scope?.of;
  const session = of?.case === "sessionId" ? of.value : "";
  useEffect(() => {
    // One that is gone is shown by its id.
    if (session !== "" && !records.sessions.has(session)) askSession(session).catch(() => undefined);
  }, [session]);
  switch (of?.case) {
    case "everything":
      return <>everything</>;
    case "agentId":
      return plain ? <Visible text={agentName(of.value)} /> : <Link to={`/agents/${of.value}`}><Visible text={agentName(of.value)} /></Link>;
    case "taskId":
      return <TaskName id={of.value} plain={plain} />;
    case "sessionId": {
      const name = <Visible text={records.sessions.get(of.value)?.title || `session ${short(of.value)}`} />;
      return plain ? name : <Link to={`/sessions/${of.value}`}>{name}</Link>;
    }
    case undefined:
      return <>something</>;
  }
}

/** What sort of thing it is. */
export function scopeKind(scope: BudgetScope | undefined): string {
  switch (scope?.of.case) {
    case "agentId":
      return "agent";
    case "taskId":
      return "task";
    case "sessionId":
      return "session";
    default:
      return "";
  }
}

/** `the budget of Alice`, which is read if it is not known. */
export default function BudgetName({ id }: { id: string }) {
  useCell(budgets);
  useEffect(() => budgets.want(id), [id]);
  const budget = budgets.get(id);
  if (!budget) return <>budget {short(id)}</>;
  const kind = scopeKind(budget.scope);
  return <>the budget of {kind !== "" && `${kind === "agent" ? "" : `the ${kind} `}`}<ScopeName scope={budget.scope} plain /></>;
}
