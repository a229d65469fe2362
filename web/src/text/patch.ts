// A patch as git writes it, as lines that can be shown.
import type { Line } from "./diff";

export interface FilePatch {
  path: string;
  /** What it was called before; empty if it was called the same or was not there. */
  from: string;
  kind: "changed" | "added" | "removed" | "renamed";
  binary: boolean;
  lines: Line[];
  added: number;
  removed: number;
}

/** A name as git writes it: with quotes and escapes where it has odd bytes. */
export function unquoted(name: string): string {
  if (!name.startsWith('"') || !name.endsWith('"') || name.length < 2) return name;
  const bytes: number[] = [];
  const named: Record<string, number> = { a: 7, b: 8, t: 9, n: 10, v: 11, f: 12, r: 13 };
  const inner = name.slice(1, -1);
  for (let at = 0; at < inner.length; at += 1) {
    const sign = inner.charAt(at);
    if (sign !== "\\") {
      bytes.push(...new TextEncoder().encode(String.fromCodePoint(inner.codePointAt(at) ?? 0)));
      if ((inner.codePointAt(at) ?? 0) > 0xffff) at += 1;
      continue;
    }
    const octal = /^[0-7]{3}/.exec(inner.slice(at + 1))?.[0];
    if (octal !== undefined) {
      bytes.push(parseInt(octal, 8) & 0xff);
      at += 3;
    } else {
      const next = inner.charAt(at + 1);
      bytes.push(named[next] ?? next.charCodeAt(0));
      at += 1;
    }
  }
  return new TextDecoder().decode(new Uint8Array(bytes));
}

/** A path of a `---` or `+++` line without its side; empty for no file. */
function sided(text: string): string {
  const name = unquoted(text.replace(/\t$/, ""));
  return name === "/dev/null" ? "" : name.replace(/^[ab]\//, "");
}

/** The files of a patch. What is cut off in the middle gives as much as is there. */
export function parsePatch(patch: string): FilePatch[] {
  const files: FilePatch[] = [];
  let file: FilePatch | undefined;
  let old = 0;
  let next = 0;
  // Lines that the hunk still has of each side: what looks like a header within it is text.
  let oldLeft = 0;
  let newLeft = 0;
  for (const line of patch.split("\n")) {
    if (file && (oldLeft > 0 || newLeft > 0)) {
      const text = line.slice(1);
      if (line.startsWith("+")) {
        file.lines.push({ kind: "added", text, old: 0, new: next });
        file.added += 1;
        next += 1;
        newLeft -= 1;
        continue;
      }
      if (line.startsWith("-")) {
        file.lines.push({ kind: "removed", text, old, new: 0 });
        file.removed += 1;
        old += 1;
        oldLeft -= 1;
        continue;
      }
      if (line.startsWith(" ") || line === "") {
        file.lines.push({ kind: "same", text, old, new: next });
        old += 1;
        next += 1;
        oldLeft -= 1;
        newLeft -= 1;
        continue;
      }
      // "\ No newline at end of file" belongs to the line before it.
      if (line.startsWith("\\")) continue;
      oldLeft = 0;
      newLeft = 0;
    }
    if (line.startsWith("diff --git ")) {
      file = { path: /^diff --git (?:a\/.*|"a\/.*") (?:b\/(.*)|("b\/.*"))$/.exec(line)?.slice(1).flatMap((one) => (one ? [sided(one.startsWith('"') ? one : `b/${one}`)] : []))[0] ?? "", from: "", kind: "changed", binary: false, lines: [], added: 0, removed: 0 };
      files.push(file);
      old = 0;
      next = 0;
      continue;
    }
    if (!file) continue;
    const hunk = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@/.exec(line);
    if (hunk) {
      const begins = Number(hunk[3]);
      const before = Math.max(0, next);
      const skipped = begins - Math.max(1, before);
      if (skipped > 0) file.lines.push({ kind: "skipped", text: String(skipped), old: 0, new: 0 });
      old = Number(hunk[1]);
      next = begins;
      oldLeft = Number(hunk[2] ?? 1);
      newLeft = Number(hunk[4] ?? 1);
    } else if (line.startsWith("+++ ")) file.path = sided(line.slice(4)) || file.path;
    else if (line.startsWith("--- ")) {
      const name = sided(line.slice(4));
      if (name !== "") file.path = name;
    } else if (line.startsWith("new file mode")) file.kind = "added";
    else if (line.startsWith("deleted file mode")) file.kind = "removed";
    else if (line.startsWith("rename from ")) {
      file.kind = "renamed";
      file.from = unquoted(line.slice(12));
    } else if (line.startsWith("rename to ")) file.path = unquoted(line.slice(10));
    else if (line.startsWith("Binary files ") || line.startsWith("GIT binary patch")) file.binary = true;
  }
  return files;
}
