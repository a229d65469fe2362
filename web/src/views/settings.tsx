// What a person sets for this browser, and what the server says about itself.
import { useEffect, useState } from "react";

import { system } from "../api/transport";
import type { GetServerInfoResponse } from "../gen/baton/v1/system_pb";
import { useCell } from "../store/cell";
import { type Density, settings, type Theme } from "../store/settings";
import { auth, watch } from "../store/world";
import { moment, ms, SCOPES, span } from "../text/format";
import { Button, complain, Failure, Field, Loading } from "../ui/bits";

export default function Settings() {
  useCell(settings);
  useCell(auth);
  const [info, setInfo] = useState<GetServerInfoResponse>();
  const [failure, setFailure] = useState<unknown>();
  const ask = () => {
    system.getServerInfo({}).then(
      (answer) => {
        setInfo(answer);
        setFailure(undefined);
      },
      (thrown: unknown) => setFailure(thrown),
    );
  };
  useEffect(ask, []);
  const { theme, density, notify } = settings.value;
  const caller = auth.state.kind === "in" ? auth.state.caller : undefined;
  const possible = "Notification" in self && isSecureContext;
  const turn = async (on: boolean) => {
    const allowed = !on || Notification.permission === "granted" || (await Notification.requestPermission()) === "granted";
    settings.set({ notify: on && allowed });
    watch.again();
  };
  return (
    <div className="page narrow">
      <header className="page-head"><h1>Settings</h1></header>
      <section>
        <h2>Look</h2>
        <Choice label="Theme" value={theme} options={["system", "light", "dark"]} set={(value) => settings.set({ theme: value as Theme })} />
        <Choice label="Density" value={density} options={["comfortable", "compact"]} set={(value) => settings.set({ density: value as Density })} />
      </section>
      <section>
        <h2>Notifications</h2>
        <label className="check">
          <input type="checkbox" disabled={!possible} checked={notify && possible && Notification.permission === "granted"} onChange={(event) => void turn(event.target.checked).catch(complain)} />
          Tell me when an agent asks and I look elsewhere
        </label>
        <p className="hint">
          {!possible
            ? "Browsers allow this only on https and on this machine itself."
            : Notification.permission === "denied"
              ? "This browser was told not to show notifications of this page; its own settings can change that."
              : "A tab in the background then keeps listening for prompts."}
        </p>
      </section>
      <section>
        <h2>Signed in</h2>
        {caller && (
          <p>
            As <b>{caller.name || caller.id}</b>, {SCOPES[caller.scope]}
            {caller.expiresAt && <span className="dim">, until {moment(ms(caller.expiresAt))}</span>}
          </p>
        )}
        <Button onClick={() => void auth.signOut().catch(complain)}>Sign out</Button>
      </section>
      <section>
        <h2>Server</h2>
        {failure !== undefined && <Failure thrown={failure} retry={ask} />}
        {!info && failure === undefined && <Loading what="what the server says" />}
        {info && (
          <dl className="facts">
            <div><dt>version</dt><dd>{info.version}</dd></div>
            <div><dt>runs since</dt><dd>{span(Number(info.uptime?.seconds ?? 0n) * 1000)}</dd></div>
            <div><dt>machines linked</dt><dd>{info.linkedDaemons}</dd></div>
            <div><dt>living sessions</dt><dd>{info.livingSessions}</dd></div>
            <div><dt>grace of a lost link</dt><dd>{span(Number(info.grace?.seconds ?? 0n) * 1000)}</dd></div>
          </dl>
        )}
      </section>
      <section>
        <h2>Keys</h2>
        <dl className="facts keys">
          <div><dt><kbd>a</kbd> <kbd>d</kbd></dt><dd>allow, deny the prompt that is marked</dd></div>
          <div><dt><kbd>1</kbd>…<kbd>9</kbd>, <kbd>Enter</kbd></dt><dd>choose an option, answer</dd></div>
          <div><dt><kbd>/</kbd></dt><dd>find in a session</dd></div>
          <div><dt><kbd>Esc</kbd></dt><dd>interrupt, in the empty input</dd></div>
          <div><dt><kbd>Alt</kbd>+<kbd>Enter</kbd></dt><dd>steer the running turn</dd></div>
          <div><dt><kbd>g</kbd> then <kbd>s</kbd> <kbd>p</kbd> <kbd>a</kbd> <kbd>t</kbd> <kbd>w</kbd> <kbd>b</kbd> <kbd>m</kbd> <kbd>n</kbd></dt><dd>sessions, prompts, agents, tasks, worktrees, budgets, machines, new session</dd></div>
          <div><dt>arrows, <kbd>Enter</kbd>, <kbd>m</kbd></dt><dd>on the board: from card to card, open one, move one</dd></div>
        </dl>
      </section>
    </div>
  );
}

function Choice({ label, value, options, set }: { label: string; value: string; options: string[]; set: (value: string) => void }) {
  return (
    <Field label={label}>
      {(id) => (
        <select id={id} value={value} onChange={(event) => set(event.target.value)}>
          {options.map((option) => (
            <option key={option}>{option}</option>
          ))}
        </select>
      )}
    </Field>
  );
}
