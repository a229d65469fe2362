// How a program ended, in words.
import { type EndInfo, EndReason } from "../../gen/baton/v1/session_pb";
import { REASON } from "../../text/format";

const SIGNALS: Record<number, string> = { 1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM" };

/** The same in as few words as a list has room for. */
export function endShort(end: EndInfo | undefined): string {
  if (end && end.signal > 0) return SIGNALS[end.signal] ?? `signal ${end.signal}`;
  return end?.exitCode === undefined ? REASON[end?.reason ?? EndReason.UNSPECIFIED] : `exit code ${end.exitCode}`;
}

export function endWords(end: EndInfo | undefined): string {
  if (!end) return "The program has ended.";
  const why = end.reason === EndReason.COMPLETED || end.reason === EndReason.FAILED || end.reason === EndReason.UNSPECIFIED ? "" : ` (${REASON[end.reason]})`;
  if (end.signal > 0) return `The program was ended by ${SIGNALS[end.signal] ?? "signal"} ${end.signal}${why}.`;
  if (end.exitCode !== undefined) return `The program ended with exit code ${end.exitCode}${why}.`;
  return end.message === "" ? `The program has ended${why}.` : `${end.message}${why}`;
}
