// The machines that run agents.
import { useEffect, useState } from "react";

import { access, daemons as api, system } from "../api/transport";
import { type Daemon, LoginState } from "../gen/baton/v1/daemon_pb";
import { Lifecycle } from "../gen/baton/v1/session_pb";
import { useCell } from "../store/cell";
import { auth, records } from "../store/world";
import { Visible } from "../text/hidden";
import { abilities, living, MODE, moment, ms, span } from "../text/format";
import { Ago, Badge, Button, CopyButton, Dialog, Dot, Empty, Field, Loading, useAction } from "../ui/bits";
import { Link } from "../ui/route";
import { State } from "./facts";

/** The server's version, to compare with the machines'; empty until it is known. */
function useServerVersion(): string {
  const [version, setVersion] = useState("");
  useEffect(() => {
    // Without it nothing is compared.
    system.getServerInfo({}).then((info) => setVersion(info.version), () => undefined);
  }, []);
  return version;
}

export default function Machines() {
  useCell(records);
  const server = useServerVersion();
  const [adding, setAdding] = useState(false);
  const all = [...records.daemons.values()].sort((a, b) => Number(b.attached) - Number(a.attached) || a.name.localeCompare(b.name));
  return (
    <div className="page">
      <header className="page-head">
        <h1>Machines</h1>
        <span className="spacer" />
        {auth.admin && <Button kind="primary" icon="plus" onClick={() => setAdding(true)}>Add a machine</Button>}
      </header>
      {!records.complete ? (
        <Loading what="machines" />
      ) : all.length === 0 ? (
        <Empty title="No machine has joined."><p>A machine joins with one command. It dials out: no port has to be opened on it.</p></Empty>
      ) : (
        <ul className="machine-list">
          {all.map((daemon) => (
            <Machine key={daemon.id} daemon={daemon} server={server} />
          ))}
        </ul>
      )}
      {adding && <Add close={() => setAdding(false)} />}
    </div>
  );
}

function Machine({ daemon, server }: { daemon: Daemon; server: string }) {
  const [busy, run] = useAction();
  const [removing, setRemoving] = useState(false);
  const mine = [...records.sessions.values()].filter((session) => session.daemonId === daemon.id && living(session));
  const labels = Object.entries(daemon.labels);
  return (
    <li className="machine">
      <header>
        <Dot tone={daemon.attached ? "good" : "bad"} />
        <h2>{daemon.name}</h2>
        <Badge tone={daemon.attached ? "good" : "warn"}>
          {daemon.attached ? "linked" : "away"} <Ago at={ms(daemon.since)} prefix="for " />
        </Badge>
        {daemon.draining && <Badge tone="warn" title="No sessions are placed on it; what runs there goes on.">draining</Badge>}
        <span className="spacer" />
        {auth.operator && (
          <Button small busy={busy} onClick={() => run(async () => records.putDaemon((await api.drainDaemon({ daemonId: daemon.id, undo: daemon.draining })).daemon))}>
            {daemon.draining ? "Take sessions again" : "Drain"}
          </Button>
        )}
        {auth.admin && <Button small kind="quiet" onClick={() => setRemoving(true)}>Remove…</Button>}
      </header>
      <p className="dim machine-facts">
        <span>{daemon.hostname}</span>
        <span>{daemon.platform}</span>
        <span>
          baton {daemon.version}
          {server !== "" && daemon.version !== "" && daemon.version !== server && <b className="warn"> (the server has {server})</b>}
        </span>
        <span>{daemon.livingSessions} of {daemon.maxSessions} sessions</span>
        <span title="Each link since it joined has a number.">link no. {String(daemon.linkEpoch)}</span>
        <span title={moment(ms(daemon.createdAt))}>joined <Ago at={ms(daemon.createdAt)} /></span>
        <span>at most {MODE[daemon.maxPermissionMode]}</span>
      </p>
      <ul className="harness-list">
        {daemon.harnesses.map((harness) => (
          <li key={harness.name} className={harness.available ? "" : "off"}>
            <Dot tone={harness.available ? "good" : "off"} />
            <b>{harness.name}</b> <span className="dim">{harness.version}</span>
            {harness.login === LoginState.SIGNED_OUT && <Badge tone="warn">not signed in</Badge>}
            {!harness.available && <span className="dim"> {harness.unavailableReason || "not available"}</span>}
            {harness.available && <span className="dim">{abilities(harness.capabilities)}</span>}
          </li>
        ))}
      </ul>
      <p className="dim">
        Runs beneath {daemon.roots.length === 0 ? "no directory: name one with --root" : daemon.roots.map((root) => <code key={root}>{root} </code>)}
        {labels.length > 0 && <> · labels {labels.map(([key, value]) => `${key}=${value}`).join(", ")}</>}
        {daemon.envNames.length > 0 && <> · may pass on {daemon.envNames.join(", ")}</>}
      </p>
      <Links daemon={daemon} />
      {mine.length > 0 && (
        <ul className="machine-sessions">
          {mine.slice(0, 10).map((session) => (
            <li key={session.id}>
              <Link to={`/sessions/${session.id}`}><Visible text={session.title || session.id} /></Link> <State session={session} />
            </li>
          ))}
          {mine.length > 10 && <li className="dim">and {mine.length - 10} more</li>}
        </ul>
      )}
      {removing && (
        <Dialog title={`Remove ${daemon.name}?`} close={() => setRemoving(false)}>
          <p>
            Its credential is revoked, and it has to join again.
            {mine.length > 0 && <b> It has {mine.length} living sessions, which end as lost{mine.some((session) => session.lifecycle === Lifecycle.RUNNING) ? "; their processes are not stopped" : ""}.</b>}
          </p>
          <div className="buttons">
            <Button
              kind="danger"
              busy={busy}
              onClick={() =>
                run(async () => {
                  await api.removeDaemon({ daemonId: daemon.id, force: mine.length > 0 });
                  records.forget(daemon.id);
                })
              }
            >
              Remove it
            </Button>
            <Button kind="quiet" onClick={() => setRemoving(false)}>Back</Button>
          </div>
        </Dialog>
      )}
    </li>
  );
}

/** When its link came and went. */
function Links({ daemon }: { daemon: Daemon }) {
  const changes = daemon.linkChanges;
  if (changes.length === 0) return null;
  const lost = changes.findLast((change) => !change.attached);
  return (
    <details className="links">
      <summary>
        Link history{" "}
        <span className="dim">
          {lost ? <>last lost <Ago at={ms(lost.at)} />{lost.reason && <>: <Visible text={lost.reason} /></>}</> : "not lost since it is remembered"}
        </span>
      </summary>
      <ol>
        {changes
          .map((change, at) => {
            const next = changes[at + 1];
            return (
              <li key={`${change.epoch}/${String(change.attached)}/${ms(change.at)}`}>
                <Dot tone={change.attached ? "good" : "bad"} />
                <time dateTime={new Date(ms(change.at)).toISOString()}>{moment(ms(change.at))}</time>
                <b>{change.attached ? "linked" : "away"}</b>
                <span className="dim">
                  {next ? `for ${span(ms(next.at) - ms(change.at))}` : <Ago at={ms(change.at)} prefix="for " />}
                  {change.attached ? `, link no. ${String(change.epoch)}` : ""}
                  {change.reason && <>: <Visible text={change.reason} /></>}
                </span>
              </li>
            );
          })
          .reverse()}
      </ol>
    </details>
  );
}

function Add({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [secret, setSecret] = useState("");
  const [busy, run] = useAction();
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const command = `BATON_JOIN_TOKEN=${secret} baton daemon --server ${location.origin} --root "$HOME"`;
  return (
    <Dialog title="Add a machine" close={close} wide>
      {secret === "" ? (
        <form
          onSubmit={(event) => {
            event.preventDefault();
            run(async () => setSecret((await access.createJoinToken({ name })).secret));
          }}
        >
          <Field label="Name" hint="Empty: the machine's own.">
            {(id) => <input id={id} autoFocus value={name} maxLength={100} onChange={(event) => setName(event.target.value)} />}
          </Field>
          <div className="buttons"><Button submit kind="primary" busy={busy}>Make the command</Button></div>
        </form>
      ) : (
        <>
          <p>Run this on the machine, once, within an hour. It holds a token that one machine can join with, and it is not shown again.</p>
          <div className="code"><pre tabIndex={0}><code>{command}</code></pre><CopyButton text={command} /></div>
          {local && <p className="warn">{location.origin} is this machine alone. On another one, name an address of this server that it can reach.</p>}
          <div className="buttons"><Button kind="primary" onClick={close}>Done</Button></div>
        </>
      )}
    </Dialog>
  );
}
