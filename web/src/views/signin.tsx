// Who is not signed in: what to do about it.
import { useState } from "react";

import { codeOf } from "../store/code";
import { auth } from "../store/world";
import { Button, Field } from "../ui/bits";
import { Mark } from "../ui/mark";

export function SignIn({ why }: { why: string }) {
  const [text, setText] = useState("");
  const [refused, setRefused] = useState("");
  const [busy, setBusy] = useState(false);
  const code = codeOf(text);
  const submit = async () => {
    if (code === undefined) return;
    setBusy(true);
    const problem = await auth.exchange(code);
    setBusy(false);
    if (problem === undefined) await auth.check();
    else setRefused(problem);
  };
  return (
    <main className="signin" id="main">
      <Mark />
      <h1>Sign in to Baton</h1>
      {(refused || why) && <p className="bad" role="alert">{refused || why}</p>}
      <p>Open the link that <code>baton up</code> or <code>baton serve</code> printed. It signs one browser in, once.</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <Field label="Or paste the link here" hint={text !== "" && code === undefined ? "There is no code in this." : ""}>
          {(id) => <input id={id} value={text} autoComplete="off" spellCheck={false} onChange={(event) => setText(event.target.value)} />}
        </Field>
        <Button submit kind="primary" busy={busy} disabled={code === undefined}>Sign in</Button>
      </form>
    </main>
  );
}
