// A person's seat at a terminal: the screen of xterm.js, what it shows by the stream, what is typed, and what a
// program may not do to the person by what it writes.
import { SearchAddon } from "@xterm/addon-search";
import { Unicode11Addon } from "@xterm/addon-unicode11";
import { WebLinksAddon } from "@xterm/addon-web-links";
import { type IDisposable, Terminal } from "@xterm/xterm";

import { terminals, terminalStreams } from "../api/transport";
import { Cell } from "../store/cell";
import { Places } from "../store/places";
import { Keyboard } from "./keyboard";
import { isFirstLook } from "./opened";
import { asksFirst, harmless } from "./paste";
import { type Display, type Size, type Source, TerminalStream } from "./stream";
import { matches, theme } from "./theme";

/** How many bytes may wait to be drawn before no more are asked for, and how few before there are. */
const OWED_MAX = 256 * 1024;
const OWED_LOW = 64 * 1024;
/** Lines that can be scrolled back to. */
const SCROLLBACK = 10_000;
/** The longest title that a program can give itself, in characters. */
const TITLE_MAX = 120;
/** Beside the screen: the bar to scroll with, and a margin, in px. */
const BAR = 14;
const FONT_MIN = 7;
/** How long the size of the view must stay before it is told, in ms. */
const SETTLE_MS = 80;
const HIDE_AFTER_MS = 5_000;

const places = new Places();

const source: Source = {
  open: (view, signal) => terminalStreams.watchTerminal({ view }, { signal }),
  visible: () => document.visibilityState === "visible",
  place: () => places.take(),
  random: Math.random,
  now: Date.now,
};

export class Seat extends Cell implements Display {
  readonly stream: TerminalStream;
  readonly mayType: boolean;
  /** What the program calls itself; text, nothing else. */
  title = "";
  /** The size that holds. */
  held: Size = { cols: 80, rows: 24 };
  /** The size that the view has room for; undefined before it is measured. */
  mine: Size | undefined;
  selected = false;
  /** A link that was clicked and is not followed yet. */
  link = "";
  /** A text of several lines that is not pasted yet. */
  pasted = "";
  /** What was not typed, and why. */
  notice = "";
  found: { index: number; count: number } | undefined;
  onFind: () => void = () => undefined;
  onLeave: () => void = () => undefined;

  private readonly id: string;
  private readonly term: Terminal;
  private readonly searcher = new SearchAddon();
  private readonly keyboard: Keyboard;
  private readonly undo: (() => void)[] = [];
  private host: HTMLElement | undefined;
  /** For each write that is not drawn yet: whether it was shown before. */
  private readonly writes: boolean[] = [];
  private owed = 0;
  private room: (() => void) | undefined;
  private font: number;
  /** How large a cell is at the person's own size of type. */
  private cell: { width: number; height: number } | undefined;
  private settle: ReturnType<typeof setTimeout> | undefined;
  private told = "";
  private exact = false;

  constructor(terminalId: string, mayType: boolean, font: number) {
    super();
    this.id = terminalId;
    this.mayType = mayType;
    this.font = font;
    this.term = new Terminal({
      allowProposedApi: true,
      // A viewer's keys go nowhere, and its screen answers no program.
      disableStdin: !mayType,
      cursorBlink: false,
      cursorInactiveStyle: "outline",
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono") || "monospace",
      fontSize: font,
      scrollback: SCROLLBACK,
      minimumContrastRatio: 4.5,
      smoothScrollDuration: 0,
      macOptionIsMeta: true,
      theme: theme(),
      linkHandler: { activate: (_event, url) => this.ask(url), allowNonHttpProtocols: false },
    });
    this.stream = new TerminalStream(terminalId, source, this, isFirstLook(terminalId));
    this.keyboard = new Keyboard(
      (data) => terminals.writeTerminal({ terminalId, data, viewerId: this.stream.viewerId }),
      (why) => this.say(why),
    );
    this.term.loadAddon(new Unicode11Addon());
    this.term.unicode.activeVersion = "11";
    this.term.loadAddon(this.searcher);
    this.term.loadAddon(new WebLinksAddon((_event, url) => this.ask(url)));
    this.hear();
    this.forbid();
  }

  /** Takes its seat in an element, and begins. */
  sit(host: HTMLElement): void {
    this.host = host;
    this.term.open(host);
    this.term.textarea?.setAttribute("aria-label", this.mayType ? "Terminal: type here. Ctrl+Shift+L leaves it" : "Terminal");
    const sizes = new ResizeObserver(() => this.fit());
    sizes.observe(host);
    this.undo.push(() => sizes.disconnect());
    this.listen(host, "paste", (event) => this.paste(event));
    let hide: ReturnType<typeof setTimeout> | undefined;
    this.listen(document, "visibilitychange", () => {
      clearTimeout(hide);
      if (document.visibilityState === "visible") this.stream.retry();
      else hide = setTimeout(() => this.stream.again(), HIDE_AFTER_MS);
    });
    this.listen(window, "online", () => this.stream.retry());
    this.listen(window, "offline", () => this.stream.again());
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    const again = () => this.recolour();
    scheme.addEventListener("change", again);
    this.undo.push(() => scheme.removeEventListener("change", again), () => clearTimeout(hide));
    this.fit();
    // The size may have changed while there was no stream to be told of it by.
    this.undo.push(this.stream.subscribe(() => this.tell()));
    this.stream.start();
  }

  leave(): void {
    this.stream.close();
    for (const undo of this.undo) undo();
    clearTimeout(this.settle);
    this.room?.();
    this.term.dispose();
  }

  focus(): void {
    this.term.focus();
  }

  recolour(): void {
    this.term.options.theme = theme();
  }

  /** The person's own size of type, in px. */
  setFont(font: number): void {
    if (font === this.font) return;
    this.font = font;
    this.term.options.fontSize = font;
    this.cell = undefined;
    this.fit();
  }

  readAloud(on: boolean): void {
    this.term.options.screenReaderMode = on;
  }

  // What the stream draws on.

  async show(data: Uint8Array, replay: boolean): Promise<void> {
    this.owed += data.length;
    this.writes.push(replay);
    this.term.write(data, () => {
      this.writes.shift();
      this.owed -= data.length;
      if (this.owed <= OWED_LOW) this.room?.();
    });
    if (this.owed <= OWED_MAX) return;
    await new Promise<void>((done) => (this.room = done));
    this.room = undefined;
  }

  clear(): void {
    // Behind what is still to be drawn, so that nothing of it is left.
    this.term.write("\x1bc");
    this.writes.push(true);
    this.term.write("", () => this.writes.shift());
  }

  resize(size: Size): void {
    this.held = size;
    this.shrink();
    if (size.cols !== this.term.cols || size.rows !== this.term.rows) this.term.resize(size.cols, size.rows);
    this.changed();
  }

  size(): Size | undefined {
    return this.mayType ? this.mine : undefined;
  }

  // What a person does.

  /** Types text as if it came from the keys. */
  type(text: string): void {
    this.term.input(text, true);
  }

  confirmPaste(yes: boolean): void {
    const text = this.pasted;
    this.pasted = "";
    this.changed();
    if (yes) this.term.paste(text);
    this.focus();
  }

  dropLink(): void {
    this.link = "";
    this.changed();
    this.focus();
  }

  dropNotice(): void {
    this.say("");
  }

  selection(): string {
    return this.term.getSelection();
  }

  /** All that can be scrolled to, as text. */
  everything(): string {
    const buffer = this.term.buffer.active;
    const lines: string[] = [];
    for (let at = 0; at < buffer.length; at += 1) {
      const line = buffer.getLine(at);
      if (!line) continue;
      const text = line.translateToString(!buffer.getLine(at + 1)?.isWrapped);
      if (line.isWrapped && lines.length > 0) lines[lines.length - 1] += text;
      else lines.push(text);
    }
    return lines.join("\n").trimEnd();
  }

  find(words: string, options: { back: boolean; exact: boolean; typing: boolean }): void {
    if (words === "") {
      this.searcher.clearDecorations();
      this.found = undefined;
      this.changed();
      return;
    }
    // What was found in the other way is not found anew by the search itself.
    if (options.exact !== this.exact) this.searcher.clearDecorations();
    this.exact = options.exact;
    const how = { caseSensitive: options.exact, incremental: options.typing, decorations: matches() };
    if (options.back) this.searcher.findPrevious(words, how);
    else this.searcher.findNext(words, how);
  }

  endFind(): void {
    this.searcher.clearDecorations();
    this.found = undefined;
    this.focus();
  }

  // How it works.

  private hear(): void {
    const { term } = this;
    const encoder = new TextEncoder();
    term.onData((text) => this.send(encoder.encode(text)));
    // Reports of the mouse in its oldest form, which are no UTF-8.
    term.onBinary((text) => this.send(Uint8Array.from(text, (one) => one.charCodeAt(0) & 0xff)));
    term.onTitleChange((title) => {
      this.title = title.slice(0, TITLE_MAX);
      this.changed();
    });
    term.onSelectionChange(() => {
      this.selected = term.hasSelection();
      this.changed();
    });
    this.searcher.onDidChangeResults(({ resultIndex, resultCount }) => {
      this.found = { index: resultIndex, count: resultCount };
      this.changed();
    });
    term.attachCustomKeyEventHandler((event) => {
      if (!event.ctrlKey || !event.shiftKey || event.altKey || event.metaKey) return true;
      const acts: Record<string, () => void> = { KeyC: () => this.onCopy(), KeyF: () => this.onFind(), KeyL: () => this.onLeave() };
      const act = acts[event.code];
      if (!act) return true;
      event.preventDefault();
      if (event.type === "keydown") act();
      return false;
    });
  }

  onCopy: () => void = () => undefined;

  private send(data: Uint8Array): void {
    if (!this.mayType) return;
    const { kind } = this.stream.phase;
    if (kind === "over" || kind === "refused") return;
    if (kind === "waiting") {
      this.say("The server cannot be reached: what you type now is not kept.");
      return;
    }
    if (this.notice !== "") this.say("");
    this.keyboard.type(data);
  }

  /**
   * What a program writes must not make the terminal type, or reach beyond its screen. Its questions (what are you,
   * where is the cursor, which colours) are answered by one who sits at it, and only once: not when what it wrote is
   * shown again. The clipboard is not its business.
   */
  private forbid(): void {
    const { parser } = this.term;
    const silent = () => (this.writes[0] ?? true) || !this.sits();
    const asks = (final: string, prefix?: string, intermediates?: string) => parser.registerCsiHandler({ final, ...(prefix && { prefix }), ...(intermediates && { intermediates }) }, silent);
    const rules: IDisposable[] = [
      asks("c"), asks("c", ">"), asks("c", "="), asks("n"), asks("n", "?"), asks("p", undefined, "$"), asks("p", "?", "$"), asks("q", ">"), asks("x"), asks("t"), asks("u", "?"),
      parser.registerDcsHandler({ intermediates: "$", final: "q" }, silent),
      parser.registerDcsHandler({ intermediates: "+", final: "q" }, silent),
      ...[4, 10, 11, 12].map((code) => parser.registerOscHandler(code, (data) => data.includes("?") && silent())),
      // Neither written nor read.
      parser.registerOscHandler(52, () => true),
    ];
    this.undo.push(() => rules.forEach((rule) => rule.dispose()));
  }

  /** Whether the person sits at this terminal now. */
  private sits(): boolean {
    return document.hasFocus() && this.host?.contains(document.activeElement) === true;
  }

  private paste(event: Event): void {
    event.preventDefault();
    event.stopPropagation();
    if (!this.mayType || !(event instanceof ClipboardEvent)) return;
    const text = harmless(event.clipboardData?.getData("text/plain") ?? "");
    if (text === "") return;
    if (asksFirst(text, this.term.modes.bracketedPasteMode)) {
      this.pasted = text;
      this.changed();
    } else this.term.paste(text);
  }

  private ask(url: string): void {
    if (!/^https?:\/\//i.test(url)) return;
    this.link = url;
    this.changed();
  }

  private say(notice: string): void {
    this.notice = notice;
    this.changed();
  }

  /** Measures what the view has room for, and tells the server when it has changed. */
  private fit(): void {
    const { host, term } = this;
    const screen = term.element?.querySelector(".xterm-screen");
    if (!host || !screen || host.clientWidth === 0) return;
    if (!this.cell && term.options.fontSize === this.font) {
      const { width, height } = screen.getBoundingClientRect();
      if (width === 0) return;
      this.cell = { width: width / term.cols, height: height / term.rows };
    }
    if (!this.cell) return;
    const style = getComputedStyle(host);
    const width = host.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - BAR;
    const height = host.clientHeight - parseFloat(style.paddingTop) - parseFloat(style.paddingBottom);
    const bound = (room: number, one: number) => Math.min(1_000, Math.max(2, Math.floor(room / one)));
    const mine = { cols: bound(width, this.cell.width), rows: bound(height, this.cell.height) };
    if (mine.cols !== this.mine?.cols || mine.rows !== this.mine.rows) {
      this.mine = mine;
      this.changed();
      clearTimeout(this.settle);
      this.settle = setTimeout(() => this.tell(), SETTLE_MS);
    }
    this.shrink();
  }

  /** Tells the server the size of the view. */
  private tell(): void {
    const { viewerId, phase } = this.stream;
    const size = this.size();
    if (!size || viewerId === "" || phase.kind !== "live") return;
    const news = `${viewerId}: ${size.cols} ${size.rows}`;
    if (news === this.told) return;
    this.told = news;
    // A viewer that is gone, or a machine that is away, learns it when the stream begins anew.
    terminals.resizeTerminal({ terminalId: this.id, viewerId, size }).catch(() => (this.told = ""));
  }

  /** A screen that is larger than the view is drawn smaller, as far as it can be read; the rest is scrolled. */
  private shrink(): void {
    const { mine, held, font } = this;
    if (!mine || !this.cell) return;
    const part = Math.min(1, mine.cols / held.cols, mine.rows / held.rows);
    const size = Math.max(Math.min(FONT_MIN, font), Math.floor(font * part * 2) / 2);
    if (this.term.options.fontSize !== size) this.term.options.fontSize = size;
  }

  private listen(on: EventTarget, name: string, call: (event: Event) => void): void {
    on.addEventListener(name, call, true);
    this.undo.push(() => on.removeEventListener(name, call, true));
  }
}
