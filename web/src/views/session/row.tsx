// One row of a transcript.
import { memo, type ReactNode } from "react";

import { PermissionMode } from "../../gen/baton/v1/common_pb";
import { Delivery, LimitAction } from "../../gen/baton/v1/session_pb";
import type { Event, PlanItem, ToolCall, ToolResult, TurnEnded } from "../../gen/baton/v1/event_pb";
import { CommandOutcome, Role } from "../../gen/baton/v1/event_pb";
import { type Prompt, type PromptAnswer, PromptKind } from "../../gen/baton/v1/prompt_pb";
import { EndReason, InputState } from "../../gen/baton/v1/session_pb";
import type { SessionLog } from "../../store/log";
import { clock, cost, LIFECYCLE, MODE, money, ms, moment, REASON, short, span, tokens, who } from "../../text/format";
import { Visible } from "../../text/hidden";
import { Markdown } from "../../text/markdown";
import { Icon } from "../../ui/icons";
import { Link } from "../../ui/route";
import { answerWords } from "../prompts/words";
import { BudgetLink } from "../budgetlink";
import { Told } from "../told";
import { Blocks, ContentView } from "./content";
import { applied, type Row } from "./rows";
import { changed, gist, parse, resultLanguage, ToolInput } from "./toolinput";
import { Code } from "../../text/code";

export interface RowContext {
  log: SessionLog;
  /** Which cards a person opened or closed, by seq. */
  open: Map<number, boolean>;
  setOpen: (seq: number, open: boolean) => void;
  inspect: (event: Event) => void;
}

interface Props {
  row: Row;
  context: RowContext;
  /** Grows when something that belongs to the row came. */
  version: number;
  target: boolean;
  opened: boolean | undefined;
}

export const RowView = memo(function RowView({ row, context, target, opened }: Props) {
  const event = row.events[0];
  if (!event) return null;
  const time = ms(event.time);
  return (
    <article className={`row ${kindClass(event)}${target ? " target" : ""}`} data-seq={row.seq} aria-label={label(event)}>
      <Body row={row} event={event} context={context} opened={opened} />
      <button
        type="button"
        className="seq"
        title={`${moment(time)}: event ${row.seq}, as it was recorded`}
        onClick={() => context.inspect(event)}
      >
        {clock(time)}
        <span className="visually-hidden"> event {row.seq}, as it was recorded</span>
      </button>
    </article>
  );
});

/** What was reached of a budget's limit, in its unit. */
function reached(limit: string, value: bigint): string {
  return limit === "budget_cost" ? money(value) : `${value.toLocaleString()} ${limit.replace(/^budget_/, "").replaceAll("_", " ")}`;
}

function kindClass(event: Event): string {
  const { body } = event;
  if (body.case === "message") return body.value.role === Role.AGENT ? "agent" : "quiet";
  if (body.case === "inputAccepted" || applied(event)) return "person";
  if (body.case === "toolCall" || body.case === "toolResult") return "tool";
  if (body.case === "output" || body.case === "stderr") return "lines";
  return "quiet";
}

function label(event: Event): string {
  const { body } = event;
  if (body.case === "message") return body.value.role === Role.AGENT ? "Agent" : "Message";
  if (body.case === "inputAccepted") return `Input of ${who(event.actor) || "a person"}`;
  if (body.case === "toolCall") return `Tool ${body.value.tool}`;
  return (body.case ?? "event").replace(/([A-Z])/g, " $1").toLowerCase();
}

function Note({ children, tone = "" }: { children: ReactNode; tone?: string }) {
  return <p className={`note ${tone}`}>{children}</p>;
}

function Body({ row, event, context, opened }: { row: Row; event: Event; context: RowContext; opened: boolean | undefined }): ReactNode {
  const { body } = event;
  const { log } = context;
  switch (body.case) {
    case "sessionCreated": {
      const { harness, cwd, resumedFrom, forkedFrom } = body.value;
      return (
        <Note>
          {who(event.actor) || "Somebody"} started <b>{harness}</b> in <code>{cwd}</code>
          {resumedFrom && <>, continuing <Link to={`/sessions/${resumedFrom}`}>{short(resumedFrom)}</Link></>}
          {forkedFrom && <>, branching off <Link to={`/sessions/${forkedFrom}`}>{short(forkedFrom)}</Link></>}
        </Note>
      );
    }
    case "started":
      return (
        <Note>
          The agent runs{body.value.version && <> (version {body.value.version})</>}
          {body.value.model && <>, model <b>{body.value.model}</b></>}
          {body.value.tools.length > 0 && <span title={body.value.tools.join(", ")}>, {body.value.tools.length} tools</span>}
        </Note>
      );
    case "lifecycleChanged":
      return <Note>Now {LIFECYCLE[body.value.to]} (was {LIFECYCLE[body.value.from]})</Note>;
    case "linkChanged":
      return body.value.attached ? (
        <Note tone="good">The machine is linked again; nothing was lost</Note>
      ) : (
        <Note tone="warn">The link to the machine was lost; the agent works on, and the log catches up</Note>
      );
    case "inputAccepted":
      return <InputRow event={event} log={log} inputId={body.value.inputId} text={body.value.text} steer={body.value.delivery === Delivery.STEER} />;
    case "inputChanged": {
      const accepted = log.about(`input:${body.value.inputId}`).find((other) => other.body.case === "inputAccepted");
      if (applied(event) && accepted?.body.case === "inputAccepted") {
        const { inputId, text, delivery } = accepted.body.value;
        return <InputRow event={accepted} log={log} inputId={inputId} text={text} steer={delivery === Delivery.STEER} />;
      }
      return <Note tone="warn">Input {short(body.value.inputId)}: {INPUT[body.value.state]}{body.value.reason && `: ${body.value.reason}`}</Note>;
    }
    case "message":
      return <MessageRow event={event} log={log} />;
    case "toolCall":
      return <ToolRow event={event} call={body.value} context={context} opened={opened} />;
    case "toolResult":
      return (
        <div className="card">
          <div className="card-head"><b>Result</b> <span className="dim">of a call further up</span></div>
          <div className="card-body"><Result sessionId={log.sessionId} result={body.value} language="" /></div>
        </div>
      );
    case "turnEnded":
      return <TurnRow turn={body.value} />;
    case "planUpdated":
      return <Plan items={body.value.items} />;
    case "output":
    case "stderr":
      return <pre className={body.case} tabIndex={0} role="group" aria-label={body.case === "stderr" ? "standard error" : "output"}>{joined(row)}</pre>;
    case "rateLimited":
      return (
        <Note tone="warn">
          The provider refuses{body.value.until && <> until {moment(ms(body.value.until))}</>}: {body.value.message}
        </Note>
      );
    case "limitExceeded":
      if (body.value.action === LimitAction.PARK) {
        return (
          <Note tone="bad">
            Limit reached: <BudgetLink id={body.value.budgetId} /> {body.value.limit === "budget_stopped" ? "was stopped by a person" : <>is spent, {reached(body.value.limit, body.value.value)} of {reached(body.value.limit, body.value.allowed)}</>}: the session is parked
          </Note>
        );
      }
      return (
        <Note tone="bad">
          Limit reached: {body.value.limit} {String(body.value.value)} of {String(body.value.allowed)};{" "}
          {body.value.action === LimitAction.SUSPEND && "the session is suspended"}
          {body.value.action !== LimitAction.SUSPEND && "the session ends"}
        </Note>
      );
    case "limitLifted":
      return <Note><BudgetLink id={body.value.budgetId} /> holds the session no longer: {body.value.reason}</Note>;
    case "promptRequested":
      return body.value.prompt ? <PromptRow prompt={body.value.prompt} log={log} /> : null;
    case "promptAnswered":
      return <Note>Prompt {short(body.value.promptId)}: {body.value.answer && answerWords(body.value.answer)}</Note>;
    case "promptExpired":
      return <Note tone="warn">Prompt {short(body.value.promptId)} expired unanswered</Note>;
    case "promptWithdrawn":
      return <Note>Prompt {short(body.value.promptId)} was withdrawn: {body.value.reason}</Note>;
    case "promptDelivered":
      return <Note>Prompt {short(body.value.promptId)}: the answer was {body.value.reason || "given to the agent"}</Note>;
    case "optionsChanged":
      return (
        <Note>
          {who(event.actor)} set{body.value.model !== undefined && <> model <b>{body.value.model || "default"}</b></>}
          {body.value.permissionMode !== PermissionMode.UNSPECIFIED && <> permission mode <b>{MODE[body.value.permissionMode]}</b></>}
        </Note>
      );
    case "commandFailed":
      return (
        <Note tone="bad">
          {body.value.command}: {body.value.outcome === CommandOutcome.INDETERMINATE ? "nobody can tell whether it was done" : "not done"}
          {body.value.reason && `: ${body.value.reason}`}
        </Note>
      );
    case "notice":
      return <Note>{body.value.text || body.value.kind}</Note>;
    case "gap":
      return (
        <Note tone="warn">
          A part of the agent&apos;s output is missing (records {String(body.value.fromOriginSeq)} to {String(body.value.toOriginSeq)}): {body.value.reason}
        </Note>
      );
    case "ended":
      return <EndRow event={event} />;
    case "activityChanged":
    case "turnStarted":
    case "usageUpdated":
      return <Note>{label(event)}</Note>;
    default:
      return event.mayIgnore ? <Note>An event that this console does not know</Note> : <Note tone="warn">An event of a newer server: reload the page to see it</Note>;
  }
}

function joined(row: Row): string {
  let text = "";
  for (const event of row.events) {
    if (event.body.case === "output" || event.body.case === "stderr") text += event.body.value.text + (event.body.value.continues ? "" : "\n");
  }
  return text.replace(/\n$/, "");
}

const INPUT: Record<InputState, string> = {
  [InputState.UNSPECIFIED]: "",
  [InputState.QUEUED]: "waits in the queue",
  [InputState.DELIVERED]: "on its way to the agent",
  [InputState.APPLIED]: "",
  [InputState.INDETERMINATE]: "nobody can tell whether the agent took it; it is not repeated",
  [InputState.WITHDRAWN]: "taken back",
  [InputState.REJECTED]: "refused",
};

function InputRow({ event, log, inputId, text, steer }: { event: Event; log: SessionLog; inputId: string; text: string; steer: boolean }) {
  let state = InputState.QUEUED;
  let now = text;
  let reason = "";
  for (const other of log.about(`input:${inputId}`)) {
    if (other.body.case !== "inputChanged") continue;
    state = other.body.value.state;
    if (other.body.value.text) now = other.body.value.text;
    reason = other.body.value.reason;
  }
  const gone = state === InputState.WITHDRAWN || state === InputState.REJECTED;
  return (
    <>
      <p className="by">
        <b>{who(event.actor) || "Somebody"}</b>
        {steer && " steers"}
        {INPUT[state] && <span className={gone || state === InputState.INDETERMINATE ? "warn" : "dim"}> {INPUT[state]}{reason && `: ${reason}`}</span>}
      </p>
      <div className={gone ? "input-text gone" : "input-text"}>{now}</div>
    </>
  );
}

function MessageRow({ event, log }: { event: Event; log: SessionLog }) {
  if (event.body.case !== "message") return null;
  const { role, blocks, parentCallId } = event.body.value;
  return (
    <>
      {role === Role.USER && <p className="by dim">The harness, in a person&apos;s place</p>}
      {role === Role.SYSTEM && <p className="by dim">The harness</p>}
      {parentCallId && <p className="by dim">A sub-agent</p>}
      <Blocks sessionId={log.sessionId} blocks={blocks} />
    </>
  );
}

/** Lines of a result that are shown while the card is closed. */
const PEEK_LINES = 4;
/** An edit of at most this many lines is shown at once. */
const EDIT_LINES = 30;

function ToolRow({ event, call, context, opened }: { event: Event; call: ToolCall; context: RowContext; opened: boolean | undefined }) {
  const { log, setOpen } = context;
  const input = parse(call.input?.text);
  const about = log.about(`call:${call.callId}`);
  const answer = about.find((other) => other.body.case === "toolResult");
  const result = answer?.body.case === "toolResult" ? answer.body.value : undefined;
  const asked = about.find((other) => other.body.case === "promptRequested");
  const prompt = asked?.body.case === "promptRequested" ? asked.body.value.prompt : undefined;
  const outcome = prompt && outcomeOf(prompt, log);
  const state = result ? (result.isError ? "failed" : "done") : outcome === undefined && prompt ? "asks" : over(log, Number(event.seq)) ? "unfinished" : "runs";
  const lines = changed(call.tool, input);
  const open = opened ?? (result?.isError === true || (lines !== undefined && lines.added + lines.removed <= EDIT_LINES));
  const took = answer ? ms(answer.originTime ?? answer.time) - ms(event.originTime ?? event.time) : 0;
  const seq = Number(event.seq);
  return (
    <div className={`card tool-card ${state}`}>
      <button type="button" className="card-head" aria-expanded={open} onClick={() => setOpen(seq, !open)}>
        <span className={open ? "turned" : ""}><Icon name="chevron" /></span>
        <b>{call.tool}</b>
        <span className="gist"><Visible text={gist(call.tool, input)} /></span>
        {lines && <span className="lines-changed"><span className="plus">+{lines.added}</span> <span className="minus">−{lines.removed}</span></span>}
        <span className={`state ${state}`}>{STATE[state]}{took > 0 && <span className="took"> {span(took)}</span>}</span>
      </button>
      {outcome && outcome.text && <p className={`outcome ${outcome.tone}`}>{outcome.text}</p>}
      {open ? (
        <div className="card-body">
          {call.content ? <ContentView sessionId={log.sessionId} content={call.content} /> : <ToolInput tool={call.tool} input={input} />}
          {result && <Result sessionId={log.sessionId} result={result} language={resultLanguage(call.tool, input)} />}
        </div>
      ) : (
        result && call.tool === "Bash" && <Peek result={result} />
      )}
    </div>
  );
}

const STATE: Record<string, string> = { done: "done", failed: "failed", asks: "waits for you", runs: "runs", unfinished: "no result" };

/** Whether a turn ended after the call: then no result comes any more. */
function over(log: SessionLog, seq: number): boolean {
  for (let at = log.head; at > seq && at > log.head - 100; at -= 1) {
    const kind = log.event(at)?.body.case;
    if (kind === "turnEnded" || kind === "ended") return true;
  }
  return false;
}

function Peek({ result }: { result: ToolResult }) {
  const first = result.blocks.find((block) => block.kind.case === "text");
  const text = first?.kind.case === "text" ? first.kind.value.trimEnd() : "";
  if (text === "") return null;
  const lines = text.split("\n");
  return (
    <pre className="peek">
      {lines.slice(0, PEEK_LINES).join("\n")}
      {lines.length > PEEK_LINES && <span className="dim">{`\n… ${lines.length - PEEK_LINES} more lines`}</span>}
    </pre>
  );
}

function Result({ sessionId, result, language }: { sessionId: string; result: ToolResult; language: string }) {
  return (
    <div className={result.isError ? "result failed" : "result"}>
      <p className="result-head">{result.isError ? "Failed or refused" : "Result"}</p>
      {result.blocks.length === 0 && <p className="dim">nothing</p>}
      {result.blocks.map((block, at) => {
        if (block.kind.case === "text") return <Code key={at} text={block.kind.value} language={language} />;
        if (block.kind.case === "content") return <ContentView key={at} sessionId={sessionId} content={block.kind.value} />;
        return null;
      })}
    </div>
  );
}

function outcomeOf(prompt: Prompt, log: SessionLog): { text: string; tone: string } | undefined {
  for (const event of [...log.about(`prompt:${prompt.id}`)].reverse()) {
    if (event.body.case === "promptWithdrawn") return { text: `withdrawn: ${event.body.value.reason}`, tone: "dim" };
    if (event.body.case === "promptExpired") return { text: "expired unanswered", tone: "warn" };
    if (event.body.case === "promptAnswered" && event.body.value.answer) return answerTone(event.body.value.answer);
  }
  return undefined;
}

function answerTone(answer: PromptAnswer): { text: string; tone: string } {
  const denied = answer.decision !== undefined && !answer.decision.allow;
  return { text: answerWords(answer), tone: denied ? "bad" : "good" };
}

function PromptRow({ prompt, log }: { prompt: Prompt; log: SessionLog }) {
  const outcome = outcomeOf(prompt, log);
  const asks = prompt.kind === PromptKind.PLAN ? "proposes a plan" : prompt.kind === PromptKind.QUESTION ? "asks" : "asks permission";
  return (
    <div className="card">
      <div className="card-head"><b>{prompt.budgetId === "" ? "The agent" : "Baton"} {asks}</b> <span className="gist">{prompt.budgetId === "" ? prompt.summary : <Told text={prompt.summary} plain />}</span></div>
      {prompt.plan && <div className="card-body"><Markdown text={prompt.plan} /></div>}
      <p className={`outcome ${outcome?.tone ?? "warn"}`}>{outcome?.text ?? "waits for you"}</p>
    </div>
  );
}

function TurnRow({ turn }: { turn: TurnEnded }) {
  const took = turn.duration ? Number(turn.duration.seconds) * 1000 + turn.duration.nanos / 1e6 : 0;
  const facts = [took > 0 ? span(took) : "", tokens(turn.usage), cost(turn.usage)].filter(Boolean).join(" · ");
  if (/^(interrupted|aborted)/.test(turn.reason)) {
    return (
      <p className="turn">
        <span className="warn">turn interrupted</span>
        {facts && <span className="dim">{facts}</span>}
      </p>
    );
  }
  return (
    <p className={turn.isError ? "turn bad" : "turn"}>
      <span>{turn.isError ? `turn ended: ${turn.reason}${turn.apiStatus ? ` (status ${turn.apiStatus})` : ""}` : "turn ended"}</span>
      {facts && <span className="dim">{facts}</span>}
      {turn.isError && turn.text && <span className="turn-text">{turn.text}</span>}
    </p>
  );
}

const ITEM: Record<string, string> = { pending: "open", in_progress: "under way", completed: "done" };

export function Plan({ items }: { items: readonly PlanItem[] }) {
  const done = items.filter((item) => item.status === "completed").length;
  return (
    <div className="card plan">
      <div className="card-head"><b>Plan</b> <span className="dim">{done} of {items.length} done</span></div>
      <ul>
        {items.map((item, at) => (
          <li key={at} className={item.status}>
            <span className="box" role="img" aria-label={ITEM[item.status] ?? item.status} />
            {item.text}
          </li>
        ))}
      </ul>
    </div>
  );
}

function EndRow({ event }: { event: Event }) {
  if (event.body.case !== "ended" || !event.body.value.end) return null;
  const end = event.body.value.end;
  const good = [EndReason.COMPLETED, EndReason.STOPPED, EndReason.RESUMED, EndReason.CANCELED].includes(end.reason);
  const code = end.exitCode !== undefined && end.exitCode !== 0 ? `exit code ${end.exitCode}` : "";
  const signal = end.signal ? `signal ${end.signal}` : "";
  return (
    <div className={good ? "end" : "end bad"}>
      <p>
        <b>The session ended: {REASON[end.reason]}</b>
        {[code, signal].filter(Boolean).map((fact) => ` · ${fact}`)}
      </p>
      {end.message && <p>{end.message}</p>}
      {end.stderrTail && <pre className="stderr" tabIndex={0} role="group" aria-label="last lines of standard error">{end.stderrTail}</pre>}
    </div>
  );
}
