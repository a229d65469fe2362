// One session: transcript, what it asks, its queue, and what a person can do with it.
import { toJson } from "@bufbuild/protobuf";
import { lazy, Suspense, useCallback, useEffect, useRef, useState } from "react";

import { sessions as api, terminals } from "../../api/transport";
import { PermissionMode } from "../../gen/baton/v1/common_pb";
import { type Event, EventSchema } from "../../gen/baton/v1/event_pb";
import type { Prompt } from "../../gen/baton/v1/prompt_pb";
import { Activity, Lifecycle, type Session, SessionMode } from "../../gen/baton/v1/session_pb";
import { useCell } from "../../store/cell";
import { askSession, auth, logOf, records, requestId, watch } from "../../store/world";
import { justOpened } from "../../terminal/opened";
import { Code } from "../../text/code";
import { Visible } from "../../text/hidden";
import { cost, living, MODE, MODES, moment, ms, short, tail, tokens } from "../../text/format";
import { Badge, Button, complain, CopyButton, Dialog, Empty, Loading, Menu, toast, useAction } from "../../ui/bits";
import { Icon } from "../../ui/icons";
import { go, Link, usePlace } from "../../ui/route";
import { BudgetLink } from "../budgetlink";
import { Detached, Facts } from "../facts";
import { PromptCard } from "../prompts/card";
import { Composer } from "./composer";
import { ContentView } from "./content";
import { Find } from "./find";
import { Queue } from "./queue";
import { parse } from "./toolinput";
import { Transcript, type TranscriptHandle } from "./transcript";

const TerminalPane = lazy(() => import("../terminal/pane"));

export default function SessionView({ id }: { id: string }) {
  useCell(records);
  useCell(watch);
  const session = records.sessions.get(id);
  const [, again] = useState(0);
  useEffect(() => {
    if (records.sessions.has(id)) return;
    // Older than what the tab holds, or the stream has not told of it yet.
    askSession(id).catch(() => {
      watch.missing.add(id);
      again((n) => n + 1);
    });
  }, [id]);
  if (!session) {
    if (watch.missing.has(id)) {
      return (
        <Empty title="There is no such session.">
          <p>It was deleted, or it is not yours to see. <Link to="/sessions">All sessions</Link></p>
        </Empty>
      );
    }
    return <Loading what="the session" />;
  }
  return <Open key={id} session={session} />;
}

function Open({ session }: { session: Session }) {
  const { id } = session;
  const log = logOf(id);
  const { hash } = usePlace();
  const wanted = /^\d+$/.test(hash) ? Number(hash) : 0;
  const [start] = useState(wanted);
  const [all, setAll] = useState(false);
  const [finding, setFinding] = useState(false);
  const [inspected, setInspected] = useState<Event>();
  const handle = useRef<TranscriptHandle>(null);
  const [asLog, setAsLog] = useState(false);
  const inTerminal = session.mode === SessionMode.INTERACTIVE && session.terminalId !== "" && !asLog && start === 0;
  const inspect = useCallback((event: Event) => setInspected(event), []);

  useEffect(() => {
    log.prime(start);
    watch.follow(log);
    return () => watch.follow(undefined);
  }, [log, start]);
  const last = useRef(start);
  useEffect(() => {
    if (wanted > 0 && wanted !== last.current) handle.current?.jump(wanted);
    last.current = wanted;
  }, [wanted]);

  const operator = auth.operator;
  const working = session.lifecycle === Lifecycle.RUNNING && session.activity !== Activity.AWAITING_INPUT;
  const canInterrupt = operator && working && session.capabilities?.interrupt === true;
  const interrupt = useCallback(() => {
    api.interruptTurn({ requestId: requestId(), sessionId: id }).then((answer) => records.putSession(answer.session), complain);
  }, [id]);
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      // What is typed into a terminal is its program's.
      if (event.target instanceof Element && event.target.closest(".terminal-area")) return;
      const typing = event.target instanceof HTMLElement && ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName);
      if ((event.ctrlKey || event.metaKey) && event.key === "f" && !document.querySelector("dialog[open]")) {
        event.preventDefault();
        setFinding(true);
      } else if (event.key === "/" && !typing) {
        event.preventDefault();
        setFinding(true);
      } else if (event.key === "Escape" && canInterrupt && event.target instanceof HTMLTextAreaElement && event.target.value === "") {
        interrupt();
      }
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, [canInterrupt, interrupt]);

  return (
    <div className="session">
      <Head session={session} all={all} setAll={setAll} asLog={asLog} setAsLog={setAsLog} find={() => setFinding(true)} interrupt={canInterrupt ? interrupt : undefined} />
      {inTerminal ? (
        <Suspense fallback={<Loading what="the terminal" />}>
          <TerminalPane session={session} finding={finding} setFinding={setFinding} over={<Over session={session} />} />
        </Suspense>
      ) : (
        <>
          {finding && <Find sessionId={id} jump={(seq) => handle.current?.jump(seq)} close={() => setFinding(false)} />}
          <Transcript log={log} at={start} all={all} inspect={inspect} handle={handle} />
          <Dock session={session} />
        </>
      )}
      {inspected && <Inspect event={inspected} close={() => setInspected(undefined)} />}
    </div>
  );
}

/** How long an answered prompt stays below the transcript, in ms. */
const SETTLED_MS = 4_000;

function Dock({ session }: { session: Session }) {
  useCell(records);
  const pending = records.pending(session.id);
  const [lately, setLately] = useState<readonly string[]>([]);
  const known = useRef<readonly string[]>([]);
  // What was just answered stays a moment, so that its outcome is seen and no other card comes under the finger.
  const ids = pending.map((prompt) => prompt.id).join();
  useEffect(() => {
    const now = ids === "" ? [] : ids.split(",");
    const gone = known.current.filter((id) => !now.includes(id));
    known.current = now;
    if (gone.length === 0) return;
    setLately((list) => [...list, ...gone]);
    setTimeout(() => setLately((list) => list.filter((id) => !gone.includes(id))), SETTLED_MS);
  }, [ids]);
  const settled: Prompt[] = lately.flatMap((id) => records.prompts.get(id) ?? []).filter((prompt) => !pending.includes(prompt));
  const alive = living(session) && session.lifecycle !== Lifecycle.SUSPENDED;
  return (
    <div className="dock">
      {(pending.length > 0 || settled.length > 0) && (
        <section className="dock-prompts" aria-label="Waits for you" aria-live="polite">
          {[...settled, ...pending].map((prompt) => (
            <PromptCard key={prompt.id} prompt={prompt} keys={prompt.id === pending[0]?.id} />
          ))}
        </section>
      )}
      {session.parkedBy !== "" && alive && (
        <p className="parked" role="note">
          Parked by <BudgetLink id={session.parkedBy} />: new inputs are refused until it is raised{session.queuedInputs > 0 ? "; what waits goes on then" : ""}.
        </p>
      )}
      <Queue session={session} may={auth.operator} />
      {alive ? auth.operator && session.lifecycle !== Lifecycle.STOPPING && session.mode !== SessionMode.INTERACTIVE && <Composer session={session} /> : <Over session={session} />}
    </div>
  );
}

/** What can be done with a session that is over. */
function Over({ session }: { session: Session }) {
  const [busy, run] = useAction();
  if (session.resumedBy) {
    return <p className="over">Continued in <Link to={`/sessions/${session.resumedBy}`}>session {short(session.resumedBy)}</Link>.</p>;
  }
  if (!auth.operator) return null;
  const resume = (force: boolean) =>
    run(async () => {
      const answer = await api.resumeSession({ requestId: requestId(), sessionId: session.id, force });
      records.putSession(answer.session);
      if (answer.session) go(`/sessions/${answer.session.id}`);
    });
  return (
    <div className="over">
      {session.resumable ? (
        <>
          <span className="dim">The conversation can go on.</span>
          <Button kind="primary" busy={busy} onClick={() => resume(false)}>Resume</Button>
        </>
      ) : session.capabilities?.resume && session.providerSessionId ? (
        <>
          <span className="dim">Its process may still run somewhere.</span>
          <Button busy={busy} onClick={() => resume(true)}>Give it up and resume</Button>
        </>
      ) : (
        <span className="dim">This session is over.</span>
      )}
      {session.mode === SessionMode.INTERACTIVE && <Button kind={session.resumable ? "plain" : "primary"} busy={busy} onClick={() => run(() => openAgain(session))}>Open again</Button>}
    </div>
  );
}

/** Another terminal with the same program. */
async function openAgain(session: Session): Promise<void> {
  const { harness, cwd, argv, daemonId, model, permissionMode, title, labels } = session;
  const { terminal } = await terminals.openTerminal({ requestId: requestId(), harness, cwd, argv, daemonId, model, permissionMode, title, labels });
  if (terminal) justOpened(terminal.id);
  records.putSession(terminal?.session);
  if (terminal?.session) go(`/sessions/${terminal.session.id}`);
}

interface HeadProps {
  session: Session;
  all: boolean;
  setAll: (all: boolean) => void;
  asLog: boolean;
  setAsLog: (asLog: boolean) => void;
  find: () => void;
  interrupt: (() => void) | undefined;
}

function Head({ session, all, setAll, asLog, setAsLog, find, interrupt }: HeadProps) {
  const [busy, run] = useAction();
  const [asking, setAsking] = useState<"" | "end" | "delete">("");
  const daemon = records.daemons.get(session.daemonId);
  const alive = living(session);
  const operator = auth.operator;
  const { id, capabilities } = session;
  const facts = [tokens(session.usage), cost(session.usage), session.turns > 0 ? `${session.turns} turns` : ""].filter(Boolean).join(" · ");
  const fork = () =>
    run(async () => {
      const answer = await api.forkSession({ requestId: requestId(), sessionId: id });
      records.putSession(answer.session);
      if (answer.session) go(`/sessions/${answer.session.id}`);
    });
  const end = (force: boolean) =>
    run(async () => {
      setAsking("");
      records.putSession((await api.endSession({ requestId: requestId(), sessionId: id, force })).session);
    });
  return (
    <header className="session-head">
      <Link to="/sessions" className="back" label="All sessions"><Icon name="back" /></Link>
      <div className="session-title">
        <h1><Visible text={session.title || short(id)} /></h1>
        <p className="dim session-sub">
          <span>{session.harness}</span>
          <span>{daemon?.name ?? short(session.daemonId)}</span>
          <span className="path clip" title={session.cwd}>{tail(session.cwd)}</span>
          {facts && <span>{facts}</span>}
        </p>
      </div>
      <div className="session-facts">
        <Facts session={session} />
        {session.parkedBy !== "" && alive && <span className="badge bad" title="Its inputs wait until the budget is raised">parked by <BudgetLink id={session.parkedBy} /></span>}
      </div>
      <div className="session-controls">
        {alive && operator && <Options session={session} />}
        {interrupt && <Button icon="stop" onClick={interrupt} title="Interrupt the turn (Escape in the empty input)">Interrupt</Button>}
        {alive && operator && session.lifecycle !== Lifecycle.STOPPING && <Button kind="quiet" disabled={busy} onClick={() => setAsking("end")}>End…</Button>}
        <Button icon="search" label="Find" kind="quiet" onClick={find} />
        <Menu label="More" icon="more">
          {(close) => (
            <>
              <label className="check"><input type="checkbox" checked={all} onChange={(event) => (setAll(event.target.checked), close())} /> Show every event</label>
              {session.mode === SessionMode.INTERACTIVE && <label className="check"><input type="checkbox" checked={asLog} onChange={(event) => (setAsLog(event.target.checked), close())} /> The log instead of the terminal</label>}
              {operator && capabilities?.fork && session.providerSessionId && <Button kind="quiet" onClick={() => (close(), fork())}>Branch off</Button>}
              {operator && session.lifecycle === Lifecycle.RUNNING && capabilities?.resume && (
                <Button kind="quiet" onClick={() => (close(), run(async () => records.putSession((await api.suspendSession({ requestId: requestId(), sessionId: id })).session)))}>
                  Suspend
                </Button>
              )}
              {operator && !alive && <Button kind="quiet" onClick={() => (close(), setAsking("delete"))}>Delete…</Button>}
              <dl className="facts">
                <div><dt>id</dt><dd className="mono">{id} <CopyButton text={id} label="Copy the id" /></dd></div>
                <div><dt>created</dt><dd>{moment(ms(session.createdAt))}{session.createdBy?.name && ` by ${session.createdBy.name}`}</dd></div>
                {session.startedAt && <div><dt>started</dt><dd>{moment(ms(session.startedAt))}</dd></div>}
                {session.endedAt && <div><dt>ended</dt><dd>{moment(ms(session.endedAt))}</dd></div>}
                <div><dt>events</dt><dd>{String(session.headSeq)}</dd></div>
                {session.resumedFrom && <div><dt>continues</dt><dd><Link to={`/sessions/${session.resumedFrom}`}>{short(session.resumedFrom)}</Link></dd></div>}
                {session.forkedFrom && <div><dt>branched off</dt><dd><Link to={`/sessions/${session.forkedFrom}`}>{short(session.forkedFrom)}</Link></dd></div>}
              </dl>
            </>
          )}
        </Menu>
      </div>
      {asking === "end" && (
        <Dialog title="End this session?" close={() => setAsking("")}>
          <p>The agent&apos;s process ends. {capabilities?.resume ? "The conversation can be resumed later." : "It cannot be resumed."}</p>
          <div className="buttons">
            <Button kind="danger" onClick={() => end(false)}>End it</Button>
            <Button onClick={() => end(true)} title="Skips the polite part">By force</Button>
            <Button kind="quiet" onClick={() => setAsking("")}>Back</Button>
          </div>
        </Dialog>
      )}
      {asking === "delete" && (
        <Dialog title="Delete this session?" close={() => setAsking("")}>
          <p>The session and its whole log are deleted for everybody. This cannot be undone.</p>
          <div className="buttons">
            <Button
              kind="danger"
              busy={busy}
              onClick={() =>
                run(async () => {
                  await api.deleteSession({ sessionId: id });
                  records.forget(id);
                  toast("Deleted.");
                  go("/sessions", true);
                })
              }
            >
              Delete it
            </Button>
            <Button kind="quiet" onClick={() => setAsking("")}>Back</Button>
          </div>
        </Dialog>
      )}
    </header>
  );
}

/** Model and permission mode, where the harness lets them be changed. */
function Options({ session }: { session: Session }) {
  const [busy, run] = useAction();
  const daemon = records.daemons.get(session.daemonId);
  const offered = daemon?.harnesses.find((harness) => harness.name === session.harness)?.models ?? [];
  const models = [...new Set([session.model, ...offered])].filter(Boolean);
  const running = session.lifecycle === Lifecycle.RUNNING;
  const most = daemon?.maxPermissionMode ?? PermissionMode.UNSPECIFIED;
  const modes = MODES.filter(({ mode }) => mode === session.permissionMode || most === PermissionMode.UNSPECIFIED || rank(mode) <= rank(most));
  return (
    <>
      {session.capabilities?.modelSwitch && running && (
        <ModelSwitch
          session={session}
          models={models}
          busy={busy}
          set={(model) => run(async () => records.putSession((await api.setSessionOptions({ requestId: requestId(), sessionId: session.id, model })).session))}
        />
      )}
      {session.capabilities?.modeSwitch && running ? (
        <select
          aria-label="Permission mode"
          title={MODES.find(({ mode }) => mode === session.permissionMode)?.says}
          value={session.permissionMode}
          disabled={busy}
          onChange={(event) => {
            const permissionMode = Number(event.target.value) as PermissionMode;
            run(async () => records.putSession((await api.setSessionOptions({ requestId: requestId(), sessionId: session.id, permissionMode })).session));
          }}
        >
          {modes.map(({ mode, says }) => (
            <option key={mode} value={mode} title={says}>{MODE[mode]}</option>
          ))}
        </select>
      ) : (
        // A plain program in a terminal asks nobody.
        !(session.harness === "command" && session.mode === SessionMode.INTERACTIVE) && <Badge title="permission mode">{MODE[session.permissionMode]}</Badge>
      )}
      <Detached session={session} />
    </>
  );
}

function ModelSwitch({ session, models, busy, set }: { session: Session; models: string[]; busy: boolean; set: (model: string) => void }) {
  const [other, setOther] = useState(false);
  const [name, setName] = useState("");
  return (
    <>
      <select
        aria-label="Model"
        value={session.model}
        disabled={busy}
        onChange={(event) => {
          if (event.target.value === "…") setOther(true);
          else set(event.target.value);
        }}
      >
        <option value="">default model</option>
        {models.map((model) => (
          <option key={model} value={model}>{model}</option>
        ))}
        <option value="…">another…</option>
      </select>
      {other && (
        <Dialog title="Another model" close={() => setOther(false)}>
          <form
            className="inline-form"
            onSubmit={(event) => {
              event.preventDefault();
              setOther(false);
              if (name.trim()) set(name.trim());
            }}
          >
            <input autoFocus aria-label="Model" className="mono" value={name} onChange={(event) => setName(event.target.value)} />
            <Button submit kind="primary">Switch</Button>
          </form>
        </Dialog>
      )}
    </>
  );
}

/** From the strictest mode to the freest. */
export function rank(mode: PermissionMode): number {
  return [PermissionMode.DENY, PermissionMode.ASK, PermissionMode.AUTO_SAFE, PermissionMode.AUTO].indexOf(mode);
}

function Inspect({ event, close }: { event: Event; close: () => void }) {
  const address = `${location.origin}/sessions/${event.sessionId}#${event.seq}`;
  const whole = toJson(EventSchema, event) as Record<string, unknown>;
  const raw = event.raw ? parse(event.raw.text) : undefined;
  if (raw !== undefined) delete whole.raw;
  return (
    <Dialog title={`Event ${event.seq}`} close={close} wide>
      <p className="dim">
        {moment(ms(event.time))} · <Link to={`/sessions/${event.sessionId}#${event.seq}`}>link</Link> <CopyButton text={address} label="Copy the link" />
      </p>
      <Code text={JSON.stringify(whole, null, 2)} language="json" />
      {raw !== undefined && (
        <>
          <h3>As the agent wrote it</h3>
          <Code text={typeof raw === "string" ? raw : JSON.stringify(raw, null, 2)} language="json" />
        </>
      )}
      {event.rawContent && (
        <>
          <h3>As the agent wrote it</h3>
          <ContentView sessionId={event.sessionId} content={event.rawContent} />
        </>
      )}
    </Dialog>
  );
}
