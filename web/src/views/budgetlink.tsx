// The way to a budget, by its name, which is read only where one is shown.
import { lazy, Suspense } from "react";

import { short } from "../text/format";
import { Link } from "../ui/route";

const BudgetName = lazy(() => import("./budgets/name"));

export function BudgetLink({ id }: { id: string }) {
  return (
    <Link to={`/budgets/${id}`}>
      <Suspense fallback={<>budget {short(id)}</>}>
        <BudgetName id={id} />
      </Suspense>
    </Link>
  );
}
