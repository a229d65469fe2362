// What agents are called by people, and what one does now.
import type { Agent, AgentSettings } from "../../gen/baton/v1/agent_pb";
import { StewardFocus } from "../../gen/baton/v1/agent_pb";
import { AgentRole, type Session, WorkerMode } from "../../gen/baton/v1/session_pb";
import { records } from "../../store/world";
import { living } from "../../text/format";
import { Dot } from "../../ui/bits";
import { Detached, State } from "../facts";

export const ROLES: readonly { role: AgentRole; name: string; many: string; says: string }[] = [
  { role: AgentRole.DIRECTOR, name: "director", many: "Directors", says: "talks with a person, plans, makes tasks" },
  { role: AgentRole.WORKER, name: "worker", many: "Workers", says: "does tasks" },
  { role: AgentRole.STEWARD, name: "steward", many: "Stewards", says: "looks after something" },
];

export const WORKER: Record<WorkerMode, string> = {
  [WorkerMode.UNSPECIFIED]: "ephemeral",
  [WorkerMode.EPHEMERAL]: "ephemeral",
  [WorkerMode.PERSISTENT]: "persistent",
};

export const FOCUS: Record<StewardFocus, string> = {
  [StewardFocus.UNSPECIFIED]: "what its instructions say",
  [StewardFocus.MERGE]: "merges",
  [StewardFocus.DOCS]: "documentation",
  [StewardFocus.RECOVERY]: "work that is stuck",
  [StewardFocus.CUSTOM]: "what its instructions say",
};

/** Its role, with what belongs to it. */
export function roleOf(agent: Agent): string {
  const settings = agent.settings;
  const name = ROLES.find(({ role }) => role === settings?.role)?.name ?? "agent";
  if (settings?.role === AgentRole.WORKER) return `${name}, ${WORKER[settings.workerMode]}`;
  if (settings?.role === AgentRole.STEWARD) return [name, ...stewards(settings)].join(", ");
  return name;
}

/** What a steward looks after, if it is something that has a name, and what starts it. */
function stewards({ focus, triggers }: AgentSettings): string[] {
  const isNamed = ![StewardFocus.UNSPECIFIED, StewardFocus.CUSTOM].includes(focus);
  const has = (kind: "cron" | "event") => triggers.some(({ on }) => on.case === kind);
  const by = [has("cron") && "by time", has("event") && "by events"].filter((one) => one !== false);
  return [isNamed && FOCUS[focus], by.length > 0 && `starts ${by.join(" and ")}`].filter((one) => one !== false);
}

export function nameOf(agent: Agent): string {
  return agent.settings?.name ?? agent.id;
}

/** The session that runs; empty if it is idle. What is known of the session may be newer than what is of the agent. */
export function activeId(agent: Agent): string {
  const session = records.sessions.get(agent.activeSessionId);
  return session && !living(session) ? "" : agent.activeSessionId;
}

export function activeOf(agent: Agent): Session | undefined {
  return records.sessions.get(activeId(agent));
}

/** Whether a person should look: first in every list. */
export function asks(agent: Agent): boolean {
  return (activeOf(agent)?.pendingPrompts ?? 0) > 0;
}

/** What it does now, in a word. */
export function AgentState({ agent }: { agent: Agent }) {
  const session = activeOf(agent);
  if (session) return <><State session={session} /> <Detached session={session} /></>;
  if (activeId(agent) !== "") return <span className="state-word work"><Dot tone="work" />runs</span>;
  if (agent.settings?.disabled) return <span className="state-word"><Dot tone="off" />disabled</span>;
  return <span className="state-word"><Dot tone="off" />idle</span>;
}
