// A terminal: what its program shows, and what a person types into it.
import "@xterm/xterm/css/xterm.css";
import "../../styles/terminal.css";

import { type ReactNode, useEffect, useRef, useState } from "react";

import { terminals } from "../../api/transport";
import { Lifecycle, type Session } from "../../gen/baton/v1/session_pb";
import { TerminalSizePolicy } from "../../gen/baton/v1/terminal_pb";
import { useCell } from "../../store/cell";
import { settings } from "../../store/settings";
import { auth } from "../../store/world";
import { Seat } from "../../terminal/seat";
import { bytes } from "../../text/format";
import { Visible } from "../../text/hidden";
import { Badge, Button, complain, copy, Dialog, Menu, Seconds, toast } from "../../ui/bits";
import { endWords } from "./words";

interface Props {
  session: Session;
  finding: boolean;
  setFinding: (finding: boolean) => void;
  /** What can be done when the program has ended. */
  over: ReactNode;
}

export default function TerminalPane({ session, finding, setFinding, over }: Props) {
  const { terminalId } = session;
  const mayType = auth.operator;
  useCell(settings);
  const { terminalFont: font, terminalReader: reader } = settings.value;
  // One seat for as long as the pane is there.
  const [seat] = useState(() => new Seat(terminalId, mayType, font));
  useCell(seat);
  useCell(seat.stream);
  const host = useRef<HTMLDivElement>(null);
  const bar = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!host.current) return;
    seat.sit(host.current);
    seat.focus();
    return () => seat.leave();
  }, [seat]);
  useEffect(() => seat.setFont(font), [seat, font]);
  useEffect(() => seat.recolour());
  useEffect(() => seat.readAloud(reader), [seat, reader]);
  useEffect(() => {
    seat.onFind = () => setFinding(true);
    seat.onLeave = () => bar.current?.querySelector<HTMLElement>("button, select")?.focus();
    seat.onCopy = () => copySelection(seat);
  }, [seat, setFinding]);
  const { phase, missing, exit } = seat.stream;
  const ended = phase.kind === "over";
  return (
    <section className="terminal-view" aria-label="Terminal" data-phase={phase.kind}>
      <div className="terminal-bar" ref={bar}>
        <span className="terminal-title clip" title="What the program calls itself">{seat.title !== "" && <Visible text={seat.title} />}</span>
        {!mayType && <Badge title="Your sign-in may only look.">read only</Badge>}
        <SizeFact seat={seat} session={session} mayType={mayType && !ended} />
        {seat.selected && <Button small kind="quiet" icon="copy" onClick={() => copySelection(seat)} title="Ctrl+Shift+C">Copy</Button>}
        <Menu label="Terminal" icon="settings">
          {(close) => (
            <>
              <div className="terminal-font">
                <span>Type {font} px</span>
                <Button small label="Smaller type" disabled={font <= 8} onClick={() => settings.set({ terminalFont: font - 1 })}>−</Button>
                <Button small label="Larger type" disabled={font >= 24} onClick={() => settings.set({ terminalFont: font + 1 })}>+</Button>
              </div>
              <Button kind="quiet" icon="copy" onClick={() => (close(), copyText(seat, seat.everything()))}>Copy everything</Button>
              <label className="check">
                <input type="checkbox" checked={reader} onChange={(event) => settings.set({ terminalReader: event.target.checked })} /> For screen readers
              </label>
              <dl className="facts keys">
                <div><dt><kbd>Ctrl+Shift+C</kbd></dt><dd>copy what is marked</dd></div>
                <div><dt><kbd>Ctrl+Shift+F</kbd></dt><dd>find</dd></div>
                <div><dt><kbd>Ctrl+Shift+L</kbd></dt><dd>leave the terminal for the buttons</dd></div>
                <div><dt><kbd>Shift+PageUp</kbd></dt><dd>scroll back</dd></div>
              </dl>
            </>
          )}
        </Menu>
      </div>
      {finding && <Find seat={seat} close={() => (setFinding(false), seat.endFind())} />}
      {missing > 0n && (
        <p className="terminal-note warn" role="status">
          {bytes(missing)} of what it showed are missing here: it wrote faster than they were read, and they are no longer kept.
        </p>
      )}
      {phase.kind === "waiting" && (
        <p className="terminal-note warn" role="status">
          {phase.why} The program goes on; what it shows comes when the server is back. Trying again in <Seconds until={phase.until} />
          <Button small onClick={() => seat.stream.retry()}>Now</Button>
        </p>
      )}
      {phase.kind === "refused" && <p className="terminal-note bad" role="alert">{phase.why}</p>}
      {seat.notice !== "" && (
        <p className="terminal-note bad" role="alert">
          <span>{seat.notice}</span>
          <Button small kind="quiet" icon="close" label="Dismiss" onClick={() => seat.dropNotice()} />
        </p>
      )}
      <div className="terminal-area" ref={host} />
      {mayType && !ended && <Keys seat={seat} />}
      {ended && (
        <div className="terminal-end" role="status">
          <p className="terminal-end-words">{endWords(exit?.end)}{exit?.lifecycle === Lifecycle.SUSPENDED && <> It waits to be resumed.</>}</p>
          {over}
        </div>
      )}
      {seat.link !== "" && <LinkDialog seat={seat} url={seat.link} />}
      {seat.pasted !== "" && <PasteDialog seat={seat} text={seat.pasted} />}
    </section>
  );
}

function copyText(seat: Seat, text: string): void {
  if (text === "") return;
  copy(text).then(
    () => (toast("Copied."), seat.focus()),
    () => toast("The browser does not let this page copy.", "bad"),
  );
}

function copySelection(seat: Seat): void {
  copyText(seat, seat.selection());
}

/** The size that holds, where it is not this view's own, and whose it is to be. */
function SizeFact({ seat, session, mayType }: { seat: Seat; session: Session; mayType: boolean }) {
  const { held, mine } = seat;
  const [policy, setPolicy] = useState(TerminalSizePolicy.UNSPECIFIED);
  const { terminalId } = session;
  useEffect(() => {
    let left = false;
    terminals.getTerminal({ terminalId }).then(
      ({ terminal }) => {
        if (!left && terminal) setPolicy(terminal.sizePolicy);
      },
      // The select then shows that it does not know.
      () => undefined,
    );
    return () => {
      left = true;
    };
  }, [terminalId, held.cols, held.rows]);
  const foreign = mine !== undefined && (mine.cols !== held.cols || mine.rows !== held.rows);
  return (
    <>
      <span className={`terminal-size ${foreign ? "warn" : "dim"}`} title={foreign && mine ? `This view has room for ${mine.cols}×${mine.rows}. ${policy === TerminalSizePolicy.TYPIST ? "Who typed last has this size." : "The smallest view has this size."}` : "columns × rows"}>
        {held.cols}×{held.rows}{foreign && " not yours"}
      </span>
      {mayType && (
        <select
          aria-label="Whose size holds"
          value={policy}
          onChange={(event) => {
            const sizePolicy = Number(event.target.value) as TerminalSizePolicy;
            terminals.resizeTerminal({ terminalId, sizePolicy }).then(() => setPolicy(sizePolicy), complain);
          }}
        >
          {policy === TerminalSizePolicy.UNSPECIFIED && <option value={TerminalSizePolicy.UNSPECIFIED}>size of …</option>}
          <option value={TerminalSizePolicy.SMALLEST}>size of the smallest</option>
          <option value={TerminalSizePolicy.TYPIST}>size of who types</option>
        </select>
      )}
    </>
  );
}

function Find({ seat, close }: { seat: Seat; close: () => void }) {
  const [words, setWords] = useState("");
  const [exact, setExact] = useState(false);
  const look = (back: boolean) => seat.find(words, { back, exact, typing: false });
  return (
    <div className="find" role="search">
      <input
        type="search"
        autoFocus
        aria-label="Find in the terminal"
        value={words}
        onChange={(event) => {
          setWords(event.target.value);
          seat.find(event.target.value, { back: true, exact, typing: true });
        }}
        onKeyDown={(event) => {
          if (event.key === "Escape") close();
          else if (event.key === "Enter") look(!event.shiftKey);
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      />
      <span className="find-count" role="status">
        {words !== "" && seat.found && (seat.found.count === 0 ? "nothing" : seat.found.index < 0 ? `${seat.found.count}` : `${seat.found.index + 1} of ${seat.found.count}`)}
      </span>
      <Button small kind="quiet" icon="up" label="Earlier (Enter)" onClick={() => look(true)} />
      <Button small kind="quiet" icon="down" label="Later (Shift+Enter)" onClick={() => look(false)} />
      <label className="check">
        <input
          type="checkbox"
          checked={exact}
          onChange={(event) => {
            setExact(event.target.checked);
            seat.find(words, { back: true, exact: event.target.checked, typing: true });
          }}
        /> exact case
      </label>
      <Button small kind="quiet" icon="close" label="Close" onClick={close} />
    </div>
  );
}

/** Keys that a phone's keyboard has not; shown where fingers point. */
const KEYS: readonly [string, string][] = [["Esc", "\x1b"], ["Tab", "\t"], ["Ctrl+C", "\x03"], ["Ctrl+D", "\x04"], ["←", "\x1b[D"], ["↑", "\x1b[A"], ["↓", "\x1b[B"], ["→", "\x1b[C"]];

function Keys({ seat }: { seat: Seat }) {
  return (
    <div className="terminal-keys" role="group" aria-label="Keys">
      {KEYS.map(([name, text]) => (
        <Button key={name} small onClick={() => (seat.type(text), seat.focus())}>{name}</Button>
      ))}
    </div>
  );
}

function parse(url: string): URL | undefined {
  try {
    return new URL(url);
  } catch {
    return undefined;
  }
}

function LinkDialog({ seat, url }: { seat: Seat; url: string }) {
  const parsed = parse(url);
  const close = () => seat.dropLink();
  return (
    <Dialog title="Open this link?" close={close}>
      <p>The program shows it. It leads to <b><Visible text={parsed?.host ?? "nowhere"} /></b>:</p>
      <p className="terminal-url mono"><Visible text={url} /></p>
      {parsed && parsed.href !== url && parsed.href !== `${url}/` && <p className="terminal-url mono dim"><Visible text={parsed.href} /></p>}
      <div className="buttons">
        {parsed && <a className="button primary" href={parsed.href} target="_blank" rel="noopener noreferrer" referrerPolicy="no-referrer" onClick={close}>Open in a new tab</a>}
        <Button icon="copy" onClick={() => (copyText(seat, url), close())}>Copy it</Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}

function PasteDialog({ seat, text }: { seat: Seat; text: string }) {
  const lines = text.split("\n").length;
  const close = () => seat.confirmPaste(false);
  return (
    <Dialog title={`Paste ${lines} lines?`} close={close} wide>
      <p>The program did not ask to be told of pastes: each line may run as soon as it arrives.</p>
      <pre className="terminal-paste" tabIndex={0} aria-label="What would be pasted"><Visible text={text.slice(0, 20_000)} /></pre>
      {text.length > 20_000 && <p className="dim">and {text.length - 20_000} more characters</p>}
      <div className="buttons">
        <Button kind="primary" onClick={() => seat.confirmPaste(true)}>Paste them</Button>
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}
