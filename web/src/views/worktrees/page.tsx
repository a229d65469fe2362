// One worktree: what it has, how it differs, and its way into the target or out of the way.
import { useCallback, useEffect, useMemo, useState } from "react";

import { problem } from "../../api/problem";
import { PATIENT, worktrees as api } from "../../api/transport";
import { type MergeReport, MergeStrategy, MergeVerdict, type Worktree, type WorktreeDiff, WorktreeState } from "../../gen/baton/v1/worktree_pb";
import { useCell } from "../../store/cell";
import { auth, records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { parsePatch } from "../../text/patch";
import { bytes, moment, ms, short, who } from "../../text/format";
import { Badge, Button, CopyButton, Dialog, Empty, Failure, Field, Loading, Refused, toast, useAttempt } from "../../ui/bits";
import { go, Link } from "../../ui/route";
import { State } from "../facts";
import { argv } from "../new";
import { DiffLines } from "../session/toolinput";
import { TaskName } from "../tasks/pick";
import { RecoverDialog } from "./recover";
import { branchOf, Dirt, machineOf, sessionsIn, StateBadge, STRATEGY } from "./words";

export function WorktreePage({ id }: { id: string }) {
  useCell(records);
  const [failure, setFailure] = useState<unknown>();
  const [missing, setMissing] = useState(false);
  const [round, setRound] = useState(0);
  const [open, setOpen] = useState<"merge" | "delete" | "recover">();
  const again = useCallback(() => setRound((old) => old + 1), []);
  const tree = records.worktrees.get(id);
  useEffect(() => {
    const abort = new AbortController();
    api.getWorktree({ worktreeId: id }, { signal: abort.signal }).then(
      (answer) => {
        records.putWorktree(answer.worktree);
        setFailure(undefined);
      },
      (thrown: unknown) => {
        if (abort.signal.aborted) return;
        if (["NOT_FOUND", "INVALID_INPUT"].includes(problem(thrown).reason)) setMissing(true);
        else setFailure(thrown);
      },
    );
    return () => abort.abort();
  }, [id, round]);
  if (missing && !tree) return <Empty title="There is no such worktree."><Button onClick={() => go("/worktrees")}>All worktrees</Button></Empty>;
  if (!tree) return failure === undefined ? <Loading what="the worktree" /> : <div className="page"><Failure thrown={failure} retry={again} /></div>;
  const gone = tree.state === WorktreeState.ARCHIVED;
  const within = sessionsIn(tree);
  const place = tree.place;
  const close = () => setOpen(undefined);
  const may = auth.operator;
  return (
    <div className="page">
      <header className="page-head">
        <p className="crumbs"><Link to="/worktrees">Worktrees</Link></p>
        <h1 className="branch"><Visible text={branchOf(tree)} /></h1>
        <StateBadge tree={tree} />
        {tree.merged && <Badge tone="work">merged into {tree.merged.target}</Badge>}
      </header>
      {may && (
        <div className="buttons task-buttons">
          {!gone && <Button kind="primary" disabled={tree.state !== WorktreeState.ACTIVE && tree.state !== WorktreeState.SUSPENDED} onClick={() => setOpen("merge")}>Merge…</Button>}
          {!gone && <Button onClick={again}>Look again</Button>}
          {!gone && <Button kind="quiet" onClick={() => setOpen("delete")}>Delete…</Button>}
          {gone && tree.recoverRef !== "" && <Button kind="primary" onClick={() => setOpen("recover")}>Recover…</Button>}
        </div>
      )}
      {failure !== undefined && <Failure thrown={failure} retry={again} />}
      {tree.failure !== "" && <div className="refused"><p>{tree.failure}</p></div>}
      <dl className="facts tree-facts">
        {!gone && <div><dt>Work</dt><dd><Dirt tree={tree} /></dd></div>}
        {tree.agentName !== "" && <div><dt>Agent</dt><dd><AgentLink name={tree.agentName} /></dd></div>}
        {tree.taskId !== "" && <div><dt>Task</dt><dd>{tree.taskId.startsWith("tsk_") ? <TaskName id={tree.taskId} /> : tree.taskId}{tree.title !== "" && !tree.taskId.startsWith("tsk_") && `: ${tree.title}`}</dd></div>}
        <div><dt>Directory</dt><dd className="path">{place?.path} {place?.path && <CopyButton text={place.path} label="Copy the path" />}</dd></div>
        <div><dt>Repository</dt><dd className="path">{place?.repository}</dd></div>
        <div><dt>Machine</dt><dd>{machineOf(tree)}</dd></div>
        {place && <div><dt>For</dt><dd><code>{place.target}</code>{place.base !== place.target && <>, begun at <code>{place.base}</code></>}</dd></div>}
        {tree.look && !gone && <div><dt>Size</dt><dd>{bytes(tree.look.sizeBytes)}</dd></div>}
        {tree.merged && <div><dt>Merged</dt><dd>{moment(ms(tree.merged.at))} as <code>{tree.merged.commit.slice(0, 10)}</code></dd></div>}
        {gone && tree.recoverRef !== "" && <div><dt>Kept as</dt><dd><code>{tree.recoverRef}</code></dd></div>}
        <div><dt>Made</dt><dd>{moment(ms(tree.createdAt))}{who(tree.createdBy) !== "" && ` by ${who(tree.createdBy)}`}</dd></div>
        <div><dt>Id</dt><dd><code>{tree.id}</code> <CopyButton text={tree.id} label="Copy the id" /></dd></div>
      </dl>
      {within.length > 0 && (
        <section>
          <h2>Sessions in it</h2>
          <ul className="lines-list" aria-label="Sessions in it">
            {within.map((session) => (
              <li key={session.id}><Link to={`/sessions/${session.id}`}><Visible text={session.title || short(session.id)} /></Link> <State session={session} /></li>
            ))}
          </ul>
        </section>
      )}
      {!gone && tree.state !== WorktreeState.CREATING && <Diff id={id} mark={`${round}/${tree.look?.head ?? ""}/${tree.look?.uncommitted ?? 0}/${tree.look?.untracked ?? 0}`} />}
      {open === "merge" && <MergeDialog tree={tree} close={() => (close(), again())} />}
      {open === "delete" && <DeleteDialog tree={tree} close={close} recover={() => setOpen("recover")} />}
      {open === "recover" && <RecoverDialog close={close} place={{ daemonId: tree.daemonId, path: place?.repository ?? "" }} />}
    </div>
  );
}

function AgentLink({ name }: { name: string }) {
  const agent = [...records.agents.values()].find(({ settings }) => settings?.name.toLowerCase() === name.toLowerCase());
  return agent ? <Link to={`/agents/${agent.id}`}>{name}</Link> : <>{name}</>;
}

/** Files that are open before a person opens more. */
const OPEN_MAX = 10;
/** How often the changes of a worktree are asked for that is busy, and how long after each other, in ms. */
const BUSY_TRIES = 8;
const BUSY_MS = 500;

function Diff({ id, mark }: { id: string; mark: string }) {
  const [diff, setDiff] = useState<WorktreeDiff>();
  const [failure, setFailure] = useState<unknown>();
  const [round, setRound] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = (tries: number) => {
      api.getWorktreeDiff({ worktreeId: id, maxBytes: 1 << 20 }, { signal: abort.signal }).then(
        (answer) => {
          if (abort.signal.aborted) return;
          setDiff(answer.diff);
          setFailure(undefined);
        },
        (thrown: unknown) => {
          if (abort.signal.aborted) return;
          // The machine looks at it just now, or does something to it.
          if (problem(thrown).reason === "INVALID_STATE" && tries < BUSY_TRIES) timer = setTimeout(() => read(tries + 1), BUSY_MS);
          else setFailure(thrown);
        },
      );
    };
    read(1);
    return () => {
      clearTimeout(timer);
      abort.abort();
    };
  }, [id, mark, round]);
  const files = useMemo(() => parsePatch(diff?.patch ?? ""), [diff]);
  const added = diff?.files.reduce((sum, file) => sum + file.added, 0) ?? 0;
  const removed = diff?.files.reduce((sum, file) => sum + file.removed, 0) ?? 0;
  return (
    <section aria-label="Changes">
      <h2>
        Changes{" "}
        {diff && diff.files.length > 0 && <span className="dim">{diff.files.length === 1 ? "1 file" : `${diff.files.length} files`} <span className="plus">+{added}</span> <span className="minus">−{removed}</span></span>}
      </h2>
      {failure !== undefined && <Failure thrown={failure} retry={() => setRound(round + 1)} />}
      {!diff && failure === undefined && <Loading what="the changes" />}
      {diff && diff.files.length === 0 && <p className="dim">It does not differ from where it left its target.</p>}
      {files.map((file, at) => (
        <details key={`${file.path}/${at}`} className="file-diff" open={at < OPEN_MAX}>
          <summary>
            <span className="path">{file.from !== "" && <><Visible text={file.from} /> → </>}<Visible text={file.path} /></span>
            {file.kind !== "changed" && <Badge tone={file.kind === "removed" ? "bad" : file.kind === "added" ? "good" : ""}>{file.kind}</Badge>}
            <span className="lines-changed">{file.added > 0 && <span className="plus">+{file.added}</span>} {file.removed > 0 && <span className="minus">−{file.removed}</span>}</span>
          </summary>
          {file.binary ? <p className="dim">It is not text.</p> : file.lines.length > 0 ? <DiffLines lines={file.lines} path={file.path} /> : <p className="dim">Its text is the same.</p>}
        </details>
      ))}
      {diff?.truncated && <p className="warn">There is more than is shown; look at it on the machine.</p>}
    </section>
  );
}

function MergeDialog({ tree, close }: { tree: Worktree; close: () => void }) {
  const [target, setTarget] = useState(tree.place?.target ?? "");
  const [strategy, setStrategy] = useState<MergeStrategy>(MergeStrategy.SQUASH);
  const [subject, setSubject] = useState("");
  const [test, setTest] = useState("");
  const [minutes, setMinutes] = useState("");
  const [partly, setPartly] = useState(false);
  const [report, setReport] = useState<MergeReport>();
  const { busy, refused, run } = useAttempt();
  const merge = () =>
    run(async (requestId) => {
      setReport(undefined);
      const time = Number(minutes) > 0 ? { seconds: BigInt(Math.round(Number(minutes) * 60)), nanos: 0 } : undefined;
      const answer = await api.mergeWorktree({ requestId, worktreeId: tree.id, strategy, target: target.trim(), subject: subject.trim(), test: argv(test), allowUncommitted: partly, ...(time && { testTime: time }) }, PATIENT);
      records.putWorktree(answer.worktree);
      setReport(answer.report);
    });
  const merged = report?.verdict === MergeVerdict.MERGED || report?.verdict === MergeVerdict.NOTHING;
  return (
    <Dialog title={`Merge ${branchOf(tree)}`} close={close} wide>
      {!merged && (
        <form
          className="new"
          onSubmit={(event) => {
            event.preventDefault();
            merge();
          }}
        >
          <div className="columns">
            <Field label="Into the branch">
              {(id) => <input id={id} className="mono" required value={target} onChange={(event) => setTarget(event.target.value)} />}
            </Field>
            <Field label="How">
              {(id) => (
                <select id={id} value={strategy} onChange={(event) => setStrategy(Number(event.target.value))}>
                  {STRATEGY.map((one) => (
                    <option key={one.strategy} value={one.strategy}>{one.name}</option>
                  ))}
                </select>
              )}
            </Field>
          </div>
          <Field label="Test command" hint="Must succeed on the result, in a checkout of its own: a program and its arguments, without a shell. May be empty.">
            {(id) => <input id={id} className="mono" value={test} placeholder="npm test" onChange={(event) => setTest(event.target.value)} />}
          </Field>
          <details>
            <summary>Subject, time for the test, uncommitted changes</summary>
            <Field label="Subject of the commit" hint="Empty: TITLE (TASK).">
              {(id) => <input id={id} value={subject} maxLength={200} onChange={(event) => setSubject(event.target.value)} />}
            </Field>
            <Field label="Minutes for the test" hint="Empty: 5; at most 30.">
              {(id) => <input id={id} type="number" min="1" max="30" value={minutes} onChange={(event) => setMinutes(event.target.value)} />}
            </Field>
            <label className="check"><input type="checkbox" checked={partly} onChange={(event) => setPartly(event.target.checked)} /> Merge what is committed, although more is not</label>
          </details>
          <Refused by={refused} />
          {report && <Report report={report} />}
          <div className="buttons">
            <Button submit kind="primary" busy={busy}>Merge</Button>
            <Button kind="quiet" onClick={close}>Back</Button>
            {busy && <span className="dim" role="status">The machine merges{test !== "" && " and tests"}…</span>}
          </div>
        </form>
      )}
      {merged && report && (
        <>
          <Report report={report} />
          <div className="buttons"><Button kind="primary" onClick={close}>Done</Button></div>
        </>
      )}
    </Dialog>
  );
}

function Report({ report }: { report: MergeReport }) {
  switch (report.verdict) {
    case MergeVerdict.MERGED:
      return <p role="status"><Badge tone="good">merged</Badge> {report.target} is at <code>{report.commit.slice(0, 10)}</code> now. Nothing was pushed.</p>;
    case MergeVerdict.NOTHING:
      return <p role="status">{report.target} had it all already.</p>;
    case MergeVerdict.CONFLICT:
      return (
        <div className="refused" role="alert">
          <p><b>It does not fit.</b> {report.target} is as it was. Change the same files in the worktree and commit, then merge again.</p>
          <ul className="conflicts" aria-label="Files that do not fit">
            {report.conflicts.map((path) => <li key={path} className="path"><Visible text={path} /></li>)}
          </ul>
          <Output text={report.output} />
        </div>
      );
    case MergeVerdict.TEST_FAILED:
      return (
        <div className="refused" role="alert">
          <p><b>The test failed.</b> {report.target} is as it was.</p>
          <Output text={report.output} />
        </div>
      );
    case MergeVerdict.UNSPECIFIED:
      return <p role="alert">How it ended is not known. Look again.</p>;
  }
}

function Output({ text }: { text: string }) {
  if (text.trim() === "") return null;
  return <pre className="merge-output" tabIndex={0}><Visible text={text} /></pre>;
}

function DeleteDialog({ tree, close, recover }: { tree: Worktree; close: () => void; recover: () => void }) {
  const [branch, setBranch] = useState(false);
  const [sure, setSure] = useState(false);
  const [kept, setKept] = useState("");
  const { busy, refused, run } = useAttempt();
  const within = sessionsIn(tree);
  // A session that lives in it cannot be forced; work that is nowhere else can.
  const work = refused?.reason === "INVALID_STATE" && !refused.details.has("session");
  const remove = (force: boolean) =>
    run(async (requestId) => {
      const answer = await api.deleteWorktree({ requestId, worktreeId: tree.id, force, deleteBranch: branch }, PATIENT);
      records.putWorktree(answer.worktree);
      if (answer.worktree && answer.worktree.recoverRef !== "") {
        setKept(answer.worktree.recoverRef);
        return;
      }
      toast(`The worktree is gone${answer.branchDeleted ? ", and its branch" : ""}.`);
      close();
    });
  if (kept !== "") {
    return (
      <Dialog title="The worktree is gone" close={close}>
        <p>What it had is kept as <code className="ref">{kept}</code>.</p>
        <div className="buttons">
          <Button kind="primary" onClick={close}>Done</Button>
          <Button onClick={recover}>Recover…</Button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={`Delete the worktree ${branchOf(tree)}?`} close={close}>
      <p>Its directory is removed: <span className="path">{tree.place?.path}</span></p>
      <p><Dirt tree={tree} /></p>
      {within.length > 0 && <p className="warn">{within.length === 1 ? "A session lives" : `${within.length} sessions live`} in it; end {within.length === 1 ? "it" : "them"} first.</p>}
      <label className="check"><input type="checkbox" checked={branch} onChange={(event) => setBranch(event.target.checked)} /> Delete its branch too</label>
      <Refused by={refused}>
        {work && (
          <>
            <p>By force it goes all the same. A snapshot of what would be lost is kept first, from which it can be recovered.</p>
            <label className="check"><input type="checkbox" checked={sure} onChange={(event) => setSure(event.target.checked)} /> Delete it with its work</label>
          </>
        )}
      </Refused>
      <div className="buttons">
        {work ? (
          <Button kind="danger" busy={busy} disabled={!sure} onClick={() => remove(true)}>Delete it by force</Button>
        ) : (
          <Button kind="danger" busy={busy} onClick={() => remove(false)}>Delete it</Button>
        )}
        <Button kind="quiet" onClick={close}>Back</Button>
      </div>
    </Dialog>
  );
}
