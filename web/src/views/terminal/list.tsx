// All terminals, and how another one is opened.
import { type FormEvent, useEffect, useId, useState } from "react";

import { problem } from "../../api/problem";
import { terminals as api } from "../../api/transport";
import { PermissionMode } from "../../gen/baton/v1/common_pb";
import type { Daemon } from "../../gen/baton/v1/daemon_pb";
import { type Session, SessionMode } from "../../gen/baton/v1/session_pb";
import { type Terminal, TerminalSizePolicy } from "../../gen/baton/v1/terminal_pb";
import { useCell } from "../../store/cell";
import { auth, records, requestId } from "../../store/world";
import { justOpened } from "../../terminal/opened";
import { living, MODE, MODES, ms, short, tail } from "../../text/format";
import { Visible } from "../../text/hidden";
import { Ago, Button, Dialog, Empty, Field, Loading } from "../../ui/bits";
import { go, Link } from "../../ui/route";
import { Detached, State } from "../facts";
import { argv, Picker } from "../new";
import { rank } from "../session/index";
import { endShort } from "./words";

/** Ended ones shown before a person asks for more. */
const ENDED_STEP = 20;
/** How often sizes and viewers are asked for, in ms. */
const LOOK_MS = 5_000;

/** What the stream of records does not tell: sizes, and how many look. */
function useTerminals(): ReadonlyMap<string, Terminal> {
  const [known, setKnown] = useState<ReadonlyMap<string, Terminal>>(new Map());
  useEffect(() => {
    let left = false;
    const look = () => {
      if (document.visibilityState !== "visible") return;
      api.listTerminals({ living: true, pageSize: 200 }).then(
        ({ terminals }) => {
          if (!left) setKnown(new Map(terminals.map((terminal) => [terminal.id, terminal])));
        },
        // The lines are there without it.
        () => undefined,
      );
    };
    look();
    const timer = setInterval(look, LOOK_MS);
    return () => {
      left = true;
      clearInterval(timer);
    };
  }, []);
  return known;
}

export default function Terminals() {
  useCell(records);
  const known = useTerminals();
  const [opening, setOpening] = useState(false);
  const [most, setMost] = useState(ENDED_STEP);
  const all = [...records.sessions.values()].filter((session) => session.mode === SessionMode.INTERACTIVE);
  const latest = (a: Session, b: Session) => ms(b.createdAt) - ms(a.createdAt);
  const alive = all.filter(living).sort(latest);
  const ended = all.filter((session) => !living(session)).sort(latest);
  return (
    <div className="page">
      <header className="page-head">
        <h1>Terminals</h1>
        <span className="spacer" />
        {auth.operator && <Button kind="primary" icon="plus" onClick={() => setOpening(true)}>Open a terminal</Button>}
      </header>
      {!records.complete ? (
        <Loading what="terminals" />
      ) : all.length === 0 ? (
        <Empty title="No terminals yet.">
          <p>A shell, a program, or an agent as people use it, on one of your machines: here, and in <code>baton attach</code> at once.</p>
          {auth.operator && <Button kind="primary" icon="plus" onClick={() => setOpening(true)}>Open a terminal</Button>}
        </Empty>
      ) : (
        <>
          <Group title="Running" sessions={alive} known={known} />
          <Group title="Ended" sessions={ended.slice(0, most)} known={known} />
          {ended.length > most && <Button onClick={() => setMost(most + ENDED_STEP)}>{ended.length - most} more</Button>}
        </>
      )}
      {opening && <Open close={() => setOpening(false)} />}
    </div>
  );
}

function Group({ title, sessions, known }: { title: string; sessions: Session[]; known: ReadonlyMap<string, Terminal> }) {
  if (sessions.length === 0) return null;
  return (
    <section>
      <h2>{title} <span className="dim">{sessions.length}</span></h2>
      <ul className="session-list" aria-label={title}>
        {sessions.map((session) => (
          <Line key={session.id} session={session} terminal={known.get(session.terminalId)} />
        ))}
      </ul>
    </section>
  );
}

function Line({ session, terminal }: { session: Session; terminal: Terminal | undefined }) {
  const daemon = records.daemons.get(session.daemonId);
  const program = session.harness === "command" ? (session.argv.length > 0 ? session.argv.join(" ") : "shell") : session.harness;
  const { size, viewers = 0 } = terminal ?? {};
  return (
    <li>
      <Link to={`/sessions/${session.id}`} className="session-line">
        <span className="line-title"><Visible text={session.title || short(session.id)} /></span>
        <span className="line-state">{living(session) ? <State session={session} /> : <span className="state-word">{endShort(session.end)}</span>} <Detached session={session} /></span>
        <span className="line-where dim">
          {program !== session.title && <span className="mono clip" title={program}><Visible text={program} /></span>}
          <span>{daemon?.name ?? short(session.daemonId)}</span>
          <span className="path clip" title={session.cwd}>{tail(session.cwd)}</span>
        </span>
        <span className="line-facts dim">
          {size && <span>{size.cols}×{size.rows}</span>}
          {terminal && <span>{viewers === 0 ? "nobody looks" : viewers === 1 ? "1 viewer" : `${viewers} viewers`}</span>}
          <Ago at={ms(session.createdAt)} />
        </span>
      </Link>
    </li>
  );
}

/** The harnesses of a machine that run in a terminal. */
function offered(daemon: Daemon | undefined): Daemon["harnesses"] {
  return daemon?.harnesses.filter((one) => one.capabilities?.terminal === true) ?? [];
}

type Kind = "shell" | "program" | (string & {});

function Open({ close }: { close: () => void }) {
  useCell(records);
  const machines = [...records.daemons.values()].sort((a, b) => Number(b.attached) - Number(a.attached) || a.name.localeCompare(b.name));
  const first = machines.find((daemon) => daemon.attached && !daemon.draining);
  const [daemonId, setDaemonId] = useState(first?.id ?? "");
  const daemon = records.daemons.get(daemonId);
  const [kind, setKind] = useState<Kind>("shell");
  const [program, setProgram] = useState("");
  const [cwd, setCwd] = useState(first?.roots[0] ?? "");
  const [title, setTitle] = useState("");
  const [mode, setMode] = useState(PermissionMode.ASK);
  const [policy, setPolicy] = useState(TerminalSizePolicy.SMALLEST);
  const [picking, setPicking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const [request, setRequest] = useState(requestId);
  const name = useId();
  const harnesses = offered(daemon);
  const plain = harnesses.find((one) => one.name === "command");
  const agents = harnesses.filter((one) => one.name !== "command");
  const isPlain = kind === "shell" || kind === "program";
  const chosen = isPlain ? plain : agents.find((one) => one.name === kind);
  const most = daemon?.maxPermissionMode ?? PermissionMode.UNSPECIFIED;
  if (!first) {
    return (
      <Dialog title="Open a terminal" close={close}>
        <p>No machine is linked. <Link to="/machines">Add a machine</Link>, or run <code>baton up</code> on this one.</p>
      </Dialog>
    );
  }
  const open = (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setFailure("");
    api
      .openTerminal({
        requestId: request,
        harness: isPlain ? "command" : kind,
        argv: kind === "program" ? argv(program) : [],
        cwd,
        daemonId,
        title,
        permissionMode: mode,
        sizePolicy: policy,
      })
      .then(
        ({ terminal }) => {
          if (!terminal?.session) return;
          justOpened(terminal.id);
          records.putSession(terminal.session);
          go(`/sessions/${terminal.session.id}`);
        },
        (thrown: unknown) => {
          const found = problem(thrown);
          if (!found.maybeDone) setRequest(requestId());
          setFailure(found.message);
          setBusy(false);
        },
      );
  };
  const choice = (value: Kind, label: string, says: string, one: Daemon["harnesses"][number] | undefined) => {
    const off = one?.available !== true;
    return (
      <label key={value} className={`option${kind === value ? " chosen" : ""}${off ? " off" : ""}`}>
        <input type="radio" name={name} checked={kind === value} disabled={off} onChange={() => setKind(value)} />
        <span><b>{label}</b> <span className="dim">{off ? (one?.unavailableReason ?? "") || "not offered by this machine" : says}</span></span>
      </label>
    );
  };
  return (
    <Dialog title="Open a terminal" close={close} wide>
      <form className="new" onSubmit={open}>
        <Field label="Machine">
          {(id) => (
            <select
              id={id}
              value={daemonId}
              onChange={(event) => {
                setDaemonId(event.target.value);
                setCwd(records.daemons.get(event.target.value)?.roots[0] ?? "");
              }}
            >
              {machines.map((one) => (
                <option key={one.id} value={one.id} disabled={!one.attached || one.draining}>
                  {one.name}{!one.attached ? " (away)" : one.draining ? " (draining)" : ""}
                </option>
              ))}
            </select>
          )}
        </Field>
        <fieldset className="harnesses">
          <legend>Program</legend>
          {choice("shell", "Shell", "the machine's own", plain)}
          {choice("program", "A program", "with its arguments", plain)}
          {agents.map((one) => choice(one.name, one.name, `${one.version} as people use it at their own keyboard`, one))}
        </fieldset>
        {kind === "program" && (
          <Field label="Program and arguments" hint="Quotes keep words together. No shell reads it.">
            {(id) => <input id={id} className="mono" autoFocus required value={program} placeholder="htop" onChange={(event) => setProgram(event.target.value)} />}
          </Field>
        )}
        <Field label="Directory" hint={daemon && daemon.roots.length > 0 ? `Beneath ${daemon.roots.join(" or ")}` : ""}>
          {(id) => (
            <div className="with-button">
              <input id={id} className="mono" value={cwd} placeholder="the machine's default" onChange={(event) => setCwd(event.target.value)} />
              <Button icon="folder" onClick={() => setPicking(true)}>Browse</Button>
            </div>
          )}
        </Field>
        <details>
          <summary>Title, size{!isPlain && ", permissions"}</summary>
          <Field label="Title" hint="Empty: made from the program.">
            {(id) => <input id={id} value={title} maxLength={200} onChange={(event) => setTitle(event.target.value)} />}
          </Field>
          <Field label="Whose size holds" hint="Several may look at it in windows of different sizes.">
            {(id) => (
              <select id={id} value={policy} onChange={(event) => setPolicy(Number(event.target.value))}>
                <option value={TerminalSizePolicy.SMALLEST}>the smallest view&apos;s: everybody sees everything</option>
                <option value={TerminalSizePolicy.TYPIST}>that of who typed last</option>
              </select>
            )}
          </Field>
          {!isPlain && (
            <Field label="Permissions" hint={MODES.find((one) => one.mode === mode)?.says}>
              {(id) => (
                <select id={id} value={mode} onChange={(event) => setMode(Number(event.target.value))}>
                  {MODES.map(({ mode: one }) => (
                    <option key={one} value={one} disabled={most !== PermissionMode.UNSPECIFIED && rank(one) > rank(most)}>{MODE[one]}</option>
                  ))}
                </select>
              )}
            </Field>
          )}
        </details>
        {failure && <p className="bad" role="alert">{failure}</p>}
        <div className="buttons">
          <Button submit kind="primary" busy={busy} disabled={chosen?.available !== true}>Open</Button>
          <Button kind="quiet" onClick={close}>Cancel</Button>
        </div>
      </form>
      {picking && daemon && <Picker daemon={daemon} start={cwd} pick={(path) => (setCwd(path), setPicking(false))} close={() => setPicking(false)} />}
    </Dialog>
  );
}
