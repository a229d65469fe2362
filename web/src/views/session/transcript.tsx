// The transcript: only what is near the viewport is in the page, whatever the length of the log. What is
// read stays where it is when something above it is loaded or grows; at the end, the end is followed.
import { memo, type RefObject, useCallback, useDeferredValue, useEffect, useImperativeHandle, useLayoutEffect, useMemo, useRef, useState } from "react";

import { flushSync } from "react-dom";

import type { Event } from "../../gen/baton/v1/event_pb";
import { useCell } from "../../store/cell";
import type { SessionLog } from "../../store/log";
import { Markdown } from "../../text/markdown";
import { Button, Failure, Loading } from "../../ui/bits";
import { Thinking } from "./content";
import { Layout } from "./layout";
import { type RowContext, RowView } from "./row";
import { home, rowsOf } from "./rows";
import { SEGMENT } from "../../store/log";

/** Drawn beyond the viewport, in px, each way. */
const OVERSCAN = 900;
/** Segments beyond what is drawn that are read before they are scrolled to, each way. */
const AHEAD = 3;
/** This near to the end counts as at the end, in px. */
const NEAR = 48;

export interface TranscriptHandle {
  jump: (seq: number) => void;
  bottom: () => void;
  scrollBy: (pages: number) => void;
}

interface Props {
  log: SessionLog;
  /** The event to open at; 0 opens at the end. */
  at: number;
  all: boolean;
  inspect: (event: Event) => void;
  handle: RefObject<TranscriptHandle | null>;
}

interface Anchor {
  seq: number;
  /** From the top of the viewport to the top of the row, in px. */
  offset: number;
  /** The row's segment. */
  segment: number;
  /** From the top of the segment to the top of the viewport, in px. */
  above: number;
}

export function Transcript({ log, at, all, inspect, handle }: Props) {
  useCell(log);
  const box = useRef<HTMLDivElement>(null);
  const layout = useMemo(() => new Layout(), []);
  const anchor = useRef<Anchor>(undefined);
  const follow = useRef(at === 0);
  const goal = useRef(at);
  const seen = useRef(0);
  const [view, setView] = useState({ top: 0, height: 800 });
  const [atEnd, setAtEnd] = useState(at === 0);
  const [target, setTarget] = useState(at);
  const [opened, setOpened] = useState<ReadonlyMap<number, boolean>>(new Map());
  const [, redraw] = useState(0);

  const first = log.firstSegment;
  const end = log.segmentCount;
  const total = layout.top(first, end);
  // Until the goal is drawn, the stretch around it is what is looked at.
  const goalSegment = goal.current > 0 ? clamp(Math.floor((goal.current - 1) / SEGMENT), first, Math.max(first, end - 1)) : undefined;
  // What is read decides where the viewport is, not the scroll bar: heights above it may just have become known.
  const held = anchor.current;
  const top =
    goalSegment !== undefined
      ? layout.top(first, goalSegment)
      : follow.current
        ? Math.max(0, total - view.height)
        : held
          ? layout.top(first, held.segment) + held.above
          : view.top;
  const range = layout.range(first, end, top - OVERSCAN, top + view.height + OVERSCAN);
  if (goalSegment !== undefined) {
    range.start = Math.min(range.start, Math.max(first, goalSegment - 1));
    range.end = Math.max(range.end, Math.min(end, goalSegment + 2));
  }
  const { start } = range;
  const stop = range.end;

  useEffect(() => {
    if (!log.known) return;
    const indices: number[] = [];
    for (let index = start; index < stop; index += 1) indices.push(index);
    const middle = goalSegment ?? (follow.current ? stop : (start + stop) / 2);
    indices.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle));
    for (let far = 0; far < AHEAD; far += 1) {
      if (start - 1 - far >= first) indices.push(start - 1 - far);
      if (stop + far < end) indices.push(stop + far);
    }
    log.want(indices);
  }, [log, log.version, start, stop, first, end, goalSegment]);

  const settle = useCallback(() => {
    const element = box.current;
    if (!element) return;
    if (goal.current > 0) {
      const row = rowAt(element, home(log, goal.current));
      const segment = Math.floor((goal.current - 1) / SEGMENT);
      if (row && log.complete(segment)) {
        element.scrollTop += row.getBoundingClientRect().top - element.getBoundingClientRect().top - element.clientHeight / 4;
        goal.current = 0;
        anchor.current = anchorOf(element);
        setTarget(Number(row.getAttribute("data-seq")));
      } else {
        element.scrollTop = layout.top(log.firstSegment, segment);
      }
    } else if (follow.current) {
      element.scrollTop = element.scrollHeight;
    } else if (anchor.current) {
      const row = element.querySelector(`[data-seq="${anchor.current.seq}"]`);
      if (row) {
        const moved = row.getBoundingClientRect().top - element.getBoundingClientRect().top - anchor.current.offset;
        if (Math.abs(moved) >= 1) element.scrollTop += moved;
      }
    } else {
      anchor.current = anchorOf(element);
    }
  }, [layout, log]);

  useLayoutEffect(settle);

  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const sizes = new ResizeObserver(() => {
      setView({ top: element.scrollTop, height: element.clientHeight });
    });
    sizes.observe(element);
    return () => sizes.disconnect();
  }, []);

  const measured = useCallback(
    (index: number, height: number) => {
      if (layout.measured(index, height)) {
        settle();
        redraw((n) => n + 1);
      }
    },
    [layout, settle],
  );

  const frame = useRef(0);
  const scrolled = () => {
    const element = box.current;
    if (!element || goal.current > 0) return;
    const near = element.scrollHeight - element.scrollTop - element.clientHeight < NEAR;
    follow.current = near;
    anchor.current = near ? undefined : anchorOf(element);
    if (near) seen.current = log.head;
    cancelAnimationFrame(frame.current);
    frame.current = requestAnimationFrame(() => {
      // In this frame and not after it: what is scrolled to is never painted empty.
      flushSync(() => {
        setAtEnd(near);
        setView({ top: element.scrollTop, height: element.clientHeight });
      });
    });
  };

  const jump = useCallback(
    (seq: number) => {
      goal.current = clamp(seq, log.first, Math.max(log.first, log.head));
      follow.current = false;
      anchor.current = undefined;
      setTarget(seq);
      setAtEnd(false);
      redraw((n) => n + 1);
    },
    [log],
  );
  const bottom = useCallback(() => {
    goal.current = 0;
    follow.current = true;
    seen.current = log.head;
    setAtEnd(true);
    redraw((n) => n + 1);
  }, [log]);
  useImperativeHandle(handle, () => ({
    jump,
    bottom,
    scrollBy: (pages) => box.current?.scrollBy({ top: pages * box.current.clientHeight * 0.8 }),
  }));

  const context = useMemo<RowContext>(
    () => ({
      log,
      open: new Map(),
      setOpen: (seq, open) => {
        // What a person opens stays where it was clicked.
        follow.current = false;
        if (box.current) anchor.current = anchorAt(box.current, seq);
        setOpened((known) => new Map(known).set(seq, open));
      },
      inspect,
    }),
    [log, inspect],
  );

  useEffect(() => {
    if (atEnd) seen.current = log.head;
  }, [atEnd, log, log.version]);

  const segments = [];
  for (let index = start; index < stop; index += 1) {
    const segment = log.segment(index);
    const ready = segment !== undefined && (log.complete(index) || (index === end - 1 && segment.count > 0));
    segments.push(
      ready ? (
        <SegmentView key={index} index={index} version={segment.version} context={context} all={all} target={target} opened={opened} measured={measured} />
      ) : (
        <Unloaded key={index} height={layout.height(index)} />
      ),
    );
  }
  const unseen = atEnd ? 0 : Math.max(0, log.head - seen.current);

  return (
    <div className="transcript-frame">
      <div className="transcript" ref={box} onScroll={scrolled} role="log" aria-label="Transcript" aria-live={atEnd ? "polite" : "off"} tabIndex={0}>
        <div className="transcript-inner">
          {!log.known && <Loading what="the transcript" />}
          {log.known && log.first > 1 && start === first && <p className="note">Older events were removed by retention; the log starts at {log.first}.</p>}
          <div aria-hidden="true" style={{ height: layout.top(first, start) }} />
          {segments}
          <div aria-hidden="true" style={{ height: Math.max(0, total - layout.top(first, stop)) }} />
          {log.failure !== undefined && <Failure thrown="A part of the transcript could not be loaded." retry={() => log.retry()} />}
          {stop >= end && <Live log={log} />}
        </div>
      </div>
      {!atEnd && (
        <div className="to-end">
          <Button icon="down" onClick={bottom} kind={unseen > 0 && seen.current > 0 ? "primary" : "plain"}>
            {unseen > 0 && seen.current > 0 ? `${unseen} new below` : "To the end"}
          </Button>
        </div>
      )}
    </div>
  );
}

interface SegmentProps {
  index: number;
  version: number;
  context: RowContext;
  all: boolean;
  target: number;
  opened: ReadonlyMap<number, boolean>;
  measured: (index: number, height: number) => void;
}

const SegmentView = memo(function SegmentView({ index, version, context, all, target, opened, measured }: SegmentProps) {
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const told = () => measured(index, element.getBoundingClientRect().height);
    told();
    const sizes = new ResizeObserver(told);
    sizes.observe(element);
    return () => sizes.disconnect();
  }, [index, measured, version, all]);
  const segment = context.log.segment(index);
  if (!segment) return null;
  return (
    <div className="segment" ref={box} data-segment={index}>
      {rowsOf(segment, context.log, all, target).map((row) => (
        <RowView
          key={row.seq}
          row={row}
          context={context}
          version={version}
          target={target >= row.seq && target < row.seq + Math.max(1, row.events.length)}
          opened={opened.get(row.seq)}
        />
      ))}
    </div>
  );
});

/** The place of what is still being read, as high as it will be. */
function Unloaded({ height }: { height: number }) {
  return <div className="unloaded" style={{ height }} aria-hidden="true" />;
}

function Live({ log }: { log: SessionLog }) {
  useCell(log);
  const blocks = log.liveBlocks();
  if (blocks.length === 0) return null;
  return (
    <article className="row agent live" aria-label="Agent, writing" aria-busy="true">
      {blocks.map((block) =>
        block.thinking ? (
          <Thinking key={`${block.messageId}/${block.block}`} text={block.text} streaming />
        ) : (
          <LiveMarkdown key={`${block.messageId}/${block.block}`} text={block.text} />
        ),
      )}
    </article>
  );
}

function LiveMarkdown({ text }: { text: string }) {
  // Reading the marks of a long text again for each piece may lag behind; the page does not.
  return <Markdown text={useDeferredValue(text)} />;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

/** The row that shows the event, or the last one before it. */
function rowAt(box: HTMLElement, seq: number): Element | undefined {
  let found: Element | undefined;
  for (const row of box.querySelectorAll("[data-seq]")) {
    if (Number(row.getAttribute("data-seq")) > seq) break;
    found = row;
  }
  return found ?? box.querySelector("[data-seq]") ?? undefined;
}

function anchorAt(box: HTMLElement, seq: number): Anchor | undefined {
  const row = box.querySelector(`[data-seq="${seq}"]`);
  return row ? anchorAtRow(box, row) : undefined;
}

function anchorAtRow(box: HTMLElement, row: Element): Anchor | undefined {
  const segment = row.closest("[data-segment]");
  if (!segment) return undefined;
  const { top } = box.getBoundingClientRect();
  return {
    seq: Number(row.getAttribute("data-seq")),
    offset: row.getBoundingClientRect().top - top,
    segment: Number(segment.getAttribute("data-segment")),
    above: top - segment.getBoundingClientRect().top,
  };
}

/** The first row that can be seen, if one can. */
function anchorOf(box: HTMLElement): Anchor | undefined {
  const { top, bottom } = box.getBoundingClientRect();
  for (const row of box.querySelectorAll("[data-seq]")) {
    const place = row.getBoundingClientRect();
    if (place.top > bottom) return undefined;
    if (place.bottom > top) return anchorAtRow(box, row);
  }
  return undefined;
}
