// The records of sessions, prompts, daemons, agents and worktrees as the server last told them.
import type { Agent } from "../gen/baton/v1/agent_pb";
import type { Change } from "../gen/baton/v1/event_pb";
import type { Daemon } from "../gen/baton/v1/daemon_pb";
import { type Prompt, PromptState } from "../gen/baton/v1/prompt_pb";
import { Lifecycle, type Session } from "../gen/baton/v1/session_pb";
import { type Worktree, WorktreeState } from "../gen/baton/v1/worktree_pb";
import { ms } from "../text/format";
import { Cell } from "./cell";

/** Ended sessions, settled prompts and archived worktrees beyond this many are forgotten, the oldest first. */
const KEPT_MAX = 5_000;

export class Records extends Cell {
  readonly sessions = new Map<string, Session>();
  readonly prompts = new Map<string, Prompt>();
  readonly daemons = new Map<string, Daemon>();
  readonly agents = new Map<string, Agent>();
  readonly worktrees = new Map<string, Worktree>();
  /** The last revision that was taken in; 0 before the first. */
  revision = 0n;
  /** Whether all that was there at the start has come. */
  complete = false;

  apply(changes: readonly Change[]): void {
    for (const change of changes) {
      const { record } = change;
      if (record.case === "session") this.sessions.set(record.value.id, record.value);
      else if (record.case === "prompt") this.putPrompt(record.value);
      else if (record.case === "daemon") this.daemons.set(record.value.id, record.value);
      else if (record.case === "agent") this.agents.set(record.value.id, record.value);
      else if (record.case === "worktree") this.worktrees.set(record.value.id, record.value);
      else if (record.case === "deletedId") this.forget(record.value);
    }
    this.bound();
    this.changed();
  }

  /** Everything up to the revision is here. */
  reached(revision: bigint): void {
    if (revision > this.revision) this.revision = revision;
    if (!this.complete) {
      this.complete = true;
      this.changed();
    }
  }

  /** The server's numbers started anew: everything is asked for again. */
  reset(): void {
    this.sessions.clear();
    this.prompts.clear();
    this.daemons.clear();
    this.agents.clear();
    this.worktrees.clear();
    this.revision = 0n;
    this.complete = false;
    this.changed();
  }

  /** What an answer to a call says is at least as new as the stream; it is not older than what is known. */
  putSession(session: Session | undefined): void {
    if (!session) return;
    const known = this.sessions.get(session.id);
    if (known && known.headSeq > session.headSeq) return;
    this.sessions.set(session.id, session);
    this.changed();
  }

  putPrompt(prompt: Prompt | undefined): void {
    if (!prompt) return;
    const known = this.prompts.get(prompt.id);
    // A settled prompt never opens again.
    if (known && known.state !== PromptState.PENDING && prompt.state === PromptState.PENDING) return;
    this.prompts.set(prompt.id, prompt);
    this.changed();
  }

  putDaemon(daemon: Daemon | undefined): void {
    if (!daemon) return;
    this.daemons.set(daemon.id, daemon);
    this.changed();
  }

  putAgent(agent: Agent | undefined): void {
    if (!agent) return;
    this.agents.set(agent.id, agent);
    this.changed();
  }

  putWorktree(worktree: Worktree | undefined): void {
    if (!worktree) return;
    const known = this.worktrees.get(worktree.id);
    if (known && ms(known.updatedAt) > ms(worktree.updatedAt)) return;
    this.worktrees.set(worktree.id, worktree);
    this.changed();
  }

  forget(id: string): void {
    this.sessions.delete(id);
    this.prompts.delete(id);
    this.daemons.delete(id);
    this.agents.delete(id);
    this.worktrees.delete(id);
    this.changed();
  }

  pending(sessionId?: string): Prompt[] {
    return [...this.prompts.values()]
      .filter((prompt) => prompt.state === PromptState.PENDING && (sessionId === undefined || prompt.sessionId === sessionId))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  private bound(): void {
    trim(this.sessions, (session) => session.lifecycle === Lifecycle.ENDED);
    trim(this.prompts, (prompt) => prompt.state !== PromptState.PENDING);
    trim(this.worktrees, (worktree) => worktree.state === WorktreeState.ARCHIVED);
  }
}

/** Ids sort by time. */
function trim<T>(map: Map<string, T>, over: (value: T) => boolean): void {
  if (map.size <= KEPT_MAX * 1.1) return;
  const old = [...map].filter(([, value]) => over(value)).map(([id]) => id).sort();
  for (const id of old.slice(0, Math.max(0, map.size - KEPT_MAX))) map.delete(id);
}
