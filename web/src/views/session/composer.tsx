// Where a person writes to the agent.
import { type KeyboardEvent, useEffect, useRef, useState } from "react";

import { problem } from "../../api/problem";
import { sessions } from "../../api/transport";
import { Activity, Delivery, Lifecycle, type Session } from "../../gen/baton/v1/session_pb";
import { requestId } from "../../store/world";
import { Button } from "../../ui/bits";

const DRAFT = "baton-draft-";

function draft(id: string): string {
  try {
    return sessionStorage.getItem(DRAFT + id) ?? "";
  } catch {
    return "";
  }
}

function keep(id: string, text: string): void {
  try {
    if (text === "") sessionStorage.removeItem(DRAFT + id);
    else sessionStorage.setItem(DRAFT + id, text);
  } catch {
    // Then the draft lives as long as the page.
  }
}

export function Composer({ session }: { session: Session }) {
  const [text, setText] = useState(() => draft(session.id));
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState("");
  const area = useRef<HTMLTextAreaElement>(null);
  // A text that was sent and not heard of is sent again under the same id: it enters the queue once.
  const pending = useRef<{ id: string; text: string }>(undefined);
  const working = session.activity === Activity.WORKING || session.activity === Activity.AWAITING_PROMPT;
  const starting = session.lifecycle === Lifecycle.PENDING || session.lifecycle === Lifecycle.STARTING;
  const coarse = matchMedia("(pointer: coarse)").matches;

  useEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    element.style.height = `${Math.min(element.scrollHeight + 2, innerHeight * 0.35)}px`;
  }, [text]);

  const change = (next: string) => {
    setText(next);
    keep(session.id, next);
  };
  const send = (delivery: Delivery) => {
    if (text.trim() === "" || busy) return;
    if (pending.current?.text !== text) pending.current = { id: requestId(), text };
    setBusy(true);
    setFailure("");
    sessions
      .sendInput({ requestId: pending.current.id, sessionId: session.id, text, delivery })
      .then(
        () => {
          pending.current = undefined;
          change("");
        },
        (thrown: unknown) => {
          const found = problem(thrown);
          if (!found.maybeDone) pending.current = undefined;
          setFailure(found.maybeDone ? `${found.message} The text may have arrived; sending it again does not double it.` : found.message);
        },
      )
      .finally(() => {
        setBusy(false);
        area.current?.focus();
      });
  };
  const key = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    if (coarse && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    send(event.altKey && session.capabilities?.steer ? Delivery.STEER : Delivery.QUEUE);
  };
  const note = !session.attached ? "The machine is away: what you send waits for it." : starting ? "The agent starts: what you send waits." : "";
  return (
    <form
      className="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send(Delivery.QUEUE);
      }}
    >
      {failure && <p className="bad" role="alert">{failure}</p>}
      {note && <p className="dim">{note}</p>}
      <div className="composer-box">
        <textarea
          ref={area}
          rows={1}
          aria-label="Message to the agent"
          placeholder={session.activity === Activity.AWAITING_PROMPT ? "It waits for an answer" : working ? "Write what comes next" : "Write to the agent"}
          value={text}
          onChange={(event) => change(event.target.value)}
          onKeyDown={key}
        />
        {working && session.capabilities?.steer && (
          <Button disabled={text.trim() === "" || busy} title="Into the running turn (Alt+Enter)" onClick={() => send(Delivery.STEER)}>Steer</Button>
        )}
        <Button submit kind="primary" icon="send" busy={busy} disabled={text.trim() === ""}>{working || note ? "Queue" : "Send"}</Button>
      </div>
    </form>
  );
}
