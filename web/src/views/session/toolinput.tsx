// What a tool is called with, in the form people read: a command, a change of a file, an address.
import { useMemo } from "react";

import { Code, languageOf } from "../../text/code";
import { diff, folded, type Line } from "../../text/diff";
import { Visible } from "../../text/hidden";

export type Fields = Record<string, unknown>;

export function parse(json: string | undefined): unknown {
  if (json === undefined || json === "") return undefined;
  try {
    return JSON.parse(json);
  } catch {
    return json;
  }
}

export function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** One line that says what the call is about. */
export function gist(tool: string, input: unknown): string {
  const given = fields(input);
  const file = text(given.file_path) || text(given.path) || text(given.notebook_path);
  if (tool === "Bash") return text(given.command).split("\n")[0] ?? "";
  if (text(given.pattern)) return file ? `${text(given.pattern)} in ${file}` : text(given.pattern);
  if (tool === "TodoWrite") return "";
  const first = Object.values(given).find((value) => typeof value === "string");
  return file || text(given.url) || text(given.query) || text(given.description) || (text(first).split("\n")[0] ?? "");
}

interface Edit {
  before: string;
  after: string;
}

function edits(tool: string, given: Fields): Edit[] {
  if (tool === "Write") return [{ before: "", after: text(given.content) }];
  if (tool === "Edit") return [{ before: text(given.old_string), after: text(given.new_string) }];
  if (tool === "MultiEdit" && Array.isArray(given.edits)) {
    return given.edits.map((edit) => ({ before: text(fields(edit).old_string), after: text(fields(edit).new_string) }));
  }
  return [];
}

export function isEdit(tool: string): boolean {
  return ["Write", "Edit", "MultiEdit"].includes(tool);
}

/** How many lines a call adds and removes. */
export function changed(tool: string, input: unknown): { added: number; removed: number } | undefined {
  if (!isEdit(tool)) return undefined;
  const all = edits(tool, fields(input)).flatMap((edit) => diff(edit.before, edit.after));
  return {
    added: all.filter((line) => line.kind === "added").length,
    removed: all.filter((line) => line.kind === "removed").length,
  };
}

const MARK = { same: " ", added: "+", removed: "−", skipped: "" };
/** Lines of a diff that are shown before a person asks for more. */
const DIFF_MAX = 400;

export function DiffView({ before, after, path }: { before: string; after: string; path: string }) {
  const lines = useMemo(() => folded(diff(before, after)), [before, after]);
  return <DiffLines lines={lines} path={path} />;
}

export function DiffLines({ lines, path }: { lines: Line[]; path: string }) {
  const shown = lines.slice(0, DIFF_MAX);
  return (
    <div className="diff" tabIndex={0} role="group" aria-label={path === "" ? "changes" : `changes of ${path}`}>
      <table>
        <tbody>
          {shown.map((line, at) => (
            <DiffLine key={at} line={line} />
          ))}
        </tbody>
      </table>
      {lines.length > shown.length && <p className="dim diff-more">{lines.length - shown.length} more lines</p>}
    </div>
  );
}

function DiffLine({ line }: { line: Line }) {
  if (line.kind === "skipped") {
    return (
      <tr className="skipped">
        <td colSpan={4}>{line.text} unchanged lines</td>
      </tr>
    );
  }
  return (
    <tr className={line.kind}>
      <td className="number">{line.old || ""}</td>
      <td className="number">{line.new || ""}</td>
      <td className="mark">
        {MARK[line.kind]}
        {line.kind !== "same" && <span className="visually-hidden">{line.kind}</span>}
      </td>
      <td className="line">
        <Visible text={line.text} />
      </td>
    </tr>
  );
}

/** The whole input. */
export function ToolInput({ tool, input }: { tool: string; input: unknown }) {
  const given = fields(input);
  if (tool === "Bash" && text(given.command)) {
    const rest = Object.fromEntries(Object.entries(given).filter(([key]) => !["command", "description"].includes(key)));
    return (
      <>
        {text(given.description) && <p className="dim"><Visible text={text(given.description)} /></p>}
        <Code text={text(given.command)} language="bash" visible />
        <Facts of={rest} />
      </>
    );
  }
  if (isEdit(tool)) {
    const path = text(given.file_path);
    return (
      <>
        <p className="path"><Visible text={path} /></p>
        {edits(tool, given).map((edit, at) => (
          <DiffView key={at} before={edit.before} after={edit.after} path={path} />
        ))}
      </>
    );
  }
  if (Object.keys(given).length === 0) {
    return input === undefined ? null : <Code text={typeof input === "string" ? input : JSON.stringify(input, null, 2)} language="json" visible />;
  }
  return <Facts of={given} />;
}

function Facts({ of }: { of: Fields }) {
  const entries = Object.entries(of);
  if (entries.length === 0) return null;
  return (
    <dl className="facts">
      {entries.map(([key, value]) => {
        const shown = typeof value === "string" ? value : JSON.stringify(value, null, 2);
        const long = shown.length > 120 || shown.includes("\n");
        return (
          <div key={key} className={long ? "long" : undefined}>
            <dt><Visible text={key} /></dt>
            <dd>{long ? <Code text={shown} language="" visible /> : <Visible text={shown} />}</dd>
          </div>
        );
      })}
    </dl>
  );
}

export function resultLanguage(tool: string, input: unknown): string {
  if (tool !== "Read") return "";
  return languageOf(text(fields(input).file_path));
}
