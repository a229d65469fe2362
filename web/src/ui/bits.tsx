// Small pieces that every view uses.
import { type ReactNode, useEffect, useId, useRef, useState } from "react";

import { problem, type Problem } from "../api/problem";
import { requestId } from "../api/transport";
import { Cell, useCell } from "../store/cell";
import { ago, moment } from "../text/format";
import { Icon, type IconName } from "./icons";

/** One clock for all times on the page. */
class Clock extends Cell {
  now = Date.now();
  constructor() {
    super();
    setInterval(() => {
      if (document.visibilityState !== "visible") return;
      this.now = Date.now();
      this.changed();
    }, 5_000);
  }
}
const clock = new Clock();

export function Ago({ at, prefix }: { at: number; prefix?: string }) {
  useCell(clock);
  if (at === 0) return null;
  const text = ago(at, Math.max(clock.now, Date.now()));
  return (
    <time dateTime={new Date(at).toISOString()} title={moment(at)}>
      {prefix === "for " && text === "now" ? "just now" : `${prefix ?? ""}${text}`}
    </time>
  );
}

export function Seconds({ until }: { until: number }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, []);
  return <>{Math.max(0, Math.ceil((until - now) / 1000))} s</>;
}

interface ButtonProps {
  children?: ReactNode;
  icon?: IconName;
  label?: string;
  kind?: "plain" | "primary" | "danger" | "quiet";
  busy?: boolean;
  disabled?: boolean;
  pressed?: boolean;
  expanded?: boolean;
  small?: boolean;
  shortcut?: string;
  submit?: boolean;
  title?: string;
  onClick?: () => void;
}

export function Button(props: ButtonProps) {
  const { kind = "plain", busy = false } = props;
  const bare = props.children === undefined;
  return (
    <button
      type={props.submit ? "submit" : "button"}
      className={`button ${kind}${props.small ? " small" : ""}${bare ? " bare" : ""}`}
      disabled={props.disabled || busy}
      aria-busy={busy || undefined}
      aria-pressed={props.pressed}
      aria-expanded={props.expanded}
      aria-label={props.label}
      aria-keyshortcuts={props.shortcut}
      title={props.title ?? (bare ? props.label : undefined)}
      onClick={props.onClick}
    >
      {props.icon && <Icon name={props.icon} />}
      {props.children !== undefined && <span>{props.children}</span>}
      {props.shortcut && <kbd aria-hidden="true">{props.shortcut}</kbd>}
    </button>
  );
}

export function CopyButton({ text, label = "Copy" }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  return (
    <button
      type="button"
      className="copy"
      aria-label={done ? "Copied" : label}
      title={done ? "Copied" : label}
      onClick={() => {
        copy(text).then(
          () => {
            setDone(true);
            setTimeout(() => setDone(false), 1500);
          },
          () => toast("The browser does not let this page copy.", "bad"),
        );
      }}
    >
      <Icon name={done ? "check" : "copy"} />
    </button>
  );
}

/** On a plain-HTTP address that is not this machine there is no clipboard API; a selection still works. */
export async function copy(text: string): Promise<void> {
  if ("clipboard" in navigator) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea");
  area.value = text;
  document.body.append(area);
  area.select();
   
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("copy was refused");
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <div className="loading" role="status">
      <span className="visually-hidden">Loading {what}</span>
      <i />
      <i />
      <i />
    </div>
  );
}

export function Failure({ thrown, retry }: { thrown: unknown; retry?: () => void }) {
  return (
    <div className="failure" role="alert">
      <p>{typeof thrown === "string" ? thrown : problem(thrown).message}</p>
      {retry && <Button onClick={retry}>Try again</Button>}
    </div>
  );
}

export function Dot({ tone }: { tone: string }) {
  return <span className={`dot ${tone}`} aria-hidden="true" />;
}

export function Badge({ children, tone = "", title }: { children: ReactNode; tone?: string; title?: string }) {
  return (
    <span className={`badge ${tone}`} title={title}>
      {children}
    </span>
  );
}

/** A dialog of the browser's own: it keeps the focus inside and closes with Escape. */
export function Dialog({ title, close, children, wide }: { title: string; close: () => void; children: ReactNode; wide?: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const element = dialog.current;
    if (!element || element.open) return;
    element.showModal();
    return () => element.close();
  }, []);
  return (
    <dialog
      ref={dialog}
      aria-labelledby={id}
      className={wide ? "wide" : undefined}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onMouseDown={(event) => {
        if (event.target === dialog.current) close();
      }}
    >
      <div className="dialog-body">
        <header>
          <h2 id={id}>{title}</h2>
          <Button icon="close" label="Close" kind="quiet" onClick={close} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

export function Field({ label, hint, children }: { label: string; hint?: ReactNode; children: (id: string) => ReactNode }) {
  const id = useId();
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      {children(id)}
      {hint !== undefined && hint !== "" && <p className="hint">{hint}</p>}
    </div>
  );
}

/** Buttons behind a button; Escape and a click elsewhere close it. */
export function Menu({ label, icon, name, children }: { label: string; icon: IconName; name?: string; children: (close: () => void) => ReactNode }) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event) => {
      if (event.target instanceof Node && !box.current?.contains(event.target)) setOpen(false);
    };
    const escape = (event: KeyboardEvent) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      setOpen(false);
      box.current?.querySelector("button")?.focus();
    };
    document.addEventListener("pointerdown", outside);
    document.addEventListener("keydown", escape, true);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("keydown", escape, true);
    };
  }, [open]);
  return (
    <div className="menu" ref={box}>
      <Button icon={icon} label={label} kind="quiet" expanded={open} onClick={() => setOpen(!open)}>{name}</Button>
      {open && <div className="menu-items">{children(() => setOpen(false))}</div>}
    </div>
  );
}

interface Toast {
  id: number;
  text: string;
  tone: string;
}

class Toasts extends Cell {
  list: Toast[] = [];
  private next = 1;

  add(text: string, tone: string): void {
    const toast = { id: this.next, text, tone };
    this.next += 1;
    // The oldest makes room.
    this.list = [...this.list.slice(-3), toast];
    this.changed();
    setTimeout(() => this.remove(toast.id), tone === "bad" ? 10_000 : 5_000);
  }

  remove(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
    this.changed();
  }
}
const toasts = new Toasts();

export function toast(text: string, tone: "good" | "bad" = "good"): void {
  toasts.add(text, tone);
}

/** Says what went wrong with something a person asked for. */
export function complain(thrown: unknown): void {
  const { message, maybeDone } = problem(thrown);
  toast(maybeDone ? `${message} It may have been done all the same.` : message, "bad");
}

export function ToastList() {
  useCell(toasts);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {toasts.list.map((item) => (
        <div key={item.id} className={`toast ${item.tone}`}>
          <span>{item.text}</span>
          <Button icon="close" label="Dismiss" kind="quiet" small onClick={() => toasts.remove(item.id)} />
        </div>
      ))}
    </div>
  );
}

/** Runs something a person asked for: busy while it runs, and told if it fails. */
export function useAction(): [boolean, (action: () => Promise<void>) => void] {
  const [busy, setBusy] = useState(false);
  const running = useRef(false);
  const run = (action: () => Promise<void>) => {
    if (running.current) return;
    running.current = true;
    setBusy(true);
    action()
      .catch(complain)
      .finally(() => {
        running.current = false;
        setBusy(false);
      });
  };
  return [busy, run];
}

/**
 * Runs a change that a dialog asks for and keeps what was refused, to be shown where it was asked. What may have been
 * done although no answer came is repeated under the same id, and done once.
 */
export function useAttempt(): { busy: boolean; refused: Problem | undefined; clear: () => void; run: (action: (requestId: string) => Promise<void>) => void } {
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState<Problem>();
  const [id, setId] = useState(requestId);
  const run = (action: (requestId: string) => Promise<void>) => {
    if (busy) return;
    setBusy(true);
    setRefused(undefined);
    action(id)
      .then(
        () => setId(requestId()),
        (thrown: unknown) => {
          const found = problem(thrown);
          if (!found.maybeDone) setId(requestId());
          setRefused(found);
        },
      )
      .finally(() => setBusy(false));
  };
  return { busy, refused, clear: () => setRefused(undefined), run };
}

/** What was refused, in a form. `says` are the words, where they are more than text. */
export function Refused({ by, says, children }: { by: Problem | undefined; says?: ReactNode; children?: ReactNode }) {
  if (!by) return null;
  return (
    <div className="refused" role="alert">
      <p>{says ?? by.message}{by.maybeDone && " It may have been done all the same; trying again does it once."}</p>
      {children}
    </div>
  );
}
