// What agents ask, over all sessions.
import { useEffect, useRef, useState } from "react";

import { prompts as api } from "../../api/transport";
import type { PromptRule } from "../../gen/baton/v1/prompt_pb";
import { PromptState } from "../../gen/baton/v1/prompt_pb";
import { useCell } from "../../store/cell";
import { auth, records, requestId } from "../../store/world";
import { ms, short, who } from "../../text/format";
import { Ago, Badge, Button, complain, Empty, Failure, Field, Loading, useAction } from "../../ui/bits";
import { PromptCard } from "./card";

export function Inbox() {
  useCell(records);
  // A card that was answered while one looks stays where it is, so that no other comes under the finger.
  const shown = useRef<string[]>([]);
  const pending = records.pending();
  for (const prompt of pending) if (!shown.current.includes(prompt.id)) shown.current.push(prompt.id);
  shown.current = shown.current.filter((id) => records.prompts.has(id));
  const cards = shown.current.flatMap((id) => records.prompts.get(id) ?? []);
  const [picked, setPicked] = useState<string>();
  const current = cards.find((prompt) => prompt.id === picked && prompt.state === PromptState.PENDING) ?? pending[0];
  const recent = [...records.prompts.values()]
    .filter((prompt) => prompt.state !== PromptState.PENDING && !shown.current.includes(prompt.id))
    .sort((a, b) => ms(b.answer?.at ?? b.requestedAt) - ms(a.answer?.at ?? a.requestedAt))
    .slice(0, 20);

  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      if (event.key !== "n" && event.key !== "p") return;
      if (event.target instanceof HTMLElement && ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName)) return;
      const open = records.pending();
      const at = open.findIndex((prompt) => prompt.id === current?.id);
      const next = open[(at + (event.key === "n" ? 1 : open.length - 1)) % Math.max(1, open.length)];
      if (!next) return;
      setPicked(next.id);
      document.querySelector<HTMLElement>(`[data-prompt="${next.id}"]`)?.focus();
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, [current?.id]);

  return (
    <div className="page">
      <header className="page-head">
        <h1>Prompts</h1>
        <p className="dim keys-hint">
          <kbd>a</kbd> allow <kbd>d</kbd> deny <kbd>1</kbd>…<kbd>9</kbd> choose <kbd>n</kbd> <kbd>p</kbd> next, previous
        </p>
      </header>
      {!records.complete ? (
        <Loading what="prompts" />
      ) : (
        <>
          {cards.length === 0 && <Empty title="Nobody waits for you."><p>When an agent asks for a permission or has a question, it stands here, and the number in the tab's title says so.</p></Empty>}
          <div className="prompt-list">
            {cards.map((prompt) => (
              <div key={prompt.id} onFocus={() => setPicked(prompt.id)}>
                <PromptCard prompt={prompt} keys={prompt.id === current?.id} named />
              </div>
            ))}
          </div>
          {recent.length > 0 && (
            <section>
              <h2>Settled lately</h2>
              <div className="prompt-list small">
                {recent.map((prompt) => (
                  <details key={prompt.id} className="settled-line">
                    <summary>
                      <span className="clip">{prompt.summary}</span>
                      <span className="dim">{STATES[prompt.state]} <Ago at={ms(prompt.answer?.at ?? prompt.requestedAt)} /></span>
                    </summary>
                    <PromptCard prompt={prompt} keys={false} named />
                  </details>
                ))}
              </div>
            </section>
          )}
          <Rules />
        </>
      )}
    </div>
  );
}

const STATES: Record<PromptState, string> = {
  [PromptState.UNSPECIFIED]: "",
  [PromptState.PENDING]: "pending",
  [PromptState.ANSWERED]: "answered",
  [PromptState.EXPIRED]: "expired",
  [PromptState.WITHDRAWN]: "withdrawn",
};

function Rules() {
  const [rules, setRules] = useState<PromptRule[]>();
  const [failure, setFailure] = useState<unknown>();
  const [pattern, setPattern] = useState("");
  const [directory, setDirectory] = useState("");
  const [allow, setAllow] = useState(true);
  const [busy, run] = useAction();
  const [round, setRound] = useState(0);
  useCell(records);
  // An answer may have made a rule.
  const answered = [...records.prompts.values()].filter((prompt) => prompt.state !== PromptState.PENDING).length;
  useEffect(() => {
    let left = false;
    api.listPromptRules({ pageSize: 1000 }).then(
      (answer) => {
        if (!left) setRules(answer.rules);
        if (!left) setFailure(undefined);
      },
      (thrown: unknown) => {
        if (!left) setFailure(thrown);
      },
    );
    return () => {
      left = true;
    };
  }, [round, answered]);
  return (
    <section>
      <h2>Rules</h2>
      <p className="dim">A rule answers permissions by itself. Deny beats allow.</p>
      {failure !== undefined && <Failure thrown={failure} retry={() => setRound(round + 1)} />}
      {!rules && failure === undefined && <Loading what="rules" />}
      {rules?.length === 0 && <p className="dim">There is none. “Make a rule” on a permission makes one that fits it.</p>}
      {rules && rules.length > 0 && (
        <ul className="lines-list" aria-label="Rules">
          {rules.map((rule) => (
            <li key={rule.id}>
              <Badge tone={rule.allow ? "good" : "bad"}>{rule.allow ? "allow" : "deny"}</Badge>
              <code className="clip">{rule.pattern}</code>
              <span className="dim">
                {rule.sessionId ? `in session ${records.sessions.get(rule.sessionId)?.title || short(rule.sessionId)}` : rule.directory ? `beneath ${rule.directory}` : "everywhere"}, by {who(rule.createdBy)} <Ago at={ms(rule.createdAt)} />
              </span>
              <span className="spacer" />
              {auth.operator && (
                <Button
                  small
                  kind="quiet"
                  icon="close"
                  label={`Delete the rule ${rule.pattern}`}
                  onClick={() => {
                    api.deletePromptRule({ ruleId: rule.id }).then(() => setRound(round + 1), complain);
                  }}
                />
              )}
            </li>
          ))}
        </ul>
      )}
      {auth.operator && (
        <form
          className="inline-form"
          onSubmit={(event) => {
            event.preventDefault();
            run(async () => {
              await api.createPromptRule({ requestId: requestId(), pattern, allow, directory: directory.trim() });
              setPattern("");
              setDirectory("");
              setRound(round + 1);
            });
          }}
        >
          <Field label="New rule">
            {(id) => <input id={id} required className="mono" placeholder="Bash(git status:*)" value={pattern} maxLength={1024} onChange={(event) => setPattern(event.target.value)} />}
          </Field>
          <Field label="Only beneath">
            {(id) => <input id={id} className="mono" placeholder="everywhere" value={directory} maxLength={4096} onChange={(event) => setDirectory(event.target.value)} />}
          </Field>
          <Field label="Verdict">
            {(id) => (
              <select id={id} value={allow ? "allow" : "deny"} onChange={(event) => setAllow(event.target.value === "allow")}>
                <option value="allow">allow</option>
                <option value="deny">deny</option>
              </select>
            )}
          </Field>
          <Button submit busy={busy}>Add</Button>
        </form>
      )}
    </section>
  );
}
