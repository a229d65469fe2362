// A new session: which machine, which agent, where, and what to do.
import { type FormEvent, useEffect, useId, useState } from "react";

import { daemons as daemonApi, sessions as api } from "../api/transport";
import { problem } from "../api/problem";
import { PermissionMode } from "../gen/baton/v1/common_pb";
import { type Daemon, type DirectoryEntry, type Harness, LoginState } from "../gen/baton/v1/daemon_pb";
import { LimitAction, SessionMode } from "../gen/baton/v1/session_pb";
import { useCell } from "../store/cell";
import { type Bounds, settings, type Template } from "../store/settings";
import { auth, records, requestId } from "../store/world";
import { MODE, MODES, ms, tail } from "../text/format";
import { Badge, Button, Dialog, Empty, Field, Loading, toast } from "../ui/bits";
import { Icon } from "../ui/icons";
import { go, Link } from "../ui/route";
import { rank } from "./session/index";

export default function NewSession() {
  useCell(records);
  useCell(settings);
  const machines = [...records.daemons.values()].sort((a, b) => Number(b.attached) - Number(a.attached) || a.name.localeCompare(b.name));
  const close = () => go("/sessions");
  if (!records.complete) return <Loading what="machines" />;
  if (!auth.operator) return <Empty title="Your sign-in may only look." />;
  if (!machines.some((daemon) => daemon.attached)) {
    return (
      <Empty title="No machine is linked.">
        <p>An agent runs on a machine. <Link to="/machines">Add a machine</Link>, or run <code>baton up</code> on this one.</p>
      </Empty>
    );
  }
  return (
    <div className="page narrow">
      <header className="page-head">
        <h1>New session</h1>
        <span className="spacer" />
        <Button kind="quiet" onClick={close}>Cancel</Button>
      </header>
      <Form machines={machines} />
    </div>
  );
}

function last(daemonId: string): string {
  const recent = recentDirectories(daemonId)[0];
  return recent ?? records.daemons.get(daemonId)?.roots[0] ?? "";
}

export function recentDirectories(daemonId: string): string[] {
  const mine = [...records.sessions.values()].filter((session) => session.daemonId === daemonId && session.cwd !== "");
  mine.sort((a, b) => ms(b.createdAt) - ms(a.createdAt));
  return [...new Set(mine.map((session) => session.cwd))].slice(0, 8);
}

/** Splits words as a shell does, but for quotes only. */
export function argv(text: string): string[] {
  const words: string[] = [];
  for (const match of text.matchAll(/"((?:[^"\\]|\\.)*)"|'([^']*)'|(\S+)/g)) {
    words.push(match[1]?.replace(/\\(.)/g, "$1") ?? match[2] ?? match[3] ?? "");
  }
  return words;
}

function Form({ machines }: { machines: Daemon[] }) {
  const first = machines.find((daemon) => daemon.attached && !daemon.draining) ?? machines[0];
  const [daemonId, setDaemonId] = useState(first?.id ?? "");
  const daemon = records.daemons.get(daemonId) ?? first;
  const usable = daemon?.harnesses.filter((one) => one.available) ?? [];
  const [harnessName, setHarnessName] = useState(usable[0]?.name ?? "");
  const harness = daemon?.harnesses.find((one) => one.name === harnessName);
  const [model, setModel] = useState("");
  const [mode, setMode] = useState(PermissionMode.ASK);
  const [cwd, setCwd] = useState(() => last(daemonId));
  const [input, setInput] = useState("");
  const [title, setTitle] = useState("");
  const [oneShot, setOneShot] = useState(false);
  const [labels, setLabels] = useState("");
  const [bounds, setBounds] = useState<Bounds>(UNBOUND);
  const [environment, setEnvironment] = useState<readonly string[]>([]);
  const [picking, setPicking] = useState(false);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const [request, setRequest] = useState(requestId);
  const models = useId();
  const recent = recentDirectories(daemonId).slice(0, 4);
  const command = harnessName === "command";
  const most = daemon?.maxPermissionMode ?? PermissionMode.UNSPECIFIED;

  const choose = (id: string) => {
    setDaemonId(id);
    setCwd(last(id));
    // Another machine has other names.
    setEnvironment([]);
    const offered = records.daemons.get(id)?.harnesses ?? [];
    if (!offered.some((one) => one.name === harnessName && one.available)) setHarnessName(offered.find((one) => one.available)?.name ?? "");
  };
  const apply = (template: Template) => {
    if (records.daemons.has(template.daemonId)) setDaemonId(template.daemonId);
    setHarnessName(template.harness);
    setModel(template.model);
    setMode(template.mode);
    setCwd(template.cwd);
    setInput(template.input);
    setLabels(template.labels ?? "");
    setBounds({ ...UNBOUND, ...template.bounds });
    const offered = records.daemons.get(template.daemonId)?.envNames ?? [];
    setEnvironment((template.environment ?? []).filter((name) => offered.includes(name)));
  };
  const save = (name: string) => {
    const template = { name, daemonId, harness: harnessName, model, mode, cwd, input, labels, bounds, environment: [...environment] };
    settings.set({ templates: [...settings.value.templates.filter((other) => other.name !== name), template].slice(-20) });
    toast(`Template “${name}” is kept in this browser.`);
  };
  const start = (event: FormEvent) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setFailure("");
    api
      .createSession({
        requestId: request,
        input: command ? "" : input,
        argv: command ? argv(input) : [],
        cwd,
        harness: harnessName,
        model,
        permissionMode: mode,
        mode: SessionMode.HEADLESS,
        oneShot,
        daemonId,
        title,
        labels: labelsOf(labels),
        limits: limitsOf(bounds),
        envNames: [...environment],
      })
      .then(
        (answer) => {
          records.putSession(answer.session);
          if (answer.session) go(`/sessions/${answer.session.id}`, true);
        },
        (thrown: unknown) => {
          const found = problem(thrown);
          if (!found.maybeDone) setRequest(requestId());
          setFailure(found.message);
          setBusy(false);
        },
      );
  };

  return (
    <form className="new" onSubmit={start}>
      <Templates apply={apply} save={save} />
      <Field label={command ? "Command" : "What to do"} hint={harnessName === "demo" ? "The demo agent does what the text says, a line each: say: TEXT, run: COMMAND, write: FILE TEXT, ask: Question?|yes|no, plan: TEXT. Any other text makes it explain itself." : command ? "The program and its arguments; quotes keep words together. No shell reads it." : ""}>
        {(id) => (
          <textarea
            id={id}
            autoFocus
            rows={4}
            className={command ? "mono" : undefined}
            required={command}
            value={input}
            onChange={(event) => setInput(event.target.value)}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.form?.requestSubmit();
            }}
          />
        )}
      </Field>
      <Field label="Machine">
        {(id) => (
          <select id={id} value={daemonId} onChange={(event) => choose(event.target.value)}>
            {machines.map((one) => (
              <option key={one.id} value={one.id} disabled={!one.attached || one.draining}>
                {one.name}
                {!one.attached ? " (away)" : one.draining ? " (draining)" : ""}
              </option>
            ))}
          </select>
        )}
      </Field>
      <fieldset className="harnesses">
        <legend>Agent</legend>
        {daemon?.harnesses.map((one) => (
          <HarnessChoice key={one.name} harness={one} chosen={one.name === harnessName} choose={() => setHarnessName(one.name)} />
        ))}
        {daemon?.harnesses.length === 0 && <p className="dim">This machine offers none.</p>}
      </fieldset>
      <Field label="Directory" hint={daemon && daemon.roots.length > 0 ? `Beneath ${daemon.roots.join(" or ")}` : ""}>
        {(id) => (
          <div className="with-button">
            <input id={id} className="mono" value={cwd} placeholder="the machine's default" list={`${id}-recent`} onChange={(event) => setCwd(event.target.value)} />
            <datalist id={`${id}-recent`}>
              {recentDirectories(daemonId).map((path) => (
                <option key={path} value={path} />
              ))}
            </datalist>
            <Button icon="folder" onClick={() => setPicking(true)}>Browse</Button>
          </div>
        )}
      </Field>
      {recent.length > 1 && (
        <ul className="recent" aria-label="Recent directories">
          {recent.map((path) => (
            <li key={path}><Button small kind="quiet" icon="folder" pressed={path === cwd} title={path} onClick={() => setCwd(path)}>{tail(path)}</Button></li>
          ))}
        </ul>
      )}
      {!command && (
        <div className="columns">
          <Field label="Model">
            {(id) => (
              <>
                <input id={id} value={model} placeholder="the agent's default" list={models} onChange={(event) => setModel(event.target.value)} />
                <datalist id={models}>
                  {harness?.models.map((name) => (
                    <option key={name} value={name} />
                  ))}
                </datalist>
              </>
            )}
          </Field>
          <Field label="Permissions" hint={MODES.find((one) => one.mode === mode)?.says}>
            {(id) => (
              <select id={id} value={mode} onChange={(event) => setMode(Number(event.target.value))}>
                {MODES.map(({ mode: one }) => (
                  <option key={one} value={one} disabled={most !== PermissionMode.UNSPECIFIED && rank(one) > rank(most)}>
                    {MODE[one]}
                  </option>
                ))}
              </select>
            )}
          </Field>
        </div>
      )}
      <details>
        <summary>Title, labels, limits, environment</summary>
        <Field label="Title" hint="Empty: made from the text.">
          {(id) => <input id={id} value={title} maxLength={200} onChange={(event) => setTitle(event.target.value)} />}
        </Field>
        <Field label="Labels" hint="NAME=VALUE, separated by spaces or commas.">
          {(id) => <input id={id} className="mono" value={labels} placeholder="team=web ticket=42" onChange={(event) => setLabels(event.target.value)} />}
        </Field>
        <BoundsField legend="Limits" bounds={bounds} set={setBounds} />
        {daemon && daemon.envNames.length > 0 && (
          <fieldset className="environment">
            <legend>Variables of the machine that it may see</legend>
            {daemon.envNames.map((name) => (
              <label key={name} className="check">
                <input
                  type="checkbox"
                  checked={environment.includes(name)}
                  onChange={(event) => setEnvironment(event.target.checked ? [...environment, name] : environment.filter((other) => other !== name))}
                />{" "}
                <code>{name}</code>
              </label>
            ))}
          </fieldset>
        )}
        <label className="check"><input type="checkbox" checked={oneShot} onChange={(event) => setOneShot(event.target.checked)} /> End after the first turn</label>
      </details>
      {failure && <p className="bad" role="alert">{failure}</p>}
      <div className="buttons">
        <Button submit kind="primary" busy={busy} disabled={!harness?.available}>Start</Button>
        {!harness?.available && harness && <span className="bad">{harness.unavailableReason}</span>}
      </div>
      {picking && daemon && <Picker daemon={daemon} start={cwd} pick={(path) => (setCwd(path), setPicking(false))} close={() => setPicking(false)} />}
    </form>
  );
}

/** The limits of a session, to be set. */
export function BoundsField({ legend, bounds, set }: { legend: string; bounds: Bounds; set: (bounds: Bounds) => void }) {
  return (
    <fieldset className="limits">
      <legend>{legend}</legend>
      <Bound says="minutes in all" value={bounds.minutes} set={(minutes) => set({ ...bounds, minutes })} />
      <Bound says="minutes idle" value={bounds.idle} set={(idle) => set({ ...bounds, idle })} />
      <Bound says="turns" value={bounds.turns} set={(turns) => set({ ...bounds, turns })} />
      <Bound says="US dollars" value={bounds.usd} step="0.01" set={(usd) => set({ ...bounds, usd })} />
      <label className="bound">
        <span>then</span>
        <select value={bounds.suspend ? "suspend" : "end"} onChange={(event) => set({ ...bounds, suspend: event.target.value === "suspend" })}>
          <option value="end">end it</option>
          <option value="suspend">suspend it</option>
        </select>
      </label>
      <p className="hint">Empty: the server&apos;s own.</p>
    </fieldset>
  );
}

function Bound({ says, value, set, step = "1" }: { says: string; value: string; set: (value: string) => void; step?: string }) {
  return (
    <label className="bound">
      <span>{says}</span>
      <input type="number" inputMode="decimal" min={step} step={step} value={value} onChange={(event) => set(event.target.value)} />
    </label>
  );
}

export const UNBOUND: Bounds = { minutes: "", idle: "", turns: "", usd: "", suspend: false };

/** `a=b c=d` as labels; a word without a value has an empty one. */
export function labelsOf(text: string): Record<string, string> {
  const words = text.split(/[\s,]+/).filter(Boolean);
  return Object.fromEntries(words.map((word): [string, string] => {
    const at = word.indexOf("=");
    return at < 0 ? [word, ""] : [word.slice(0, at), word.slice(at + 1)];
  }));
}

/** Limits as the server takes them; undefined if there are none. */
export function limitsOf(bounds: Bounds): { runtime?: { seconds: bigint; nanos: number }; idle?: { seconds: bigint; nanos: number }; turns: number; costMicroUsd: bigint; action: LimitAction } | undefined {
  const minutes = (text: string) => (Number(text) > 0 ? { seconds: BigInt(Math.round(Number(text) * 60)), nanos: 0 } : undefined);
  const [runtime, idle] = [minutes(bounds.minutes), minutes(bounds.idle)];
  const turns = Math.max(0, Math.round(Number(bounds.turns)));
  const costMicroUsd = BigInt(Math.max(0, Math.round(Number(bounds.usd) * 1e6)));
  if (!runtime && !idle && turns === 0 && costMicroUsd === 0n) return undefined;
  return { ...(runtime && { runtime }), ...(idle && { idle }), turns, costMicroUsd, action: bounds.suspend ? LimitAction.SUSPEND : LimitAction.END };
}

export function HarnessChoice({ harness, chosen, choose }: { harness: Harness; chosen: boolean; choose: () => void }) {
  return (
    <label className={`option harness${chosen ? " chosen" : ""}${harness.available ? "" : " off"}`}>
      <input type="radio" name="harness" checked={chosen} disabled={!harness.available} onChange={choose} />
      <span>
        <b>{harness.name}</b> <span className="dim">{harness.version}</span>
        {harness.login === LoginState.SIGNED_OUT && <Badge tone="warn">not signed in</Badge>}
        {!harness.available && <span className="reason">{harness.unavailableReason || "not available"}</span>}
      </span>
    </label>
  );
}

function Templates({ apply, save }: { apply: (template: Template) => void; save: (name: string) => void }) {
  const { templates } = settings.value;
  const [naming, setNaming] = useState(false);
  const [name, setName] = useState("");
  return (
    <div className="templates">
      {templates.map((template) => (
        <span key={template.name} className="template">
          <Button small onClick={() => apply(template)}>{template.name}</Button>
          <Button small kind="quiet" icon="close" label={`Forget the template ${template.name}`} onClick={() => settings.set({ templates: templates.filter((other) => other !== template) })} />
        </span>
      ))}
      <Button small kind="quiet" icon="plus" onClick={() => setNaming(true)}>Keep as template</Button>
      {naming && (
        <Dialog title="Keep as template" close={() => setNaming(false)}>
          <div className="inline-form">
            <Field label="Name">{(id) => <input id={id} autoFocus value={name} maxLength={60} onChange={(event) => setName(event.target.value)} />}</Field>
            <Button
              kind="primary"
              disabled={name.trim() === ""}
              onClick={() => {
                save(name.trim());
                setName("");
                setNaming(false);
              }}
            >
              Keep
            </Button>
          </div>
        </Dialog>
      )}
    </div>
  );
}

interface Listing {
  path: string;
  entries: DirectoryEntry[];
  truncated: boolean;
}

export function Picker({ daemon, start, pick, close }: { daemon: Daemon; start: string; pick: (path: string) => void; close: () => void }) {
  const [path, setPath] = useState(start);
  const [hidden, setHidden] = useState(false);
  const [listing, setListing] = useState<Listing>();
  const [failure, setFailure] = useState("");
  useEffect(() => {
    let left = false;
    daemonApi.listDirectory({ daemonId: daemon.id, path, hidden }).then(
      (answer) => {
        if (left) return;
        setListing({ path: answer.path, entries: answer.entries, truncated: answer.truncated });
        setFailure("");
      },
      (thrown: unknown) => {
        if (left) return;
        // A directory that is gone: the roots are always there.
        if (path !== "") setPath("");
        setFailure(problem(thrown).message);
      },
    );
    return () => {
      left = true;
    };
  }, [daemon.id, path, hidden]);
  const at = listing?.path ?? "";
  const root = daemon.roots.find((one) => at === one || at.startsWith(`${one.replace(/\/$/, "")}/`));
  const parent = at === "" ? undefined : at === root || root === undefined ? "" : at.slice(0, at.lastIndexOf("/")) || "/";
  const directories = listing?.entries.filter((entry) => entry.isDirectory) ?? [];
  return (
    <Dialog title={`Directory on ${daemon.name}`} close={close} wide>
      <p className="path picker-path">{at || "Allowed directories"}</p>
      {failure && <p className="bad" role="alert">{failure}</p>}
      {!listing ? (
        <Loading what="the directory" />
      ) : (
        <ul className="picker">
          {parent !== undefined && (
            <li>
              <button type="button" onClick={() => setPath(parent)}><Icon name="up" /> {parent === "" ? "allowed directories" : ".."}</button>
            </li>
          )}
          {directories.map((entry) => (
            <li key={entry.path}>
              <button type="button" onClick={() => setPath(entry.path)}>
                <Icon name={entry.isRepository ? "repo" : "folder"} /> <span className="clip">{at === "" ? entry.path : entry.name}</span>
                {entry.isRepository && <span className="dim">git</span>}
              </button>
            </li>
          ))}
          {directories.length === 0 && <li className="dim">No directories in here.</li>}
          {listing.truncated && <li className="dim">There are more; type the path.</li>}
        </ul>
      )}
      <div className="buttons">
        <Button kind="primary" disabled={at === ""} onClick={() => pick(at)}>Take this directory</Button>
        <label className="check"><input type="checkbox" checked={hidden} onChange={(event) => setHidden(event.target.checked)} /> hidden ones</label>
      </div>
    </Dialog>
  );
}
