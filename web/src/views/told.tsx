// What the server says in sentences: ids in it become names, and times those of this place.
import type { ReactNode } from "react";

import { records } from "../store/world";
import { moment, short } from "../text/format";
import { Visible } from "../text/hidden";
import { Link } from "../ui/route";

const PARTS = /((?:ses|agt|tsk|bgt)_[0-9A-Z]{26}|\d{4}-\d\d-\d\dT[\d:]+(?:\.\d+)?Z|`[^`]+`)/;

/** A capital at the beginning, and an end. */
export function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? "" : "."}`;
}

/** What an id is called, and where it leads. */
function place(id: string): { name: string; to: string } | undefined {
  switch (id.slice(0, 4)) {
    case "ses_":
      return { name: records.sessions.get(id)?.title || short(id), to: `/sessions/${id}` };
    case "agt_":
      return { name: records.agents.get(id)?.settings?.name ?? short(id), to: `/agents/${id}` };
    case "tsk_":
      return { name: short(id), to: `/tasks/${id}` };
    case "bgt_":
      return { name: short(id), to: `/budgets/${id}` };
    default:
      return undefined;
  }
}

function part(text: string, plain: boolean): ReactNode {
  const found = place(text);
  if (found) return plain ? <Visible text={found.name} /> : <Link to={found.to}><Visible text={found.name} /></Link>;
  return text.startsWith("`") ? <code>{text.slice(1, -1)}</code> : moment(new Date(text).getTime());
}

/** `plain`: without links. */
export function Told({ text, plain = false }: { text: string; plain?: boolean }) {
  // Every second piece is what the pattern found.
  return <>{text.split(PARTS).map((piece, at) => <span key={at}>{at % 2 === 1 ? part(piece, plain) : <Visible text={piece} />}</span>)}</>;
}
