// A list of any length in a box that scrolls: only the rows that are near to what is seen are there.
import { type ReactNode, useEffect, useLayoutEffect, useRef, useState } from "react";

/** Rows kept beyond each edge. */
const BEYOND = 6;

interface Props<T> {
  items: readonly T[];
  /** The height of a row, in rem. */
  rows: number;
  label: string;
  id: (item: T) => string;
  children: (item: T, at: number) => ReactNode;
  /** Called when the end is near. */
  end?: () => void;
  /** Whether there may be more than what is here. */
  open?: boolean;
  /** Brings a row into view, whenever this becomes another. */
  reveal?: { at: number };
  className?: string;
}

export function Windowed<T>(props: Props<T>) {
  const { items, end, reveal } = props;
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState({ top: 0, height: 800, row: 80 });
  const { rows } = props;
  useLayoutEffect(() => {
    const element = box.current;
    if (!element) return;
    const look = () => {
      const row = rows * parseFloat(getComputedStyle(document.documentElement).fontSize);
      setSeen({ top: element.scrollTop, height: element.clientHeight, row });
    };
    look();
    const sizes = new ResizeObserver(look);
    sizes.observe(element);
    element.addEventListener("scroll", look, { passive: true });
    return () => {
      sizes.disconnect();
      element.removeEventListener("scroll", look);
    };
  }, [rows]);
  useLayoutEffect(() => {
    const element = box.current;
    if (!element || reveal === undefined || reveal.at < 0) return;
    const top = reveal.at * seen.row;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + seen.row > element.scrollTop + element.clientHeight) element.scrollTop = top + seen.row - element.clientHeight;
    // Only a new wish scrolls: what a person scrolls away stays away.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [reveal]);
  const first = Math.max(0, Math.floor(seen.top / seen.row) - BEYOND);
  const last = Math.min(items.length, Math.ceil((seen.top + seen.height) / seen.row) + BEYOND);
  useEffect(() => {
    if (last >= items.length) end?.();
  }, [last, items.length, end]);
  return (
    <div className={`windowed${props.className ? ` ${props.className}` : ""}`} ref={box}>
      <div role="list" aria-label={props.label} className="windowed-all" style={{ height: items.length * seen.row }}>
        {items.slice(first, last).map((item, at) => (
          <div
            key={props.id(item)}
            role="listitem"
            className="windowed-row"
            aria-posinset={first + at + 1}
            aria-setsize={props.open ? -1 : items.length}
            style={{ top: (first + at) * seen.row, height: seen.row }}
          >
            {props.children(item, first + at)}
          </div>
        ))}
      </div>
    </div>
  );
}
