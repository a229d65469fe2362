// What changed between two texts, line by line.

export interface Line {
  kind: "same" | "added" | "removed" | "skipped";
  text: string;
  /** Line numbers from 1; 0 where the side has no such line. */
  old: number;
  new: number;
}

/** Beyond this many steps the whole middle counts as replaced. */
const STEPS_MAX = 800;
/** Unchanged lines shown around a change. */
const CONTEXT = 3;

function lines(text: string): string[] {
  if (text === "") return [];
  const all = text.split("\n");
  if (all.at(-1) === "") all.pop();
  return all;
}

/** The shortest edit, by Myers' greedy algorithm. */
export function diff(before: string, after: string): Line[] {
  const a = lines(before);
  const b = lines(after);
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end += 1;
  const out: Line[] = [];
  for (let at = 0; at < start; at += 1) out.push({ kind: "same", text: a[at] ?? "", old: at + 1, new: at + 1 });
  out.push(...middle(a.slice(start, a.length - end), b.slice(start, b.length - end), start));
  for (let at = end; at > 0; at -= 1) {
    out.push({ kind: "same", text: a[a.length - at] ?? "", old: a.length - at + 1, new: b.length - at + 1 });
  }
  return out;
}

function middle(a: string[], b: string[], offset: number): Line[] {
  const removed = (at: number): Line => ({ kind: "removed", text: a[at] ?? "", old: at + offset + 1, new: 0 });
  const added = (at: number): Line => ({ kind: "added", text: b[at] ?? "", old: 0, new: at + offset + 1 });
  const trace = search(a, b);
  if (!trace) return [...a.map((_, at) => removed(at)), ...b.map((_, at) => added(at))];
  const back: Line[] = [];
  let x = a.length;
  let y = b.length;
  for (let d = trace.length - 1; d >= 0; d -= 1) {
    const v = trace[d] ?? new Map<number, number>();
    const k = x - y;
    const down = k === -d || (k !== d && (v.get(k - 1) ?? -1) < (v.get(k + 1) ?? -1));
    const from = down ? k + 1 : k - 1;
    const fromX = v.get(from) ?? 0;
    const fromY = fromX - from;
    while (x > fromX && y > fromY && x > 0 && y > 0) {
      x -= 1;
      y -= 1;
      back.push({ kind: "same", text: a[x] ?? "", old: x + offset + 1, new: y + offset + 1 });
    }
    if (d > 0) {
      if (down) back.push(added(fromY));
      else back.push(removed(fromX));
    }
    x = fromX;
    y = fromY;
  }
  return back.reverse();
}

function search(a: string[], b: string[]): Map<number, number>[] | undefined {
  const trace: Map<number, number>[] = [];
  let v = new Map<number, number>([[1, 0]]);
  for (let d = 0; d <= Math.min(a.length + b.length, STEPS_MAX); d += 1) {
    trace.push(new Map(v));
    const next = new Map(v);
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && (v.get(k - 1) ?? -1) < (v.get(k + 1) ?? -1));
      let x = down ? (v.get(k + 1) ?? 0) : (v.get(k - 1) ?? 0) + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      next.set(k, x);
      if (x >= a.length && x - k >= b.length) return trace;
    }
    v = next;
  }
  return undefined;
}

/** The same with long unchanged parts left out. */
export function folded(all: Line[]): Line[] {
  const near = new Array<boolean>(all.length).fill(false);
  all.forEach((line, at) => {
    if (line.kind === "same") return;
    for (let i = Math.max(0, at - CONTEXT); i <= Math.min(all.length - 1, at + CONTEXT); i += 1) near[i] = true;
  });
  const out: Line[] = [];
  let skipped = 0;
  all.forEach((line, at) => {
    if (near[at]) {
      if (skipped > 0) out.push({ kind: "skipped", text: String(skipped), old: 0, new: 0 });
      skipped = 0;
      out.push(line);
    } else skipped += 1;
  });
  if (skipped > 0) out.push({ kind: "skipped", text: String(skipped), old: 0, new: 0 });
  return out;
}
