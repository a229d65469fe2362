// Worktrees: where agents work, what they have there, and how much space it takes.
import "../../styles/worktrees.css";

import { useEffect, useRef, useState } from "react";

import { worktrees as api } from "../../api/transport";
import { type Worktree, WorktreeState } from "../../gen/baton/v1/worktree_pb";
import { useCell } from "../../store/cell";
import { auth, records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { bytes, ms, tail } from "../../text/format";
import { Badge, Button, Empty, Failure, Loading } from "../../ui/bits";
import { Link, usePlace } from "../../ui/route";
import { TaskName } from "../tasks/pick";
import { CreateDialog } from "./create";
import { WorktreePage } from "./page";
import { PruneDialog } from "./prune";
import { RecoverDialog } from "./recover";
import { branchOf, Dirt, machineOf, sessionsIn, StateBadge, STATE, stateOf } from "./words";

/** Worktrees that are shown before a person asks for more. */
const STEP = 100;
/** Worktrees that are looked at when the list is opened. */
const LOOK_MAX = 40;
/** How often what is shown is looked at again, in ms. */
const LOOK_MS = 30_000;

export default function Worktrees() {
  const { path } = usePlace();
  useCell(records);
  const id = path[1];
  if (!records.complete) return <Loading what="worktrees" />;
  if (id !== undefined) return <WorktreePage key={id} id={id} />;
  return <All />;
}

/** Has the machines look at what is shown, two at a time; what they saw comes with the stream. */
function useLook(ids: readonly string[]): void {
  const key = ids.slice(0, LOOK_MAX).join();
  const looked = useRef(new Set<string>());
  useEffect(() => {
    const abort = new AbortController();
    const look = () => {
      const rest = key.split(",").filter((id) => id !== "" && !looked.current.has(id));
      const next = async (): Promise<void> => {
        for (let id = rest.shift(); id !== undefined && !abort.signal.aborted; id = rest.shift()) {
          looked.current.add(id);
          try {
            records.putWorktree((await api.getWorktree({ worktreeId: id }, { signal: abort.signal })).worktree);
          } catch {
            // What was seen last stays.
          }
        }
      };
      void next();
      void next();
    };
    look();
    const timer = setInterval(() => {
      if (document.visibilityState !== "visible") return;
      looked.current.clear();
      look();
    }, LOOK_MS);
    return () => {
      clearInterval(timer);
      abort.abort();
    };
  }, [key]);
}

/** The records of those that are gone: only who asks for them gets them. */
function useGone(on: boolean): { failure: unknown; again: () => void } {
  const [failure, setFailure] = useState<unknown>();
  const [round, setRound] = useState(0);
  useEffect(() => {
    if (!on) return;
    const abort = new AbortController();
    api.listWorktrees({ all: true, pageSize: 1_000 }, { signal: abort.signal }).then(
      (answer) => {
        for (const tree of answer.worktrees) records.putWorktree(tree);
        setFailure(undefined);
      },
      (thrown: unknown) => {
        if (!abort.signal.aborted) setFailure(thrown);
      },
    );
    return () => abort.abort();
  }, [on, round]);
  return { failure, again: () => setRound(round + 1) };
}

function All() {
  const [words, setWords] = useState("");
  const [gone, setGone] = useState(false);
  const [most, setMost] = useState(STEP);
  const [open, setOpen] = useState<"create" | "recover" | "prune">();
  const old = useGone(gone);
  const needle = words.trim().toLowerCase();
  const there = [...records.worktrees.values()].filter((tree) => gone || tree.state !== WorktreeState.ARCHIVED);
  const fits = there
    .filter((tree) => needle === "" || [tree.place?.branch, tree.place?.path, tree.place?.repository, tree.agentName, tree.taskId, tree.title, STATE[stateOf(tree)]].some((text) => text?.toLowerCase().includes(needle)))
    .sort((a, b) => (a.place?.repository ?? "").localeCompare(b.place?.repository ?? "") || ms(b.createdAt) - ms(a.createdAt));
  const shown = fits.slice(0, most);
  useLook(shown.filter((tree) => tree.state === WorktreeState.ACTIVE).map(({ id }) => id));
  const groups = new Map<string, Worktree[]>();
  for (const tree of shown) {
    const place = `${machineOf(tree)}: ${tree.place?.repository ?? ""}`;
    groups.set(place, [...(groups.get(place) ?? []), tree]);
  }
  const size = there.reduce((sum, tree) => sum + (tree.state === WorktreeState.ARCHIVED ? 0 : Number(tree.look?.sizeBytes ?? 0n)), 0);
  return (
    <div className="page">
      <header className="page-head">
        <h1>Worktrees</h1>
        {size > 0 && <span className="dim">{bytes(size)} in all</span>}
        <span className="spacer" />
        {auth.operator && (
          <>
            <Button onClick={() => setOpen("recover")}>Recover…</Button>
            <Button onClick={() => setOpen("prune")}>Prune…</Button>
            <Button kind="primary" icon="plus" onClick={() => setOpen("create")}>New worktree</Button>
          </>
        )}
      </header>
      <div className="filters" role="search">
        <input type="search" aria-label="Search worktrees" placeholder="Branch, directory, agent or task" value={words} onChange={(event) => setWords(event.target.value)} />
        <label className="check"><input type="checkbox" checked={gone} onChange={(event) => setGone(event.target.checked)} /> gone ones too</label>
      </div>
      {old.failure !== undefined && <Failure thrown={old.failure} retry={old.again} />}
      {there.length === 0 ? (
        <Empty title="No worktrees."><p>A worktree is a branch and a checkout of its own for one agent and one task, so that agents that work at once do not get in each other&apos;s way.</p></Empty>
      ) : fits.length === 0 ? (
        <Empty title="No worktree fits." />
      ) : (
        [...groups].map(([place, trees]) => (
          <section key={place}>
            <h2 className="path">{place}</h2>
            <ul className="session-list" aria-label={place}>
              {trees.map((tree) => (
                <Line key={tree.id} tree={tree} />
              ))}
            </ul>
          </section>
        ))
      )}
      {fits.length > most && <Button onClick={() => setMost(most + STEP)}>{fits.length - most} more</Button>}
      {open === "create" && <CreateDialog close={() => setOpen(undefined)} />}
      {open === "recover" && <RecoverDialog close={() => setOpen(undefined)} />}
      {open === "prune" && <PruneDialog close={() => setOpen(undefined)} />}
    </div>
  );
}

function Line({ tree }: { tree: Worktree }) {
  const within = sessionsIn(tree);
  return (
    <li>
      <Link to={`/worktrees/${tree.id}`} className="session-line">
        <span className="line-title mono"><Visible text={branchOf(tree)} /></span>
        <span className="line-state">
          {tree.merged && <Badge tone="work">merged</Badge>}
          <StateBadge tree={tree} />
        </span>
        <span className="line-where dim">
          {tree.agentName !== "" && <span>{tree.agentName}</span>}
          {tree.taskId !== "" && <span className="clip">{tree.taskId.startsWith("tsk_") ? <TaskName id={tree.taskId} plain /> : tree.taskId}</span>}
          {within.length > 0 && <span>{within.length === 1 ? "1 session" : `${within.length} sessions`}</span>}
          <span className="path clip" title={tree.place?.path}>{tail(tree.place?.path ?? "")}</span>
        </span>
        <span className="line-facts">
          <Dirt tree={tree} />
          {tree.look && tree.state !== WorktreeState.ARCHIVED && <span className="dim">{bytes(tree.look.sizeBytes)}</span>}
        </span>
        {tree.failure !== "" && <span className="line-snippet bad">{tree.failure}</span>}
      </Link>
    </li>
  );
}
