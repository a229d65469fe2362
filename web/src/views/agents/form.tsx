// A new agent, or other settings for one.
import { type FormEvent, useId, useState } from "react";

import { agents as api } from "../../api/transport";
import { type Agent, type AgentSettings, StewardFocus } from "../../gen/baton/v1/agent_pb";
import { PermissionMode } from "../../gen/baton/v1/common_pb";
import type { Harness } from "../../gen/baton/v1/daemon_pb";
import { AgentRole, type Limits, LimitAction, SessionMode, WorkerMode } from "../../gen/baton/v1/session_pb";
import { useCell } from "../../store/cell";
import type { Bounds } from "../../store/settings";
import { records } from "../../store/world";
import { MODE, MODES } from "../../text/format";
import { Button, Dialog, Field, Refused, useAttempt } from "../../ui/bits";
import { argv, BoundsField, HarnessChoice, labelsOf, limitsOf, Picker, UNBOUND } from "../new";
import { rank } from "../session/index";
import { draftsOf, Triggers, triggersOf } from "./triggers";
import { FOCUS, ROLES } from "./words";

const pairs = (map: Record<string, string> | undefined) => Object.entries(map ?? {}).map(([name, value]) => `${name}=${value}`).join(" ");

function boundsOf(limits: Limits | undefined): Bounds {
  if (!limits) return UNBOUND;
  const minutes = (seconds: bigint | undefined) => (seconds ? String(Number(seconds) / 60) : "");
  return {
    minutes: minutes(limits.runtime?.seconds),
    idle: minutes(limits.idle?.seconds),
    turns: limits.turns > 0 ? String(limits.turns) : "",
    usd: limits.costMicroUsd > 0n ? String(Number(limits.costMicroUsd) / 1e6) : "",
    suspend: limits.action === LimitAction.SUSPEND,
  };
}

/** Quoted where a word has blanks, so that it reads back as it was. */
function line(words: readonly string[]): string {
  return words.map((word) => (/^[^\s"'\\]+$/.test(word) ? word : `"${word.replace(/["\\]/g, "\\$&")}"`)).join(" ");
}

/** What machines offer: of several with the same name, one that can be used. */
function offered(daemonId: string): Harness[] {
  const all = new Map<string, Harness>();
  for (const daemon of records.daemons.values()) {
    if (daemonId !== "" && daemon.id !== daemonId) continue;
    for (const harness of daemon.harnesses) {
      const known = all.get(harness.name);
      if (!known || (!known.available && harness.available)) all.set(harness.name, harness);
    }
  }
  return [...all.values()].sort((a, b) => Number(b.available) - Number(a.available) || a.name.localeCompare(b.name));
}

export function AgentForm({ agent, close, made }: { agent?: Agent; close: () => void; made?: (id: string) => void }) {
  useCell(records);
  const old = agent?.settings;
  const [name, setName] = useState(old?.name ?? "");
  const [role, setRole] = useState<AgentRole>(old?.role ?? AgentRole.WORKER);
  const [workerMode, setWorkerMode] = useState<WorkerMode>(old?.workerMode || WorkerMode.EPHEMERAL);
  const [focus, setFocus] = useState<StewardFocus>(old?.focus || StewardFocus.CUSTOM);
  const [daemonId, setDaemonId] = useState(old?.daemonId ?? "");
  const [selector, setSelector] = useState(pairs(old?.selector));
  const [harness, setHarness] = useState(() => old?.harness ?? offered("").find(({ available }) => available)?.name ?? "");
  const [model, setModel] = useState(old?.model ?? "");
  const [permission, setPermission] = useState<PermissionMode>(old?.permissionMode || PermissionMode.ASK);
  const [mode, setMode] = useState<SessionMode>(old?.mode || SessionMode.HEADLESS);
  const [directory, setDirectory] = useState(old?.directory ?? "");
  const [command, setCommand] = useState(line(old?.argv ?? []));
  const [capabilities, setCapabilities] = useState(old?.capabilities.join(" ") ?? "");
  const [triggers, setTriggers] = useState(() => draftsOf(old?.triggers));
  const [labels, setLabels] = useState(pairs(old?.labels));
  const [environment, setEnvironment] = useState(old?.envNames.join(" ") ?? "");
  const [bounds, setBounds] = useState<Bounds>(() => boundsOf(old?.limits));
  const [texts, setTexts] = useState({
    instructions: old?.definition?.instructions ?? "",
    onStartup: old?.definition?.onStartup ?? "",
    onTaskAssigned: old?.definition?.onTaskAssigned ?? "",
    onStuck: old?.definition?.onStuck ?? "",
    onHandoff: old?.definition?.onHandoff ?? "",
    onError: old?.definition?.onError ?? "",
  });
  const [picking, setPicking] = useState(false);
  const { busy, refused, run } = useAttempt();
  const models = useId();
  const machines = [...records.daemons.values()].sort((a, b) => a.name.localeCompare(b.name));
  const machine = records.daemons.get(daemonId);
  const browsed = machine ?? (machines.length === 1 ? machines[0] : undefined);
  const choices = offered(daemonId);
  const chosen = choices.find((one) => one.name === harness);
  const most = machine?.maxPermissionMode ?? PermissionMode.UNSPECIFIED;

  const save = (event: FormEvent) => {
    event.preventDefault();
    const split = (text: string) => text.split(/[\s,]+/).filter(Boolean);
    const limits = limitsOf(bounds);
    const settings = {
      name: name.trim(),
      role,
      workerMode: role === AgentRole.WORKER ? workerMode : WorkerMode.UNSPECIFIED,
      focus: role === AgentRole.STEWARD ? focus : StewardFocus.UNSPECIFIED,
      harness,
      model,
      permissionMode: permission,
      mode,
      directory: directory.trim(),
      daemonId,
      selector: daemonId === "" ? labelsOf(selector) : {},
      envNames: split(environment),
      argv: harness === "command" ? argv(command) : [],
      // A limit that this form does not show stays as it is.
      ...((limits ?? (old?.limits?.outputBytes ? {} : undefined)) && { limits: { outputBytes: old?.limits?.outputBytes ?? 0n, ...limits } }),
      definition: texts,
      capabilities: split(capabilities),
      disabled: old?.disabled ?? false,
      labels: labelsOf(labels),
      triggers: role === AgentRole.STEWARD ? triggersOf(triggers) : [],
    } satisfies Partial<Omit<AgentSettings, "limits" | "definition" | "$typeName">> & Record<string, unknown>;
    run(async (requestId) => {
      const answer = agent
        ? await api.updateAgent({ requestId, agentId: agent.id, etag: agent.etag, settings })
        : await api.createAgent({ requestId, settings });
      records.putAgent(answer.agent);
      close();
      if (answer.agent) made?.(answer.agent.id);
    });
  };
  const text = (key: keyof typeof texts, label: string, hint: string, rows = 2) => (
    <Field label={label} hint={hint}>
      {(id) => <textarea id={id} rows={rows} value={texts[key]} onChange={(event) => setTexts({ ...texts, [key]: event.target.value })} />}
    </Field>
  );

  return (
    <Dialog title={agent ? `Change ${old?.name ?? "the agent"}` : "New agent"} close={close} wide>
      <form className="new" onSubmit={save}>
        <div className="columns">
          <Field label="Name" hint={agent ? "" : "Letters, digits, blanks, . _ -"}>
            {(id) => <input id={id} autoFocus required maxLength={64} value={name} onChange={(event) => setName(event.target.value)} />}
          </Field>
          <Field label="Role" hint={ROLES.find((one) => one.role === role)?.says}>
            {(id) => (
              <select id={id} value={role} onChange={(event) => setRole(Number(event.target.value))}>
                {ROLES.map((one) => (
                  <option key={one.role} value={one.role}>{one.name}</option>
                ))}
              </select>
            )}
          </Field>
        </div>
        {role === AgentRole.WORKER && (
          <Field label="Kind of worker">
            {(id) => (
              <select id={id} value={workerMode} onChange={(event) => setWorkerMode(Number(event.target.value))}>
                <option value={WorkerMode.EPHEMERAL}>ephemeral: one piece of work after another</option>
                <option value={WorkerMode.PERSISTENT}>persistent: works with a person</option>
              </select>
            )}
          </Field>
        )}
        {role === AgentRole.STEWARD && (
          <Field label="Looks after">
            {(id) => (
              <select id={id} value={focus} onChange={(event) => setFocus(Number(event.target.value))}>
                {[StewardFocus.CUSTOM, StewardFocus.MERGE, StewardFocus.DOCS, StewardFocus.RECOVERY].map((one) => (
                  <option key={one} value={one}>{FOCUS[one]}</option>
                ))}
              </select>
            )}
          </Field>
        )}
        <div className="columns">
          <Field label="Machine">
            {(id) => (
              <select id={id} value={daemonId} onChange={(event) => setDaemonId(event.target.value)}>
                <option value="">any that fits</option>
                {machines.map((daemon) => (
                  <option key={daemon.id} value={daemon.id}>{daemon.name}{daemon.attached ? "" : " (away)"}</option>
                ))}
              </select>
            )}
          </Field>
          {daemonId === "" && (
            <Field label="Labels that the machine must have" hint="NAME=VALUE, separated by spaces; may be empty.">
              {(id) => <input id={id} className="mono" value={selector} onChange={(event) => setSelector(event.target.value)} />}
            </Field>
          )}
        </div>
        <fieldset className="harnesses">
          <legend>Program</legend>
          {choices.map((one) => (
            <HarnessChoice key={one.name} harness={one} chosen={one.name === harness} choose={() => setHarness(one.name)} />
          ))}
          {old && !chosen && <p className="warn">It is set to {harness}, which no machine offers now.</p>}
          {choices.length === 0 && !old && <p className="dim">No machine offers any.</p>}
        </fieldset>
        {harness === "command" && (
          <Field label="Command" hint="The program and its arguments; quotes keep words together. No shell reads it.">
            {(id) => <input id={id} className="mono" value={command} onChange={(event) => setCommand(event.target.value)} />}
          </Field>
        )}
        <Field label="Directory" hint={machine && machine.roots.length > 0 ? `Beneath ${machine.roots.join(" or ")}` : ""}>
          {(id) => (
            <div className="with-button">
              <input id={id} className="mono" value={directory} placeholder="the machine's default" onChange={(event) => setDirectory(event.target.value)} />
              {browsed?.attached && <Button icon="folder" onClick={() => setPicking(true)}>Browse</Button>}
            </div>
          )}
        </Field>
        <div className="columns">
          <Field label="Model">
            {(id) => (
              <>
                <input id={id} value={model} placeholder="the program's default" list={models} onChange={(event) => setModel(event.target.value)} />
                <datalist id={models}>
                  {chosen?.models.map((one) => (
                    <option key={one} value={one} />
                  ))}
                </datalist>
              </>
            )}
          </Field>
          <Field label="Permissions" hint={MODES.find((one) => one.mode === permission)?.says}>
            {(id) => (
              <select id={id} value={permission} onChange={(event) => setPermission(Number(event.target.value))}>
                {MODES.map(({ mode: one }) => (
                  <option key={one} value={one} disabled={most !== PermissionMode.UNSPECIFIED && rank(one) > rank(most)}>{MODE[one]}</option>
                ))}
              </select>
            )}
          </Field>
        </div>
        {(chosen?.capabilities?.terminal || mode === SessionMode.INTERACTIVE) && (
          <Field label="Runs" hint={mode === SessionMode.INTERACTIVE ? "A person types there: it is told no instructions." : ""}>
            {(id) => (
              <select id={id} value={mode} onChange={(event) => setMode(Number(event.target.value))}>
                <option value={SessionMode.HEADLESS}>without a terminal</option>
                <option value={SessionMode.INTERACTIVE}>in a terminal</option>
              </select>
            )}
          </Field>
        )}
        {text("instructions", "Instructions", "What it is told beside its inputs.", 4)}
        <Field label="Capabilities" hint="What it can do, as tasks ask for it: words such as rust or review.">
          {(id) => <input id={id} value={capabilities} onChange={(event) => setCapabilities(event.target.value)} />}
        </Field>
        {role === AgentRole.STEWARD && <Triggers drafts={triggers} set={setTriggers} />}
        <details>
          <summary>More texts</summary>
          {text("onStartup", "At the start", "Goes before the first input of every new session.")}
          {text("onTaskAssigned", "With a task", "Goes before the text of a task that it is given.")}
          {text("onStuck", "When stuck", "")}
          {text("onHandoff", "Before handing a task on", "")}
          {text("onError", "After an error", "")}
        </details>
        <details>
          <summary>Labels, limits, environment</summary>
          <Field label="Labels" hint="NAME=VALUE, separated by spaces; its sessions get them too.">
            {(id) => <input id={id} className="mono" value={labels} onChange={(event) => setLabels(event.target.value)} />}
          </Field>
          <BoundsField legend="Limits of a session" bounds={bounds} set={setBounds} />
          <Field label="Variables of the machine that it may see" hint={machine ? (machine.envNames.length > 0 ? `The machine allows ${machine.envNames.join(", ")}` : "The machine allows none.") : "Names, separated by spaces; the machine must allow them."}>
            {(id) => <input id={id} className="mono" value={environment} onChange={(event) => setEnvironment(event.target.value)} />}
          </Field>
        </details>
        <Refused by={refused}>{refused?.reason === "STALE" && <p>Somebody changed it meanwhile. Close this, and look at it again.</p>}</Refused>
        <div className="buttons">
          <Button submit kind="primary" busy={busy} disabled={name.trim() === "" || harness === ""}>{agent ? "Save" : "Make the agent"}</Button>
          <Button kind="quiet" onClick={close}>Back</Button>
        </div>
      </form>
      {picking && browsed && <Picker daemon={browsed} start={directory} pick={(path) => (setDirectory(path), setPicking(false))} close={() => setPicking(false)} />}
    </Dialog>
  );
}
