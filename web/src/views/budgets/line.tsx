// One budget as a card: what is spent of what it allows, and what follows.
import type { ReactNode } from "react";

import { type Budget, BudgetPeriod } from "../../gen/baton/v1/budget_pb";
import { living, moment, ms } from "../../text/format";
import { records } from "../../store/world";
import { Badge } from "../../ui/bits";
import { Link } from "../../ui/route";
import { scopeKind } from "./name";
import { type Measure, measures, PERIOD, state, unknownWords } from "./words";

export function BudgetBadges({ budget }: { budget: Budget }) {
  const { word, tone } = state(budget);
  const kind = scopeKind(budget.scope);
  return (
    <>
      {kind !== "" && <Badge>{kind}</Badge>}
      <Badge>{PERIOD[budget.period]}</Badge>
      <Badge tone={tone}>{word}</Badge>
    </>
  );
}

/** What is spent of each limit, and what cannot be held. */
export function BudgetBody({ budget }: { budget: Budget }) {
  const { word, tone } = state(budget);
  const parked = [...records.sessions.values()].filter((session) => session.parkedBy === budget.id && living(session)).length;
  const asked = budget.promptId === "" ? undefined : records.prompts.get(budget.promptId);
  const unknown = budget.spent ? unknownWords(budget.spent) : "";
  const next = budget.period === BudgetPeriod.DAY && budget.nextPeriodAt ? moment(ms(budget.nextPeriodAt)) : "";
  const facts: ReactNode[] = [];
  if (parked > 0) facts.push(<span key="parked" className="bad">{parked === 1 ? "1 session is parked" : `${parked} sessions are parked`}</span>);
  if (word === "stopped") facts.push(<span key="stopped">a person answered that it is to stop</span>);
  else if (tone === "wait") facts.push(<span key="asked">{asked ? <>a person was asked in <Link to={`/sessions/${asked.sessionId}`}>a session</Link></> : budget.promptId !== "" ? "a person was asked" : "a person is asked in the next session that spends"}</span>);
  if (next !== "") facts.push(<span key="next">begins anew {next}</span>);
  if (unknown !== "") facts.push(<span key="unknown">not known: {unknown}</span>);
  return (
    <>
      <ul className="measures">{measures(budget).map((one) => <MeasureLine key={one.name} one={one} />)}</ul>
      {budget.warning !== "" && <p className="warn budget-warning"><b>Not all is held:</b> {budget.warning}.</p>}
      {facts.length > 0 && <p className="machine-facts dim">{facts}</p>}
    </>
  );
}

function MeasureLine({ one }: { one: Measure }) {
  return (
    <li className="measure">
      <span className="measure-name">{one.name}</span>
      <Bar one={one} />
      <span className="measure-words">
        <b>{one.words}</b>
        {one.hard > 0n ? ` of ${one.say(one.hard)}` : ` of ${one.say(one.soft)}, where a person is asked`}
        {one.hard > 0n && one.soft > 0n && <span className="dim"> asks at {one.say(one.soft)}</span>}
      </span>
    </li>
  );
}

/** What is spent, as a part of the hard limit; a line is the soft one. What is beside it in words is not said again. */
function Bar({ one }: { one: Measure }) {
  const end = [one.spent, one.hard, one.hard > 0n ? 0n : (one.soft * 5n) / 4n].reduce((most, value) => (value > most ? value : most), 1n);
  const at = (value: bigint) => Number((value * 1_000n) / end) / 10;
  const tone = one.hard > 0n && one.spent >= one.hard ? "bad" : one.soft > 0n && one.spent >= one.soft ? "wait" : "good";
  return (
    <svg className={`bar ${tone}${one.unknown ? " unknown" : ""}`} viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" focusable="false">
      <rect className="bar-all" width="100" height="8" />
      <rect className="bar-spent" width={at(one.spent)} height="8" />
      {one.soft > 0n && <rect className="bar-mark" x={Math.min(at(one.soft), 99.4)} width="0.6" height="8" />}
      {one.hard > 0n && one.spent > one.hard && <rect className="bar-mark" x={at(one.hard)} width="0.6" height="8" />}
    </svg>
  );
}
