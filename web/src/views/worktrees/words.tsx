// What worktrees are called by people, and what one has that is nowhere else.
import { MergeStrategy, type Worktree, WorktreeState } from "../../gen/baton/v1/worktree_pb";
import { records } from "../../store/world";
import { living, short } from "../../text/format";
import { Lifecycle, type Session } from "../../gen/baton/v1/session_pb";
import { Badge } from "../../ui/bits";

export const STATE: Record<WorktreeState, string> = {
  [WorktreeState.UNSPECIFIED]: "unknown",
  [WorktreeState.CREATING]: "being made",
  [WorktreeState.ACTIVE]: "active",
  [WorktreeState.SUSPENDED]: "suspended",
  [WorktreeState.MERGING]: "being merged",
  [WorktreeState.CLEANING]: "being removed",
  [WorktreeState.ARCHIVED]: "gone",
};

export const STRATEGY: readonly { strategy: MergeStrategy; name: string }[] = [
  { strategy: MergeStrategy.SQUASH, name: "as one commit" },
  { strategy: MergeStrategy.MERGE, name: "with a merge commit" },
  { strategy: MergeStrategy.FAST_FORWARD, name: "move the target on" },
];

/** Living sessions in it. The stream tells of sessions, not again of the worktree. */
export function sessionsIn(tree: Worktree): Session[] {
  const path = tree.place?.path ?? "";
  if (path === "") return [];
  return [...records.sessions.values()].filter((session) => session.daemonId === tree.daemonId && living(session) && (session.cwd === path || session.cwd.startsWith(`${path}/`)));
}

/** Where it is in its life, by what lives in it. */
export function stateOf(tree: Worktree): WorktreeState {
  if (tree.state !== WorktreeState.ACTIVE && tree.state !== WorktreeState.SUSPENDED) return tree.state;
  const within = sessionsIn(tree);
  return within.length > 0 && within.every((session) => session.lifecycle === Lifecycle.SUSPENDED) ? WorktreeState.SUSPENDED : WorktreeState.ACTIVE;
}

export function StateBadge({ tree }: { tree: Worktree }) {
  const state = stateOf(tree);
  const busy = [WorktreeState.CREATING, WorktreeState.MERGING, WorktreeState.CLEANING].includes(state);
  if (tree.failure !== "") return <Badge tone="bad">could not be made</Badge>;
  if (tree.look?.missing && state !== WorktreeState.ARCHIVED) return <Badge tone="bad" title="Its directory is gone, though nobody removed it by Baton.">missing</Badge>;
  return <Badge tone={busy ? "work" : state === WorktreeState.ACTIVE ? "good" : ""}>{STATE[state]}</Badge>;
}

/** What would be lost with it. */
export function Dirt({ tree }: { tree: Worktree }) {
  const { look } = tree;
  if (!look || tree.state === WorktreeState.ARCHIVED) return null;
  const parts = [
    look.uncommitted > 0 && `${look.uncommitted} uncommitted`,
    look.untracked > 0 && `${look.untracked} untracked`,
    look.unmerged > 0 && `${look.unmerged} ${look.unmerged === 1 ? "commit" : "commits"} not merged`,
  ].filter((part) => typeof part === "string");
  return parts.length === 0 ? <span className="dim">no work of its own</span> : <span className="warn">{parts.join(", ")}</span>;
}

export function machineOf(tree: Worktree): string {
  return records.daemons.get(tree.daemonId)?.name ?? short(tree.daemonId);
}

export function branchOf(tree: Worktree): string {
  return tree.place?.branch || tree.title || short(tree.id);
}

/** Machines, those that are there first. */
export function linked() {
  return [...records.daemons.values()].sort((a, b) => Number(b.attached) - Number(a.attached) || a.name.localeCompare(b.name));
}

/** Repositories that have worktrees, with their machine. */
export function repositories(): { daemonId: string; path: string }[] {
  const all = new Map<string, { daemonId: string; path: string }>();
  for (const tree of records.worktrees.values()) {
    const path = tree.place?.repository ?? "";
    if (path !== "") all.set(`${tree.daemonId}:${path}`, { daemonId: tree.daemonId, path });
  }
  return [...all.values()].sort((a, b) => a.path.localeCompare(b.path));
}
