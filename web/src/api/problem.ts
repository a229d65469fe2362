// What went wrong, for people and for code: the server's reason and whether something may have been done.
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

export interface Problem {
  /** The server's reason, such as PROMPT_ANSWERED; empty if the server was not reached. */
  reason: string;
  /** A sentence for people. */
  message: string;
  /** Facts beside the reason. */
  details: ReadonlyMap<string, string>;
  code: Code;
  /** Whether the action may have been done although this came back. */
  maybeDone: boolean;
}

export function problem(thrown: unknown): Problem {
  const error = ConnectError.from(thrown);
  const info = errorInfo(error);
  const unreached = [Code.Unavailable, Code.Unknown].includes(error.code) && info.reason === "";
  const timedOut = error.code === Code.DeadlineExceeded;
  return {
    reason: info.reason,
    message: unreached ? "The server cannot be reached." : timedOut ? "The server did not answer in time." : sentence(error.rawMessage),
    details: info.metadata,
    code: error.code,
    maybeDone: unreached || timedOut || error.code === Code.Canceled,
  };
}

function sentence(text: string): string {
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(first) || first === "" ? first : `${first}.`;
}

/** Reads google.rpc.ErrorInfo {reason = 1, domain = 2, metadata = 3} from an error's details. */
function errorInfo(error: ConnectError): { reason: string; metadata: Map<string, string> } {
  const found = { reason: "", metadata: new Map<string, string>() };
  for (const detail of error.details) {
    if (!("type" in detail) || detail.type !== "google.rpc.ErrorInfo" || !(detail.value instanceof Uint8Array)) continue;
    try {
      const reader = new BinaryReader(detail.value);
      while (reader.pos < reader.len) {
        const [field, wire] = reader.tag();
        if (field === 1 && wire === WireType.LengthDelimited) found.reason = reader.string();
        else if (field === 3 && wire === WireType.LengthDelimited) entry(reader.bytes(), found.metadata);
        else reader.skip(wire, field);
      }
    } catch {
      // Details that cannot be read leave the message, which says it in words.
    }
  }
  return found;
}

function entry(bytes: Uint8Array, into: Map<string, string>): void {
  const reader = new BinaryReader(bytes);
  let key = "";
  let value = "";
  while (reader.pos < reader.len) {
    const [field, wire] = reader.tag();
    if (field === 1) key = reader.string();
    else if (field === 2) value = reader.string();
    else reader.skip(wire, field);
  }
  into.set(key, value);
}
