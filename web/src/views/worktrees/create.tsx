// A new worktree.
import { type FormEvent, useId, useState } from "react";

import { PATIENT, worktrees as api } from "../../api/transport";
import { useCell } from "../../store/cell";
import { records } from "../../store/world";
import { Button, Dialog, Field, Refused, useAttempt } from "../../ui/bits";
import { go } from "../../ui/route";
import { argv } from "../new";
import { TaskField, TaskName } from "../tasks/pick";
import { likely, RepositoryFields } from "./repository";

export function CreateDialog({ close }: { close: () => void }) {
  useCell(records);
  const [repository, setRepository] = useState(likely);
  const [agent, setAgent] = useState("");
  const [task, setTask] = useState("");
  const [title, setTitle] = useState("");
  const [base, setBase] = useState("");
  const [target, setTarget] = useState("");
  const [fetch, setFetch] = useState(false);
  const [setup, setSetup] = useState("");
  const [copies, setCopies] = useState("");
  const [branch, setBranch] = useState("");
  const [directory, setDirectory] = useState("");
  const { busy, refused, run } = useAttempt();
  const names = useId();
  const make = (event: FormEvent) => {
    event.preventDefault();
    run(async (requestId) => {
      const answer = await api.createWorktree(
        {
          requestId,
          daemonId: repository.daemonId,
          repository: repository.path.trim(),
          agentName: agent.trim(),
          task,
          title: title.trim(),
          branch: branch.trim(),
          directory: directory.trim(),
          base: base.trim(),
          target: target.trim(),
          fetch,
          setup: argv(setup),
          copyFiles: argv(copies),
        },
        PATIENT,
      );
      records.putWorktree(answer.worktree);
      close();
      if (answer.worktree) go(`/worktrees/${answer.worktree.id}`);
    });
  };
  return (
    <Dialog title="New worktree" close={close} wide>
      <form className="new" onSubmit={make}>
        <RepositoryFields value={repository} set={setRepository} />
        <Field label="Agent">
          {(id) => (
            <>
              <input id={id} required value={agent} list={names} onChange={(event) => setAgent(event.target.value)} />
              <datalist id={names}>
                {[...records.agents.values()].slice(0, 200).map(({ id: key, settings }) => (
                  <option key={key} value={settings?.name ?? ""} />
                ))}
              </datalist>
            </>
          )}
        </Field>
        {task === "" ? (
          <TaskField
            label="Task"
            hint="May be empty: the worktree is of a session then."
            not={[]}
            pick={(found) => {
              setTask(found.id);
              if (title === "") setTitle(found.title);
            }}
          />
        ) : (
          <ul className="chips" aria-label="Task">
            <li><TaskName id={task} plain /><Button small kind="quiet" icon="close" label="Choose another task" onClick={() => setTask("")} /></li>
          </ul>
        )}
        <Field label="Title" hint="What it is for, in a line; a part of its names.">
          {(id) => <input id={id} value={title} maxLength={200} onChange={(event) => setTitle(event.target.value)} />}
        </Field>
        <div className="columns">
          <Field label="Begins at the branch" hint="Empty: that of the target.">
            {(id) => <input id={id} className="mono" value={base} onChange={(event) => setBase(event.target.value)} />}
          </Field>
          <Field label="To be merged into" hint="Empty: the branch that the repository has checked out.">
            {(id) => <input id={id} className="mono" value={target} onChange={(event) => setTarget(event.target.value)} />}
          </Field>
        </div>
        <details>
          <summary>Set-up command, files to copy, names</summary>
          <Field label="Set-up command" hint="Run in it first: a program and its arguments, without a shell.">
            {(id) => <input id={id} className="mono" value={setup} placeholder="npm ci" onChange={(event) => setSetup(event.target.value)} />}
          </Field>
          <Field label="Files to copy" hint="What git does not have, such as .env, separated by spaces.">
            {(id) => <input id={id} className="mono" value={copies} onChange={(event) => setCopies(event.target.value)} />}
          </Field>
          <div className="columns">
            <Field label="Branch" hint="Empty: agent/AGENT/TASK-TITLE.">
              {(id) => <input id={id} className="mono" value={branch} onChange={(event) => setBranch(event.target.value)} />}
            </Field>
            <Field label="Name of the directory" hint="Empty: AGENT-TASK-TITLE.">
              {(id) => <input id={id} className="mono" value={directory} onChange={(event) => setDirectory(event.target.value)} />}
            </Field>
          </div>
          <label className="check"><input type="checkbox" checked={fetch} onChange={(event) => setFetch(event.target.checked)} /> Fetch the branch from origin first</label>
        </details>
        <Refused by={refused} />
        <div className="buttons">
          <Button submit kind="primary" busy={busy} disabled={repository.path.trim() === "" || agent.trim() === ""}>Make it</Button>
          <Button kind="quiet" onClick={close}>Back</Button>
          {busy && <span className="dim" role="status">The machine makes it…</span>}
        </div>
      </form>
    </Dialog>
  );
}
