// Numbers, times and names for people.
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { TokenScope } from "../gen/baton/v1/access_pb";
import type { Actor, Usage } from "../gen/baton/v1/common_pb";
import { PermissionMode } from "../gen/baton/v1/common_pb";
import { Activity, EndReason, type HarnessCapabilities, Lifecycle, type Session, SessionMode } from "../gen/baton/v1/session_pb";

export function ms(time: Timestamp | undefined): number {
  return time ? Number(time.seconds) * 1000 + Math.floor(time.nanos / 1e6) : 0;
}

export function ago(then: number, now: number): string {
  const seconds = Math.max(0, Math.round((now - then) / 1000));
  if (seconds < 5) return "now";
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h`;
  const days = Math.floor(hours / 24);
  return days < 30 ? `${days} d` : new Date(then).toLocaleDateString();
}

export function span(millis: number): string {
  if (millis < 1000) return `${Math.round(millis)} ms`;
  const seconds = millis / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function clock(millis: number): string {
  return new Date(millis).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

export function moment(millis: number): string {
  return millis === 0 ? "" : new Date(millis).toLocaleString();
}

export function count(value: number | bigint): string {
  const n = Number(value);
  if (n < 1000) return String(n);
  if (n < 1_000_000) return `${(n / 1000).toFixed(n < 10_000 ? 1 : 0)}k`;
  return `${(n / 1_000_000).toFixed(1)}M`;
}

export function bytes(value: number | bigint): string {
  const n = Number(value);
  if (n < 1024) return `${n} B`;
  if (n < 1024 * 1024) return `${(n / 1024).toFixed(n < 10_240 ? 1 : 0)} KiB`;
  return `${(n / 1024 / 1024).toFixed(1)} MiB`;
}

/** What the harness states; without a statement nothing is claimed. */
export function cost(usage: Usage | undefined): string {
  const micros = Number(usage?.costMicroUsd ?? 0n);
  if (micros === 0) return "";
  const usd = micros / 1e6;
  return usd < 0.01 ? "< $0.01" : `$${usd.toFixed(2)}`;
}

/** Millionths of a US dollar, to the cent; below one, as exact as they are. */
export function money(micros: bigint): string {
  if (micros > 0n && micros < 10_000n) return `$${(Number(micros) / 1e6).toFixed(6).replace(/0+$/, "")}`;
  return (Number(micros) / 1e6).toLocaleString("en-US", { style: "currency", currency: "USD" });
}

export function tokens(usage: Usage | undefined): string {
  if (!usage) return "";
  const read = Number(usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens);
  const wrote = Number(usage.outputTokens);
  return read + wrote === 0 ? "" : `${count(read)} in, ${count(wrote)} out`;
}

export function who(actor: Actor | undefined): string {
  return actor?.name ?? actor?.id ?? "";
}

export function short(id: string): string {
  return id.slice(-6);
}

export const LIFECYCLE: Record<Lifecycle, string> = {
  [Lifecycle.UNSPECIFIED]: "unknown",
  [Lifecycle.PENDING]: "pending",
  [Lifecycle.STARTING]: "starting",
  [Lifecycle.RUNNING]: "running",
  [Lifecycle.STOPPING]: "stopping",
  [Lifecycle.SUSPENDED]: "suspended",
  [Lifecycle.ENDED]: "ended",
};

export const ACTIVITY: Record<Activity, string> = {
  [Activity.UNSPECIFIED]: "",
  [Activity.WORKING]: "working",
  [Activity.AWAITING_INPUT]: "waits for input",
  [Activity.AWAITING_PROMPT]: "waits for an answer",
  [Activity.UNKNOWN]: "activity unknown",
};

export const REASON: Record<EndReason, string> = {
  [EndReason.UNSPECIFIED]: "ended",
  [EndReason.COMPLETED]: "completed",
  [EndReason.STOPPED]: "stopped by a person",
  [EndReason.RESUMED]: "continued in another session",
  [EndReason.FAILED]: "failed",
  [EndReason.CRASHED]: "crashed",
  [EndReason.TIMEOUT]: "took too long",
  [EndReason.LIMIT]: "reached a limit",
  [EndReason.RATE_LIMITED]: "turned away by the provider",
  [EndReason.LOST]: "lost: its machine did not come back",
  [EndReason.CANCELED]: "ended before it began",
};

export const MODE: Record<PermissionMode, string> = {
  [PermissionMode.UNSPECIFIED]: "ask",
  [PermissionMode.ASK]: "ask",
  [PermissionMode.AUTO_SAFE]: "auto-safe",
  [PermissionMode.AUTO]: "auto",
  [PermissionMode.DENY]: "deny",
};

export const MODES: readonly { mode: PermissionMode; says: string }[] = [
  { mode: PermissionMode.ASK, says: "every request becomes a prompt" },
  { mode: PermissionMode.AUTO_SAFE, says: "tools that only read pass, others ask" },
  { mode: PermissionMode.AUTO, says: "everything is allowed; questions still ask" },
  { mode: PermissionMode.DENY, says: "everything is refused without asking" },
];

export type Tone = "wait" | "work" | "idle" | "off" | "bad";

/** The tone of a session, for its mark: what a person should look at stands out. */
export function tone(session: Session): Tone {
  if (session.lifecycle === Lifecycle.ENDED) {
    const bad = [EndReason.FAILED, EndReason.CRASHED, EndReason.LOST, EndReason.TIMEOUT, EndReason.LIMIT, EndReason.RATE_LIMITED];
    return session.end && bad.includes(session.end.reason) ? "bad" : "off";
  }
  if (session.pendingPrompts > 0 || session.activity === Activity.AWAITING_PROMPT) return "wait";
  if (session.lifecycle === Lifecycle.RUNNING && session.activity === Activity.WORKING) return "work";
  if (session.lifecycle === Lifecycle.SUSPENDED) return "off";
  return session.lifecycle === Lifecycle.RUNNING ? "idle" : "work";
}

/** One word for the three facts; the facts themselves stand beside it. */
export function word(session: Session): string {
  if (session.lifecycle === Lifecycle.ENDED) return session.end ? REASON[session.end.reason] : "ended";
  if (session.pendingPrompts > 0) return session.pendingPrompts === 1 ? "asks you" : `asks you (${session.pendingPrompts})`;
  // What a program in a terminal is about is known from its screen only.
  if (session.mode === SessionMode.INTERACTIVE && session.activity === Activity.UNKNOWN && session.lifecycle === Lifecycle.RUNNING) return "running";
  if (session.lifecycle === Lifecycle.RUNNING) return ACTIVITY[session.activity] || "running";
  return LIFECYCLE[session.lifecycle];
}

export function living(session: Session): boolean {
  return session.lifecycle !== Lifecycle.ENDED;
}

/** What a harness can do beyond taking texts, in words. */
export function abilities(can: HarnessCapabilities | undefined): string {
  if (!can) return "";
  const words: [boolean, string][] = [
    [can.permission, "permissions"],
    [can.question, "questions"],
    [can.plan, "plans"],
    [can.interrupt, "interrupt"],
    [can.steer, "steer"],
    [can.resume, "resume"],
    [can.fork, "branch off"],
    [can.modelSwitch, "model switch"],
    [can.modeSwitch, "mode switch"],
  ];
  return words.flatMap(([on, word]) => (on ? [word] : [])).join(", ");
}

/** A path with the end kept, which says more. */
export function tail(path: string): string {
  const parts = path.split("/").filter(Boolean);
  return parts.length <= 2 ? path : `…/${parts.slice(-2).join("/")}`;
}

export const SCOPES: Record<TokenScope, string> = {
  [TokenScope.UNSPECIFIED]: "nothing",
  [TokenScope.ADMIN]: "admin",
  [TokenScope.OPERATOR]: "operator",
  [TokenScope.VIEWER]: "viewer",
  [TokenScope.DAEMON]: "machine",
  [TokenScope.JOIN]: "join",
};
