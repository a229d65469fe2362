// Letting an agent begin a task: which one, what it is told, and where it works.
import { useEffect, useState } from "react";

import type { Problem } from "../../api/problem";
import { PATIENT, tasks as api } from "../../api/transport";
import { type ExplainTaskResponse, type Task, type TaskCandidate, TaskCheckout, TaskReasonKind, TaskStatus } from "../../gen/baton/v1/task_pb";
import { useCell } from "../../store/cell";
import { reread, tasks } from "../../store/tasks";
import { records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { Badge, Button, Dialog, Failure, Field, Loading, Refused, toast, useAttempt } from "../../ui/bits";
import { go, Link } from "../../ui/route";
import { sentence, Told } from "../told";
import { agentName } from "./pick";

/** Candidates that are offered by themselves; others are in the list of all agents. */
const OFFERED = 6;

/** Whom the task is for: the best, one of the list, or any other. */
type Choice = { kind: "best" } | { kind: "named"; id: string } | { kind: "other"; id: string };

export function Dispatch({ task, close }: { task: Task; close: () => void }) {
  useCell(records);
  const [why, setWhy] = useState<ExplainTaskResponse>();
  const [failure, setFailure] = useState<unknown>();
  const [round, setRound] = useState(0);
  const [picked, setPicked] = useState<Choice>();
  const [note, setNote] = useState("");
  const [checkout, setCheckout] = useState(TaskCheckout.UNSPECIFIED);
  const { busy, refused, clear, run } = useAttempt();
  useEffect(() => {
    const abort = new AbortController();
    api.explainTask({ taskId: task.id }, { signal: abort.signal }).then(
      (answer) => {
        setWhy(answer);
        setFailure(undefined);
      },
      (thrown: unknown) => {
        if (!abort.signal.aborted) setFailure(thrown);
      },
    );
    return () => abort.abort();
  }, [task.id, round]);

  const now = why?.task ?? task;
  const holder = now.assignment?.agentId ?? "";
  const candidates = why?.candidates ?? [];
  const best = candidates.find(({ eligible }) => eligible);
  const offered = candidates.slice(0, OFFERED);
  const others = [...records.agents.values()].filter(({ id }) => !offered.some(({ agentId }) => agentId === id)).sort((a, b) => (a.settings?.name ?? "").localeCompare(b.settings?.name ?? ""));
  const choice: Choice = picked ?? (best ? { kind: "best" } : offered[0] ? { kind: "named", id: offered[0].agentId } : { kind: "other", id: "" });
  const agentId = holder !== "" ? holder : choice.kind === "best" ? "" : choice.id;
  const goesOn = (now.assignment?.sessionIds.length ?? 0) > 0;
  const choose = (next: Choice) => {
    clear();
    setPicked(next);
  };
  const begin = () =>
    run(async (requestId) => {
      try {
        const answer = await api.dispatchTask({ requestId, taskId: task.id, agentId, note: note.trim(), checkout }, PATIENT);
        tasks.put(answer.task);
        close();
        go(`/sessions/${answer.sessionId}`);
      } catch (thrown) {
        // What is there now is what the next try is about.
        await reread(task.id);
        setRound((old) => old + 1);
        throw thrown;
      }
    });
  const assign = (id: string) =>
    run(async (requestId) => {
      tasks.put((await api.assignTask({ requestId, taskId: task.id, agentId: id })).task);
      toast(`${agentName(id)} has “${task.title}” next.`);
      close();
    });

  return (
    <Dialog title={`Let an agent begin “${task.title}”`} close={close} wide>
      {failure !== undefined ? (
        <Failure thrown={failure} retry={() => setRound(round + 1)} />
      ) : !why ? (
        <Loading what="who could take it" />
      ) : (
        <form
          className="new"
          onSubmit={(event) => {
            event.preventDefault();
            begin();
          }}
        >
          <Keeps why={why} />
          {holder !== "" ? (
            <p className="field">
              <Link to={`/agents/${holder}`}>{agentName(holder)}</Link> has it{goesOn ? ", and goes on with it under the same assignment" : ", and begins it now"}. <span className="dim">For another agent, hand it on first.</span>
            </p>
          ) : (
            <fieldset className="harnesses">
              <legend>Agent</legend>
              {candidates.length > 0 && (
                <label className={`option${choice.kind === "best" ? " chosen" : ""}${best ? "" : " off"}`}>
                  <input type="radio" name="agent" checked={choice.kind === "best"} disabled={!best} onChange={() => choose({ kind: "best" })} />
                  <span><b>The one that fits best</b> <span className="dim">{best ? <>now <Visible text={best.name} /></> : "nobody can take it now"}</span></span>
                </label>
              )}
              {offered.map((one) => (
                <label key={one.agentId} className={`option${choice.kind === "named" && choice.id === one.agentId ? " chosen" : ""}`}>
                  <input type="radio" name="agent" checked={choice.kind === "named" && choice.id === one.agentId} onChange={() => choose({ kind: "named", id: one.agentId })} />
                  <span className="candidate"><b><Visible text={one.name} /></b> <Thought one={one} plain /></span>
                </label>
              ))}
              {others.length > 0 && (
                <div className={`option${choice.kind === "other" ? " chosen" : ""}`}>
                  <input type="radio" name="agent" aria-label="Another agent" checked={choice.kind === "other"} onChange={() => choose({ kind: "other", id: "" })} />
                  <select aria-label="Which other agent" value={choice.kind === "other" ? choice.id : ""} onChange={(event) => choose({ kind: "other", id: event.target.value })}>
                    <option value="">another agent…</option>
                    {others.map(({ id, settings }) => (
                      <option key={id} value={id}>{settings?.name}{settings?.disabled ? " (disabled)" : ""}</option>
                    ))}
                  </select>
                </div>
              )}
              {others.length === 0 && candidates.length === 0 && <p className="dim">There are no agents. <Link to="/agents">Make one</Link> first.</p>}
            </fieldset>
          )}
          <Field label="Note" hint="What it is told beside the task. May be empty.">
            {(id) => <textarea id={id} rows={2} value={note} onChange={(event) => setNote(event.target.value)} />}
          </Field>
          <Field label="Works in" hint={now.assignment?.worktreeId ? "It has a worktree from before, which it keeps." : ""}>
            {(id) => (
              <select id={id} value={checkout} onChange={(event) => setCheckout(Number(event.target.value))}>
                <option value={TaskCheckout.UNSPECIFIED}>as usual: an ephemeral worker in a worktree, where there is a repository</option>
                <option value={TaskCheckout.WORKTREE}>a worktree</option>
                <option value={TaskCheckout.DIRECTORY}>the directory itself</option>
              </select>
            )}
          </Field>
          <Instead by={refused} agentId={agentId} busy={busy} assign={assign} inDirectory={() => (clear(), setCheckout(TaskCheckout.DIRECTORY))} />
          <div className="buttons">
            <Button submit kind="primary" busy={busy} disabled={holder === "" && choice.kind !== "best" && agentId === ""}>{goesOn ? "Dispatch again" : "Dispatch"}</Button>
            <Button kind="quiet" onClick={close}>Back</Button>
            {busy && <span className="dim" role="status">An agent is being started; a worktree may take a while.</span>}
          </div>
        </form>
      )}
    </Dialog>
  );
}

/** What the scheduler thinks of an agent, in a line. */
export function Thought({ one, plain }: { one: TaskCandidate; plain?: boolean }) {
  return (
    <>
      {one.score > 0 && <span className="dim">score {one.score}</span>}{" "}
      {one.eligible ? <><Badge tone="good">can take it</Badge> <span className="dim"><Visible text={one.place} /></span></> : <span className="warn"><Told text={one.obstacle} plain={plain} /></span>}
    </>
  );
}

/** What is in the way of any agent. What is said of the scheduler is not: a person decides here. */
function Keeps({ why }: { why: ExplainTaskResponse }) {
  const { task } = why;
  const known = [TaskReasonKind.READY, TaskReasonKind.SCHEDULER, TaskReasonKind.ASSIGNED];
  const reasons = why.reasons.filter(({ kind }) => !known.includes(kind));
  const escalation = task?.assignment?.escalation ?? "";
  return (
    <>
      {escalation !== "" && <div className="why escalated"><p><b>A person must look at it.</b> <Told text={sentence(escalation)} /></p></div>}
      {reasons.length > 0 && (
        <div className="why">
          <ul>{reasons.map(({ message }, at) => <li key={at}><Told text={sentence(message)} /></li>)}</ul>
          {task?.status === TaskStatus.DEFERRED && <p className="dim">Dispatching it begins it all the same.</p>}
        </div>
      )}
    </>
  );
}

/** What was refused, and what can be done about it. */
function Instead({ by, agentId, busy, assign, inDirectory }: { by: Problem | undefined; agentId: string; busy: boolean; assign: (id: string) => void; inDirectory: () => void }) {
  if (!by) return null;
  const session = by.details.get("existing_session") ?? "";
  const budget = by.details.get("budget_id") ?? "";
  const holder = by.details.get("holder") ?? "";
  return (
    <Refused by={by} says={<Told text={by.message} />}>
      {by.reason === "SESSION_EXISTS" && (
        <div className="buttons">
          {session !== "" && <Button onClick={() => go(`/sessions/${session}`)}>Go to its session</Button>}
          {agentId !== "" && <Button busy={busy} onClick={() => assign(agentId)}>Let {agentName(agentId)} do it next</Button>}
        </div>
      )}
      {by.reason === "BUDGET_EXCEEDED" && budget !== "" && <p><Link to={`/budgets/${budget}`}>The budget</Link> can be raised.</p>}
      {by.reason === "AGENT_DISABLED" && agentId !== "" && <p><Link to={`/agents/${agentId}`}>{agentName(agentId)}</Link> can be enabled.</p>}
      {by.reason === "NO_DAEMON" && <p>What runs where is under <Link to="/machines">Machines</Link>.</p>}
      {by.reason === "WORKTREES_DISABLED" && <Button onClick={inDirectory}>Work in the directory itself</Button>}
      {by.reason === "ALREADY_EXISTS" && holder !== "" && <p>{agentName(holder)} has it. Hand it on first.</p>}
      {by.reason === "INVALID_STATE" && <p>What keeps each agent stands above; another one can be named there.</p>}
    </Refused>
  );
}
