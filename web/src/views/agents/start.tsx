// Starting an agent, going on with an earlier conversation of it, and stopping it.
import { useState } from "react";

import { agents as api } from "../../api/transport";
import type { Agent } from "../../gen/baton/v1/agent_pb";
import { type Session, SessionMode } from "../../gen/baton/v1/session_pb";
import { type Worktree, WorktreeState } from "../../gen/baton/v1/worktree_pb";
import { useCell } from "../../store/cell";
import { records } from "../../store/world";
import { moment, ms, short, tail, word } from "../../text/format";
import { Button, Dialog, Field, Refused, toast, useAttempt } from "../../ui/bits";
import { go } from "../../ui/route";
import { nameOf } from "./words";

/** Machines on which the agent may run. */
function machines(agent: Agent) {
  const settings = agent.settings;
  return [...records.daemons.values()].filter(
    (daemon) =>
      settings !== undefined &&
      (settings.daemonId === "" || settings.daemonId === daemon.id) &&
      Object.entries(settings.selector).every(([name, value]) => daemon.labels[name] === value),
  );
}

function harnessOf(agent: Agent) {
  const all = machines(agent).flatMap((daemon) => daemon.harnesses.filter(({ name }) => name === agent.settings?.harness));
  return all.find(({ available }) => available) ?? all[0];
}

/** Whether its program can run in a terminal. */
export function canBeInteractive(agent: Agent): boolean {
  return harnessOf(agent)?.capabilities?.terminal === true;
}

function trees(agent: Agent): Worktree[] {
  const where = new Set(machines(agent).map(({ id }) => id));
  const mine = (tree: Worktree) => tree.agentName.toLowerCase() === nameOf(agent).toLowerCase();
  return [...records.worktrees.values()]
    .filter((tree) => tree.state === WorktreeState.ACTIVE && where.has(tree.daemonId))
    .sort((a, b) => Number(mine(b)) - Number(mine(a)) || ms(b.createdAt) - ms(a.createdAt));
}

/** What else can be done when a start was refused. */
function Instead({ reason, session, force, busy }: { reason: string; session: string; force: () => void; busy: boolean }) {
  if (reason === "SESSION_EXISTS" && session !== "") {
    return <Button kind="primary" onClick={() => go(`/sessions/${session}`)}>Go to its session</Button>;
  }
  if (reason !== "INVALID_STATE") return null;
  return (
    <>
      <p>If the process of its lost session is found after all, it is ended.</p>
      <Button kind="danger" busy={busy} onClick={force}>Give the lost session up, and start</Button>
    </>
  );
}

function open(session: Session | undefined): void {
  records.putSession(session);
  if (session) go(`/sessions/${session.id}`);
}

export function StartDialog({ agent, close }: { agent: Agent; close: () => void }) {
  useCell(records);
  const [input, setInput] = useState("");
  const [cwd, setCwd] = useState("");
  const [mode, setMode] = useState(SessionMode.UNSPECIFIED);
  const { busy, refused, run } = useAttempt();
  const settings = agent.settings;
  const places = trees(agent);
  const terminal = canBeInteractive(agent);
  const interactive = (mode === SessionMode.UNSPECIFIED ? settings?.mode : mode) === SessionMode.INTERACTIVE;
  const start = (force: boolean) =>
    run(async (requestId) => {
      const { session } = await api.startAgent({ requestId, agentId: agent.id, input: interactive ? "" : input, cwd, mode, force });
      close();
      open(session);
    });
  return (
    <Dialog title={`Start ${nameOf(agent)}`} close={close}>
      <form
        className="new"
        onSubmit={(event) => {
          event.preventDefault();
          start(false);
        }}
      >
        {interactive ? (
          <p className="dim">It runs in a terminal; you type there.</p>
        ) : (
          <Field label="What to do" hint="May be empty: it waits for an input then.">
            {(id) => (
              <textarea
                id={id}
                rows={4}
                autoFocus
                value={input}
                onChange={(event) => setInput(event.target.value)}
                onKeyDown={(event) => {
                  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit();
                }}
              />
            )}
          </Field>
        )}
        {places.length > 0 && (
          <Field label="Worktree">
            {(id) => (
              <select id={id} value={places.some((tree) => tree.place?.path === cwd) ? cwd : ""} onChange={(event) => setCwd(event.target.value)}>
                <option value="">none: its own directory</option>
                {places.map((tree) => (
                  <option key={tree.id} value={tree.place?.path ?? ""}>{tail(tree.place?.path ?? "")} ({tree.place?.branch})</option>
                ))}
              </select>
            )}
          </Field>
        )}
        <Field label="Directory">
          {(id) => <input id={id} className="mono" value={cwd} placeholder={settings?.directory || "the machine's default"} onChange={(event) => setCwd(event.target.value)} />}
        </Field>
        {terminal && (
          <Field label="Runs">
            {(id) => (
              <select id={id} value={mode} onChange={(event) => setMode(Number(event.target.value))}>
                <option value={SessionMode.UNSPECIFIED}>as it is set: {settings?.mode === SessionMode.INTERACTIVE ? "in a terminal" : "without a terminal"}</option>
                <option value={SessionMode.HEADLESS}>without a terminal</option>
                <option value={SessionMode.INTERACTIVE}>in a terminal</option>
              </select>
            )}
          </Field>
        )}
        <Refused by={refused}>
          <Instead reason={refused?.reason ?? ""} session={refused?.details.get("existing_session") ?? ""} force={() => start(true)} busy={busy} />
        </Refused>
        <div className="buttons">
          <Button submit kind="primary" busy={busy}>Start</Button>
          <Button kind="quiet" onClick={close}>Back</Button>
        </div>
      </form>
    </Dialog>
  );
}

export function ResumeDialog({ agent, sessions, first, close }: { agent: Agent; sessions: Session[]; first: string; close: () => void }) {
  const [input, setInput] = useState("");
  const [session, setSession] = useState(first);
  const { busy, refused, run } = useAttempt();
  const [check, setCheck] = useState(true);
  const choices = sessions.filter(({ resumable }) => resumable);
  const resume = (force: boolean) =>
    run(async (requestId) => {
      const answer = await api.resumeAgent({ requestId, agentId: agent.id, sessionId: session, input, checkReadyQueue: check, force });
      const [first] = answer.readyCheck?.tasks ?? [];
      if (answer.readyCheck?.processFirst && first) toast(`It begins with “${first.title}”.`);
      close();
      open(answer.session);
    });
  return (
    <Dialog title={`Go on with ${nameOf(agent)}`} close={close}>
      <form
        className="new"
        onSubmit={(event) => {
          event.preventDefault();
          resume(false);
        }}
      >
        <Field label="Conversation">
          {(id) => (
            <select id={id} value={session} onChange={(event) => setSession(event.target.value)}>
              <option value="">the newest that can be continued</option>
              {choices.map((one) => (
                <option key={one.id} value={one.id}>{one.title || short(one.id)}, {moment(ms(one.createdAt))}, {word(one)}</option>
              ))}
            </select>
          )}
        </Field>
        <Field label="What to do" hint="May be empty.">
          {(id) => <textarea id={id} rows={3} autoFocus value={input} onChange={(event) => setInput(event.target.value)} />}
        </Field>
        <label className="check"><input type="checkbox" checked={check} onChange={(event) => setCheck(event.target.checked)} /> Tasks that it has come first</label>
        <Refused by={refused}>
          <Instead reason={refused?.reason ?? ""} session={refused?.details.get("existing_session") ?? ""} force={() => resume(true)} busy={busy} />
        </Refused>
        <div className="buttons">
          <Button submit kind="primary" busy={busy}>Go on</Button>
          <Button kind="quiet" onClick={close}>Back</Button>
        </div>
      </form>
    </Dialog>
  );
}

export function StopDialog({ agent, close }: { agent: Agent; close: () => void }) {
  const { busy, refused, run } = useAttempt();
  const stop = (force: boolean) =>
    run(async (requestId) => {
      const { session } = await api.stopAgent({ requestId, agentId: agent.id, force });
      records.putSession(session);
      toast(session ? `${nameOf(agent)} is being stopped.` : `${nameOf(agent)} was idle already.`);
      close();
    });
  return (
    <Dialog title={`Stop ${nameOf(agent)}?`} close={close}>
      <p>Its session ends, and can be continued later if its program can that. By force, the process is not asked first.</p>
      <Refused by={refused} />
      <div className="buttons">
        <Button kind="danger" busy={busy} onClick={() => stop(false)}>Stop</Button>
        <Button kind="danger" busy={busy} onClick={() => stop(true)}>Stop by force</Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}
