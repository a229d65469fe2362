// Text that an agent is writing right now. It is not part of the log: the finished text replaces it.
import type { Block } from "../gen/baton/v1/common_pb";
import type { Event, MessageDelta } from "../gen/baton/v1/event_pb";

export interface LiveBlock {
  messageId: string;
  block: number;
  thinking: boolean;
  text: string;
}

interface Held extends LiveBlock {
  /** Length of the text in bytes of UTF-8, which is what offsets count. */
  bytes: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
/** What is missing because updates were dropped. */
export const MISSING = "\u2026";

/** Whether a finished part can be what this is the beginning of, or pieces of. */
function isSaidBy(held: LiveBlock, said: Block): boolean {
  const { kind } = said;
  const [first = "", ...others] = held.text.split(MISSING);
  // Of what is kept beside the log only the first characters are known, and not whether it is thinking.
  if (kind.case === "content") return kind.value.head.startsWith(first) || first.startsWith(kind.value.head);
  if (kind.case === undefined || (kind.case === "thinking") !== held.thinking) return false;
  if (!kind.value.startsWith(first)) return false;
  let from = first.length;
  return others.every((piece) => {
    const at = kind.value.indexOf(piece, from);
    from = at + piece.length;
    return at >= 0;
  });
}

export class LiveText {
  private readonly blocks = new Map<string, Held>();

  /** Takes a delta in; says whether anything changed. */
  take(delta: MessageDelta): boolean {
    const key = `${delta.messageId}/${delta.block}`;
    const offset = Number(delta.offset);
    let held = this.blocks.get(key);
    if (!held || offset === 0) {
      held = { messageId: delta.messageId, block: delta.block, thinking: delta.thinking, text: "", bytes: 0 };
      if (offset > 0) held.text = MISSING;
    } else if (offset < held.bytes) {
      const kept = encoder.encode(held.text).subarray(0, offset);
      held = { ...held, text: decoder.decode(kept), bytes: offset };
    } else if (offset > held.bytes) {
      held = { ...held, text: `${held.text}${MISSING}` };
    }
    const text = held.text + delta.text;
    this.blocks.set(key, { ...held, text, bytes: offset + encoder.encode(delta.text).length });
    return delta.text !== "" || offset === 0;
  }

  /** Drops what an event of the log now says for good; says whether anything changed. */
  settle(event: Event): boolean {
    const body = event.body;
    if (body.case === "turnEnded" || body.case === "ended" || body.case === "turnStarted") return this.clear();
    if (body.case !== "message") return false;
    const before = this.blocks.size;
    for (const said of body.value.blocks) {
      // Told by its text: a short part may never have been here, while the next already is.
      const same = this.of(body.value.messageId);
      const found = same.find((held) => isSaidBy(held, said));
      if (!found) continue;
      // Parts come in order: whatever is before this one is finished too.
      for (const held of same) if (held.block <= found.block) this.blocks.delete(`${held.messageId}/${held.block}`);
    }
    return this.blocks.size !== before;
  }

  clear(): boolean {
    const had = this.blocks.size > 0;
    this.blocks.clear();
    return had;
  }

  all(): LiveBlock[] {
    return [...this.blocks.values()].filter((held) => held.text !== "");
  }

  private of(messageId: string): Held[] {
    return [...this.blocks.values()].filter((held) => held.messageId === messageId).sort((a, b) => a.block - b.block);
  }
}
