// All sessions: what waits for a person first, then what lives, then what is over.
import { useEffect, useState } from "react";

import { problem } from "../api/problem";
import { events } from "../api/transport";
import type { SearchHit } from "../gen/baton/v1/event_pb";
import type { Session } from "../gen/baton/v1/session_pb";
import { useCell } from "../store/cell";
import { auth, records } from "../store/world";
import { Visible } from "../text/hidden";
import { cost, living, ms, short, tail } from "../text/format";
import { Ago, Button, Empty, Loading } from "../ui/bits";
import { go, Link } from "../ui/route";
import { BudgetLink } from "./budgetlink";
import { Detached, State } from "./facts";
import { Snippet } from "./snippet";
import { Told } from "./told";

/** Ended sessions shown before a person asks for more. */
const ENDED_STEP = 50;

export function Sessions() {
  useCell(records);
  const [words, setWords] = useState("");
  const [filter, setFilter] = useState<"all" | "living" | "ended">("all");
  const [machine, setMachine] = useState("");
  const [harness, setHarness] = useState("");
  const [most, setMost] = useState(ENDED_STEP);
  const all = [...records.sessions.values()];
  const needle = words.trim().toLowerCase();
  const fits = all.filter(
    (session) =>
      (filter === "all" || living(session) === (filter === "living")) &&
      (machine === "" || session.daemonId === machine) &&
      (harness === "" || session.harness === harness) &&
      (needle === "" || [session.title, session.cwd, session.id, session.harness, ...Object.values(session.labels)].some((text) => text.toLowerCase().includes(needle))),
  );
  const latest = (a: Session, b: Session) => ms(b.lastEventAt ?? b.createdAt) - ms(a.lastEventAt ?? a.createdAt);
  const waiting = fits.filter((session) => living(session) && session.pendingPrompts > 0).sort(latest);
  const alive = fits.filter((session) => living(session) && session.pendingPrompts === 0).sort(latest);
  const ended = fits.filter((session) => !living(session)).sort(latest);
  const harnesses = [...new Set(all.map((session) => session.harness))].sort();
  const machines = [...records.daemons.values()];
  const filtered = needle !== "" || filter !== "all" || machine !== "" || harness !== "";

  return (
    <div className="page">
      <header className="page-head">
        <h1>Sessions</h1>
        <span className="spacer" />
        {auth.operator && <Button kind="primary" icon="plus" onClick={() => go("/new")}>New session</Button>}
      </header>
      <div className="filters" role="search">
        <input type="search" aria-label="Search sessions and transcripts" placeholder="Search sessions and transcripts" value={words} onChange={(event) => setWords(event.target.value)} />
        <select aria-label="Which sessions" value={filter} onChange={(event) => setFilter(event.target.value as typeof filter)}>
          <option value="all">all</option>
          <option value="living">living</option>
          <option value="ended">ended</option>
        </select>
        {machines.length > 1 && (
          <select aria-label="Machine" value={machine} onChange={(event) => setMachine(event.target.value)}>
            <option value="">all machines</option>
            {machines.map((daemon) => (
              <option key={daemon.id} value={daemon.id}>{daemon.name}</option>
            ))}
          </select>
        )}
        {harnesses.length > 1 && (
          <select aria-label="Kind of agent" value={harness} onChange={(event) => setHarness(event.target.value)}>
            <option value="">all agents</option>
            {harnesses.map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        )}
      </div>
      {!records.complete ? (
        <Loading what="sessions" />
      ) : all.length === 0 ? (
        <Welcome />
      ) : (
        <>
          <Group title="Waits for you" sessions={waiting} />
          <Group title="Living" sessions={alive} />
          <Group title="Ended" sessions={ended.slice(0, most)} />
          {ended.length > most && <Button onClick={() => setMost(most + ENDED_STEP)}>{ended.length - most} more</Button>}
          {fits.length === 0 && filtered && needle === "" && <Empty title="No session fits the filter." />}
          {needle !== "" && <Hits words={needle} />}
        </>
      )}
    </div>
  );
}

function Welcome() {
  const linked = [...records.daemons.values()].some((daemon) => daemon.attached);
  return (
    <Empty title="No sessions yet.">
      {linked ? (
        <>
          <p>Start an agent on one of your machines. The demo agent needs no account.</p>
          {auth.operator && <Button kind="primary" icon="plus" onClick={() => go("/new")}>New session</Button>}
        </>
      ) : (
        <p>No machine is linked. <Link to="/machines">Add one</Link>, or run <code>baton up</code>.</p>
      )}
    </Empty>
  );
}

function Group({ title, sessions }: { title: string; sessions: Session[] }) {
  if (sessions.length === 0) return null;
  return (
    <section>
      <h2>{title} <span className="dim">{sessions.length}</span></h2>
      <ul className="session-list">
        {sessions.map((session) => (
          <Line key={session.id} session={session} />
        ))}
      </ul>
    </section>
  );
}

function Line({ session }: { session: Session }) {
  const daemon = records.daemons.get(session.daemonId);
  const prompt = records.pending(session.id)[0];
  return (
    <li>
      <Link to={`/sessions/${session.id}`} className="session-line">
        <span className="line-title"><Visible text={session.title || short(session.id)} /></span>
        <span className="line-state"><State session={session} /> <Detached session={session} /></span>
        <span className="line-where dim">
          <span>{session.harness}</span>
          <span>{daemon?.name ?? short(session.daemonId)}</span>
          <span className="path clip" title={session.cwd}>{tail(session.cwd)}</span>
        </span>
        <span className="line-facts dim">
          {session.queuedInputs > 0 && <span>{session.queuedInputs} queued</span>}
          {cost(session.usage) && <span>{cost(session.usage)}</span>}
          <Ago at={ms(session.lastEventAt ?? session.createdAt)} />
        </span>
        {prompt && <span className="line-prompt">{prompt.budgetId === "" ? prompt.summary : <Told text={prompt.summary} plain />}</span>}
      </Link>
      {session.parkedBy !== "" && living(session) && <p className="line-parked">Parked by <BudgetLink id={session.parkedBy} /></p>}
    </li>
  );
}

/** Hits in the transcripts of all sessions. */
function Hits({ words }: { words: string }) {
  const [found, setFound] = useState<{ words: string; hits: SearchHit[]; failure: string }>();
  useEffect(() => {
    const abort = new AbortController();
    const timer = setTimeout(() => {
      const open = /[\p{L}\p{N}]$/u.test(words) && !words.includes('"') ? `${words}*` : words;
      events.searchEvents({ query: open, pageSize: 50 }, { signal: abort.signal }).then(
        (answer) => setFound({ words, hits: answer.hits, failure: "" }),
        (thrown: unknown) => {
          if (!abort.signal.aborted) setFound({ words, hits: [], failure: problem(thrown).message });
        },
      );
    }, 250);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [words]);
  if (!found) return <Loading what="transcripts" />;
  return (
    <section>
      <h2>In transcripts <span className="dim">{found.hits.length}{found.hits.length === 50 ? "+" : ""}</span></h2>
      {found.failure && <p className="bad">{found.failure}</p>}
      {found.hits.length === 0 && !found.failure && <p className="dim">Nothing.</p>}
      <ul className="session-list">
        {found.hits.map((hit) => (
          <li key={`${hit.sessionId}/${hit.seq}`}>
            <Link to={`/sessions/${hit.sessionId}#${hit.seq}`} className="session-line hit">
              <span className="line-title">{records.sessions.get(hit.sessionId)?.title ?? short(hit.sessionId)}</span>
              <span className="line-facts dim"><Ago at={ms(hit.time)} /></span>
              <span className="line-snippet"><Snippet text={hit.snippet} /></span>
            </Link>
          </li>
        ))}
      </ul>
    </section>
  );
}
