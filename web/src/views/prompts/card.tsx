// A card for one prompt: what is asked, in full, and the answers.
import { type KeyboardEvent, useEffect, useRef, useState } from "react";

import { problem } from "../../api/problem";
import { prompts } from "../../api/transport";
import { type Prompt, PromptKind, PromptState, Remember } from "../../gen/baton/v1/prompt_pb";
import { AnswerDelivery } from "../../gen/baton/v1/prompt_pb";
import { auth, records, requestId } from "../../store/world";
import { ms, tail } from "../../text/format";
import { hasHidden, Visible } from "../../text/hidden";
import { Markdown } from "../../text/markdown";
import { Ago, Badge, Button, complain, Field, toast, useAction } from "../../ui/bits";
import { Link } from "../../ui/route";
import { BudgetLink } from "../budgetlink";
import { fields, parse, ToolInput } from "../session/toolinput";
import { Told } from "../told";
import { answerWords } from "./words";

type Given = Parameters<typeof prompts.answerPrompt>[0]["answer"];

/** A card that has just come under the keys takes none for this long, in ms: nobody answers what they have not seen. */
const UNSEEN_MS = 500;

interface Props {
  prompt: Prompt;
  /** Whether the keys a, d and 1…9 are for this card. */
  keys: boolean;
  /** Names the session above the card. */
  named?: boolean;
}

export function PromptCard({ prompt, keys, named }: Props) {
  const card = useRef<HTMLElement>(null);
  const [busy, setBusy] = useState(false);
  const session = records.sessions.get(prompt.sessionId);
  const pending = prompt.state === PromptState.PENDING;
  // The same answer twice is one answer, also when the first try was not heard of.
  const request = useRef(requestId());

  const answer = (given: Given) => {
    if (busy) return;
    setBusy(true);
    prompts
      .answerPrompt({ requestId: request.current, promptId: prompt.id, sessionId: prompt.sessionId, answer: given })
      .then(
        (done) => {
          records.putPrompt(done.prompt);
          if (done.rule) toast(`Rule made: ${done.rule.pattern}`);
        },
        (thrown: unknown) => {
          const found = problem(thrown);
          if (found.reason === "PROMPT_ANSWERED") {
            toast(`${found.details.get("winner") ?? "Somebody"} answered first.`, "bad");
            prompts.getPrompt({ promptId: prompt.id }).then((now) => records.putPrompt(now.prompt), complain);
          } else complain(thrown);
          if (!found.maybeDone) request.current = requestId();
        },
      )
      .finally(() => setBusy(false));
  };

  const kind = KINDS[prompt.kind];
  const body = !pending ? (
    <Settled prompt={prompt} />
  ) : !auth.operator ? (
    <p className="dim">Your sign-in may only look; somebody else has to answer.</p>
  ) : prompt.kind === PromptKind.QUESTION ? (
    <Questions prompt={prompt} busy={busy} keys={keys} card={card} answer={answer} />
  ) : (
    <Permission prompt={prompt} busy={busy} keys={keys} card={card} answer={answer} />
  );
  const input = parse(prompt.input?.text);
  return (
    <article
      ref={card}
      tabIndex={-1}
      className={`prompt ${pending ? "pending" : "settled"}${keys && pending ? " current" : ""}`}
      data-prompt={prompt.id}
      aria-label={`${kind}: ${prompt.summary}`}
    >
      <header className="prompt-head">
        <Badge tone={pending ? "wait" : ""}>{kind}</Badge>
        {prompt.kind === PromptKind.PERMISSION && <b className="prompt-tool"><Visible text={prompt.tool} /></b>}
        {named && session && (
          <Link to={`/sessions/${session.id}`} className="prompt-session">
            <Visible text={session.title || session.id} />
          </Link>
        )}
        <span className="spacer" />
        <span className="dim">
          <Ago at={ms(prompt.requestedAt)} />
          {pending && prompt.expiresAt && <> · expires {new Date(ms(prompt.expiresAt)).toLocaleTimeString()}</>}
        </span>
      </header>
      {named && session && <p className="dim prompt-place">{session.harness} in <span className="path">{session.cwd}</span></p>}
      {prompt.budgetId !== "" && <p className="dim prompt-place">Baton asks, about <BudgetLink id={prompt.budgetId} />.</p>}
      {prompt.reason && <p className="prompt-reason"><Visible text={prompt.reason} /></p>}
      {prompt.kind === PromptKind.PERMISSION && (
        <div className="prompt-input">
          <ToolInput tool={prompt.tool} input={input} />
          {hasHidden(prompt.input?.text ?? "") || hidden(input) ? (
            <p className="warn" role="note">This holds characters that are not seen; they are spelled out above.</p>
          ) : null}
        </div>
      )}
      {prompt.kind === PromptKind.PLAN && <div className="prompt-plan"><Markdown text={prompt.plan} /></div>}
      {prompt.kind === PromptKind.DECISION && <p><Visible text={prompt.summary} /></p>}
      {body}
    </article>
  );
}

const KINDS: Record<PromptKind, string> = {
  [PromptKind.UNSPECIFIED]: "prompt",
  [PromptKind.PERMISSION]: "permission",
  [PromptKind.QUESTION]: "question",
  [PromptKind.PLAN]: "plan",
  [PromptKind.DECISION]: "decision",
};

function hidden(input: unknown): boolean {
  return Object.values(fields(input)).some((value) => typeof value === "string" && hasHidden(value));
}

function Settled({ prompt }: { prompt: Prompt }) {
  const { answer } = prompt;
  const denied = answer?.decision && !answer.decision.allow;
  return (
    <div className="prompt-settled" role="status">
      {prompt.state === PromptState.ANSWERED && answer && (
        <p className={denied ? "outcome bad" : "outcome good"}>
          {answerWords(answer)} <span className="dim"><Ago at={ms(answer.at)} /></span>
        </p>
      )}
      {prompt.state === PromptState.EXPIRED && <p className="outcome warn">Expired unanswered{prompt.kind === PromptKind.PERMISSION && ", so it was denied"}</p>}
      {prompt.state === PromptState.WITHDRAWN && <p className="outcome dim">Withdrawn{prompt.note && `: ${prompt.note}`}</p>}
      {prompt.state === PromptState.ANSWERED && prompt.delivery !== AnswerDelivery.APPLIED && (
        <p className="dim">{DELIVERY[prompt.delivery]}{prompt.note && `: ${prompt.note}`}</p>
      )}
    </div>
  );
}

const DELIVERY: Record<AnswerDelivery, string> = {
  [AnswerDelivery.UNSPECIFIED]: "",
  [AnswerDelivery.QUEUED]: "The answer is on its way to the agent",
  [AnswerDelivery.APPLIED]: "",
  [AnswerDelivery.UNDELIVERABLE]: "The answer did not reach the agent",
  [AnswerDelivery.INDETERMINATE]: "Nobody can tell whether the agent has the answer",
};

/** Where a rule made from a prompt holds. */
type Reach = "session" | "directory" | "everywhere";

interface PartProps {
  prompt: Prompt;
  busy: boolean;
  keys: boolean;
  card: React.RefObject<HTMLElement | null>;
  answer: (given: Given) => void;
}

/** Keys for the card: not while somebody types, nor with a modifier, nor before it could be seen. */
function useKeys(on: boolean, press: (key: string) => boolean): void {
  const latest = useRef(press);
  useEffect(() => {
    latest.current = press;
  });
  useEffect(() => {
    if (!on) return;
    const since = performance.now();
    const listen = (event: globalThis.KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.defaultPrevented) return;
      const at = event.target;
      if (at instanceof HTMLElement && (at.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(at.tagName))) return;
      if (document.querySelector("dialog[open]") || performance.now() - since < UNSEEN_MS) return;
      if (latest.current(event.key)) event.preventDefault();
    };
    document.addEventListener("keydown", listen);
    return () => document.removeEventListener("keydown", listen);
  }, [on]);
}

function Permission({ prompt, busy, keys, answer }: PartProps) {
  const [mode, setMode] = useState<"" | "deny" | "rule" | "edit">("");
  const [pattern, setPattern] = useState("");
  const [reach, setReach] = useState<Reach>("directory");
  const [verdict, setVerdict] = useState(true);
  const [edited, setEdited] = useState("");
  const plan = prompt.kind === PromptKind.PLAN;
  const permission = prompt.kind === PromptKind.PERMISSION;

  const allow = (remember = Remember.NONE, withPattern = "") =>
    answer({ case: "decision", value: { allow: true, remember, pattern: withPattern } });
  const cwd = records.sessions.get(prompt.sessionId)?.cwd ?? "";
  const [making, make] = useAction();
  const makeRule = () => {
    if (reach !== "directory" || cwd === "") {
      const remember = reach === "session" ? Remember.SESSION : Remember.RULE;
      answer({ case: "decision", value: { allow: verdict, remember, pattern } });
      return;
    }
    // An answer remembers for its session or for good; a rule of a directory is made beside it, and first: where
    // it cannot be made, nothing is answered.
    make(async () => {
      const { rule } = await prompts.createPromptRule({ requestId: ruleRequest.current, pattern, allow: verdict, directory: cwd });
      toast(`Rule made: ${rule?.pattern ?? pattern}`);
      answer({ case: "decision", value: { allow: verdict } });
    });
  };
  const ruleRequest = useRef(requestId());
  const openRule = () => {
    setPattern(proposed(prompt));
    setMode("rule");
  };
  useKeys(keys && mode === "", (key) => {
    if (busy) return false;
    if (key === "a") allow();
    else if (key === "d") setMode("deny");
    else return false;
    return true;
  });
  const leave = (event: KeyboardEvent) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    setMode("");
  };

  if (mode === "deny") {
    return (
      <Deny
        label={plan ? "What should be different?" : "Why not? The agent is told"}
        action={plan ? "Reject the plan" : "Deny"}
        busy={busy}
        deny={(value) => answer({ case: "decision", value })}
        back={() => setMode("")}
      />
    );
  }
  if (mode === "rule") {
    return (
      <form
        className="prompt-form"
        onKeyDown={leave}
        onSubmit={(event) => {
          event.preventDefault();
          makeRule();
        }}
      >
        <Field label={`${verdict ? "Allow" : "Deny"} now, and from now on what matches`} hint="A tool, or a tool and a pattern: Bash(git status:*), Edit(src/**)">
          {(id) => <input id={id} autoFocus required className="mono" value={pattern} maxLength={1024} onChange={(event) => setPattern(event.target.value)} />}
        </Field>
        <div className="columns">
          <Field label="It holds" hint={reach === "everywhere" ? "In all sessions that you see, on every machine." : ""}>
            {(id) => (
              <select id={id} value={reach} onChange={(event) => setReach(event.target.value as Reach)}>
                <option value="session">in this session</option>
                {cwd !== "" && <option value="directory">beneath {tail(cwd)}</option>}
                <option value="everywhere">everywhere</option>
              </select>
            )}
          </Field>
          <Field label="Verdict">
            {(id) => (
              <select id={id} value={verdict ? "allow" : "deny"} onChange={(event) => setVerdict(event.target.value === "allow")}>
                <option value="allow">allow</option>
                <option value="deny">deny</option>
              </select>
            )}
          </Field>
        </div>
        <div className="buttons">
          <Button submit kind={verdict ? "primary" : "danger"} busy={busy || making}>{verdict ? "Allow" : "Deny"} and make the rule</Button>
          <Button kind="quiet" onClick={() => setMode("")}>Back</Button>
        </div>
      </form>
    );
  }
  if (mode === "edit") {
    const readable = valid(edited);
    return (
      <form
        className="prompt-form"
        onKeyDown={leave}
        onSubmit={(event) => {
          event.preventDefault();
          if (readable) answer({ case: "decision", value: { allow: true, updatedInput: { text: edited } } });
        }}
      >
        <Field label="Allow with another input (JSON)" hint={readable ? "" : "This is not a JSON object."}>
          {(id) => <textarea id={id} autoFocus className="mono" rows={6} value={edited} onChange={(event) => setEdited(event.target.value)} />}
        </Field>
        <div className="buttons">
          <Button submit kind="primary" busy={busy} disabled={!readable}>Allow this</Button>
          <Button kind="quiet" onClick={() => setMode("")}>Back</Button>
        </div>
      </form>
    );
  }
  return (
    <div className="buttons prompt-buttons">
      <Button kind="primary" busy={busy} shortcut={keys ? "a" : undefined} onClick={() => allow()}>{plan ? "Approve" : "Allow"}</Button>
      <Button kind="danger" disabled={busy} shortcut={keys ? "d" : undefined} onClick={() => setMode("deny")}>{plan ? "Reject…" : "Deny…"}</Button>
      {permission && (
        <>
          <Button disabled={busy} title={prompt.suggestions[0]?.label} onClick={() => allow(Remember.SESSION)}>Allow for session</Button>
          <Button disabled={busy} onClick={openRule}>Make a rule…</Button>
          <Button
            kind="quiet"
            disabled={busy}
            onClick={() => {
              setEdited(JSON.stringify(parse(prompt.input?.text) ?? {}, null, 2));
              setMode("edit");
            }}
          >
            Change…
          </Button>
        </>
      )}
    </div>
  );
}

interface DenyProps {
  label: string;
  action: string;
  busy: boolean;
  deny: (decision: { allow: false; message: string; interrupt: boolean }) => void;
  back: () => void;
}

/** A no, with a word why. */
function Deny({ label, action, busy, deny, back }: DenyProps) {
  const [message, setMessage] = useState("");
  const [stop, setStop] = useState(false);
  return (
    <form
      className="prompt-form"
      onKeyDown={(event) => {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        back();
      }}
      onSubmit={(event) => {
        event.preventDefault();
        deny({ allow: false, message, interrupt: stop });
      }}
    >
      <Field label={label} hint="May stay empty.">
        {(id) => <input id={id} autoFocus value={message} maxLength={10_000} onChange={(event) => setMessage(event.target.value)} />}
      </Field>
      <label className="check">
        <input type="checkbox" checked={stop} onChange={(event) => setStop(event.target.checked)} /> and end the turn
      </label>
      <div className="buttons">
        <Button submit kind="danger" busy={busy}>{action}</Button>
        <Button kind="quiet" onClick={back}>Back</Button>
      </div>
    </form>
  );
}

function valid(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

/** A pattern to begin with: what the harness offers, or the tool with the first words of the command. */
function proposed(prompt: Prompt): string {
  const offered = /^[^\s(]+\([^)]*\)/.exec(prompt.suggestions[0]?.label ?? "")?.[0];
  if (offered) return offered;
  const given = fields(parse(prompt.input?.text));
  if (prompt.tool === "Bash" && typeof given.command === "string") {
    const first = /^[\w./-]+/.exec(given.command)?.[0];
    return first ? `Bash(${first}:*)` : "Bash";
  }
  return prompt.tool;
}

function Questions({ prompt, busy, keys, answer }: PartProps) {
  const [chosen, setChosen] = useState<readonly (readonly string[])[]>(() => prompt.questions.map(() => []));
  const [texts, setTexts] = useState<readonly string[]>(() => prompt.questions.map(() => ""));
  const answered = (at: number) => (chosen[at]?.length ?? 0) > 0 || (texts[at] ?? "").trim() !== "";
  const open = prompt.questions.findIndex((_, at) => !answered(at));
  const [current, setCurrent] = useState(0);
  const [declining, setDeclining] = useState(false);
  const complete = open < 0;

  const choose = (at: number, label: string) => {
    const question = prompt.questions[at];
    if (!question) return;
    setChosen((known) =>
      known.map((labels, index) => {
        if (index !== at) return labels;
        if (!question.multiSelect) return labels.includes(label) ? [] : [label];
        return labels.includes(label) ? labels.filter((other) => other !== label) : [...labels, label];
      }),
    );
    if (!question.multiSelect) setTexts((known) => known.map((text, index) => (index === at ? "" : text)));
    setCurrent(question.multiSelect ? at : Math.min(at + 1, prompt.questions.length - 1));
  };
  const submit = () => {
    if (!complete || busy) return;
    const answers = prompt.questions.map((question, at) => ({
      question: question.text,
      labels: [...(chosen[at] ?? [])],
      text: (texts[at] ?? "").trim(),
    }));
    answer({ case: "answers", value: { answers } });
  };
  useKeys(keys && !declining, (key) => {
    if (key === "d") {
      setDeclining(true);
      return true;
    }
    if (key === "Enter" && !(document.activeElement instanceof HTMLButtonElement)) {
      submit();
      return true;
    }
    if ((key === "j" || key === "ArrowDown") && current < prompt.questions.length - 1) {
      setCurrent(current + 1);
      return true;
    }
    if ((key === "k" || key === "ArrowUp") && current > 0) {
      setCurrent(current - 1);
      return true;
    }
    const option = /^[1-9]$/.test(key) ? prompt.questions[current]?.options[Number(key) - 1] : undefined;
    if (!option) return false;
    choose(current, option.label);
    return true;
  });

  if (declining) return <Deny label="Why not? The agent is told" action="Decline" busy={busy} deny={(value) => answer({ case: "decision", value })} back={() => setDeclining(false)} />;
  return (
    <form
      className="questions"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      {prompt.questions.map((question, at) => (
        <fieldset key={at} className={keys && at === current && prompt.questions.length > 1 ? "ask current" : "ask"} onFocus={() => setCurrent(at)}>
          <legend>
            {question.header && question.header !== question.text && <span className="dim">{question.header}: </span>}
            {prompt.budgetId === "" ? <Visible text={question.text} /> : <Told text={question.text} plain />}
            {question.multiSelect && <span className="dim"> (several may be chosen)</span>}
          </legend>
          <div className="options">
            {question.options.map((option, number) => (
              <label key={option.label} className={chosen[at]?.includes(option.label) ? "option chosen" : "option"}>
                <input
                  type={question.multiSelect ? "checkbox" : "radio"}
                  name={`${prompt.id}-${at}`}
                  checked={chosen[at]?.includes(option.label) ?? false}
                  onChange={() => choose(at, option.label)}
                />
                {keys && at === current && number < 9 && <kbd aria-hidden="true">{number + 1}</kbd>}
                <span>
                  <b><Visible text={option.label} /></b>
                  {option.description && <span className="dim"> <Visible text={option.description} /></span>}
                </span>
              </label>
            ))}
          </div>
          <input
            className="free"
            aria-label={`${question.text}: in your own words`}
            placeholder="In your own words"
            value={texts[at] ?? ""}
            onChange={(event) => {
              const text = event.target.value;
              setTexts((known) => known.map((other, index) => (index === at ? text : other)));
              if (!question.multiSelect && text !== "") setChosen((known) => known.map((labels, index) => (index === at ? [] : labels)));
            }}
          />
        </fieldset>
      ))}
      <div className="buttons">
        <Button submit kind="primary" busy={busy} disabled={!complete} shortcut={keys ? "Enter" : undefined}>Answer</Button>
        <Button kind="quiet" disabled={busy} shortcut={keys ? "d" : undefined} onClick={() => setDeclining(true)}>Decline…</Button>
        {!complete && <span className="dim">{prompt.questions.length > 1 ? `${prompt.questions.length - prompt.questions.filter((_, at) => answered(at)).length} to go` : ""}</span>}
      </div>
    </form>
  );
}
