// Inputs that wait for the agent: seen, changed, moved and taken back.
import { useEffect, useState } from "react";

import { complain, Button } from "../../ui/bits";
import { sessions } from "../../api/transport";
import { type Input, InputState, type Session } from "../../gen/baton/v1/session_pb";
import { who } from "../../text/format";

export function Queue({ session, may }: { session: Session; may: boolean }) {
  const [inputs, setInputs] = useState<Input[]>([]);
  const [editing, setEditing] = useState<string>();
  const [round, setRound] = useState(0);
  const waiting = session.queuedInputs;
  // The record of the session changes with every change of its queue.
  const { id, etag } = session;
  useEffect(() => {
    if (waiting === 0) return;
    let left = false;
    sessions.listInputs({ sessionId: id, states: [InputState.QUEUED], pageSize: 100 }).then(
      (answer) => {
        if (!left) setInputs(answer.inputs);
      },
      () => undefined,
    );
    return () => {
      left = true;
    };
  }, [id, etag, waiting, round]);
  const queued = waiting === 0 ? [] : inputs.filter((input) => input.state === InputState.QUEUED);
  if (queued.length === 0) return null;
  const again = () => setRound((n) => n + 1);
  const change = (action: Promise<unknown>) => void action.then(again, (thrown: unknown) => (complain(thrown), again()));
  return (
    <section className="queue" aria-label="Queue">
      <h2>Waits for the agent ({queued.length})</h2>
      <ol>
        {queued.map((input, at) => (
          <li key={input.id}>
            {editing === input.id ? (
              <Edit
                input={input}
                close={() => setEditing(undefined)}
                save={(text) => change(sessions.updateInput({ sessionId: session.id, inputId: input.id, text, etag: input.etag }).then(() => setEditing(undefined)))}
              />
            ) : (
              <>
                <span className="queue-text" title={input.text}>{input.text}</span>
                <span className="dim queue-by">{who(input.actor)}</span>
                {may && (
                  <span className="queue-buttons">
                    <Button small kind="quiet" icon="up" label="Earlier" disabled={at === 0} onClick={() => change(sessions.moveInput({ sessionId: session.id, inputId: input.id, position: at }))} />
                    <Button small kind="quiet" icon="down" label="Later" disabled={at === queued.length - 1} onClick={() => change(sessions.moveInput({ sessionId: session.id, inputId: input.id, position: at + 2 }))} />
                    <Button small kind="quiet" icon="edit" label="Change" onClick={() => setEditing(input.id)} />
                    <Button small kind="quiet" icon="close" label="Take back" onClick={() => change(sessions.withdrawInput({ sessionId: session.id, inputId: input.id }))} />
                  </span>
                )}
              </>
            )}
          </li>
        ))}
      </ol>
    </section>
  );
}

function Edit({ input, save, close }: { input: Input; save: (text: string) => void; close: () => void }) {
  const [text, setText] = useState(input.text);
  return (
    <form
      className="queue-edit"
      onSubmit={(event) => {
        event.preventDefault();
        if (text.trim() !== "") save(text);
      }}
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <textarea aria-label="The waiting text" autoFocus rows={2} value={text} onChange={(event) => setText(event.target.value)} />
      <Button small submit kind="primary">Save</Button>
      <Button small kind="quiet" onClick={close}>Back</Button>
    </form>
  );
}
