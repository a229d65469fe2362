// What was spent, by day, agent, task, session or model.
import { useCallback, useEffect, useState } from "react";

import { budgets as api } from "../../api/transport";
import { UsageGroup, type Spent, type UsageRow } from "../../gen/baton/v1/budget_pb";
import { useCell } from "../../store/cell";
import { whileVisible } from "../../store/visible";
import { records } from "../../store/world";
import { short } from "../../text/format";
import { Visible } from "../../text/hidden";
import { Button, Failure, Loading } from "../../ui/bits";
import { Link } from "../../ui/route";
import { agentName, TaskName } from "../tasks/pick";
import { costWords, tokenWords, unknownWords } from "./words";

export const GROUPS: readonly { by: string; group: UsageGroup; name: string; nobody: string }[] = [
  { by: "day", group: UsageGroup.DAY, name: "Day", nobody: "" },
  { by: "agent", group: UsageGroup.AGENT, name: "Agent", nobody: "without an agent" },
  { by: "task", group: UsageGroup.TASK, name: "Task", nobody: "for no task" },
  { by: "session", group: UsageGroup.SESSION, name: "Session", nobody: "" },
  { by: "model", group: UsageGroup.MODEL, name: "Model", nobody: "no model known" },
];

/** Of which things. */
export interface Only {
  sessionId?: string;
  agentId?: string;
  taskId?: string;
}

interface Read {
  rows: UsageRow[];
  total: Spent | undefined;
  prices: string;
  next: string;
}

/** How often it is asked again, in ms. */
const LOOK_MS = 10_000;
const PAGE = 500;

/** `only` must be the same object as long as it says the same. */
export function Usage({ group, from, to, only }: { group: UsageGroup; from: string; to: string; only: Only }) {
  useCell(records);
  const [found, setFound] = useState<Read>();
  const [failure, setFailure] = useState<unknown>();
  const [round, setRound] = useState(0);
  const [pages, setPages] = useState(1);
  const again = useCallback(() => setRound((old) => old + 1), []);
  useEffect(() => whileVisible(again, LOOK_MS), [again]);
  useEffect(() => {
    const abort = new AbortController();
    const read = async () => {
      const got: Read = { rows: [], total: undefined, prices: "", next: "" };
      for (let page = 0; page < pages && (page === 0 || got.next !== ""); page += 1) {
        const answer = await api.getUsage({ groupBy: group, fromDay: from, toDay: to, pageSize: PAGE, pageToken: got.next, ...only }, { signal: abort.signal });
        got.rows.push(...answer.rows);
        got.next = answer.nextPageToken;
        got.total = answer.total;
        got.prices = answer.prices;
      }
      return got;
    };
    read().then(
      (got) => {
        if (abort.signal.aborted) return;
        setFound(got);
        setFailure(undefined);
      },
      (thrown: unknown) => {
        if (!abort.signal.aborted) setFailure(thrown);
      },
    );
    return () => abort.abort();
  }, [group, from, to, only, pages, round]);
  const about = GROUPS.find((one) => one.group === group);
  if (failure !== undefined && !found) return <Failure thrown={failure} retry={again} />;
  if (!found) return <Loading what="what was spent" />;
  // What is whole is put into the order that one looks for: the newest day, or the most.
  const rows = found.next !== "" ? found.rows : group === UsageGroup.DAY ? found.rows.toReversed() : found.rows.toSorted((a, b) => Number((b.spent?.costMicroUsd ?? 0n) - (a.spent?.costMicroUsd ?? 0n)) || weight(b) - weight(a));
  return (
    <>
      {failure !== undefined && <Failure thrown={failure} retry={again} />}
      {rows.length === 0 ? (
        <p className="dim">Nothing was spent.</p>
      ) : (
        <div className="usage-frame" role="region" aria-label="What was spent" tabIndex={0}>
          <table className="usage">
            <thead>
              <tr>
                <th scope="col">{about?.name}</th>
                <th scope="col">Cost</th>
                <th scope="col">Input</th>
                <th scope="col">Output</th>
                <th scope="col">Cache, written</th>
                <th scope="col">Cache, read</th>
                <th scope="col">Not known</th>
              </tr>
            </thead>
            <tbody>
              {rows.map((row) => (
                <tr key={`${row.day}${row.agentId}${row.taskId}${row.sessionId}${row.model}`}>
                  <th scope="row"><Of row={row} nobody={about?.nobody ?? ""} /></th>
                  <Numbers spent={row.spent} />
                </tr>
              ))}
            </tbody>
            <tfoot>
              <tr>
                <th scope="row">All{found.next === "" ? "" : ", with those that are not shown"}</th>
                <Numbers spent={found.total} />
              </tr>
            </tfoot>
          </table>
        </div>
      )}
      {found.next !== "" && <Button onClick={() => setPages(pages + 1)}>More</Button>}
      {found.prices !== "" && <p className="hint">Where a harness states no cost, tokens are priced by: {found.prices}.</p>}
    </>
  );
}

function weight(row: UsageRow): number {
  return Number((row.spent?.inputTokens ?? 0n) + (row.spent?.outputTokens ?? 0n));
}

function Numbers({ spent }: { spent: Spent | undefined }) {
  if (!spent) return <td colSpan={6} />;
  return (
    <>
      <td>{costWords(spent)}</td>
      <td>{tokenWords(spent.inputTokens, spent)}</td>
      <td>{tokenWords(spent.outputTokens, spent)}</td>
      <td>{tokenWords(spent.cacheWriteTokens, spent)}</td>
      <td>{tokenWords(spent.cacheReadTokens, spent)}</td>
      <td className="warn">{unknownWords(spent)}</td>
    </>
  );
}

function Of({ row, nobody }: { row: UsageRow; nobody: string }) {
  if (row.day !== "") return <>{row.day}</>;
  if (row.agentId !== "") return <Link to={`/agents/${row.agentId}`}><Visible text={agentName(row.agentId)} /></Link>;
  if (row.taskId !== "") return <TaskName id={row.taskId} />;
  if (row.sessionId !== "") {
    const known = records.sessions.get(row.sessionId);
    return <Link to={`/sessions/${row.sessionId}`}><Visible text={known?.title || `session ${short(row.sessionId)}`} /></Link>;
  }
  if (row.model !== "") return <code><Visible text={row.model} /></code>;
  return <span className="dim">{nobody}</span>;
}
