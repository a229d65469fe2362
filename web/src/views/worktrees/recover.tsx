// What removals have kept, and getting it back.
import { useState } from "react";

import { worktrees as api } from "../../api/transport";
import type { RecoverableWorktree } from "../../gen/baton/v1/worktree_pb";
import { useCell } from "../../store/cell";
import { records } from "../../store/world";
import { ms } from "../../text/format";
import { Ago, Button, Dialog, Refused, useAttempt } from "../../ui/bits";
import { go } from "../../ui/route";
import { likely, type Repository, RepositoryFields } from "./repository";

export function RecoverDialog({ close, place }: { close: () => void; place?: Repository }) {
  useCell(records);
  const [repository, setRepository] = useState<Repository>(() => place ?? likely());
  const [kept, setKept] = useState<RecoverableWorktree[]>();
  const { busy, refused, run } = useAttempt();
  const where = { daemonId: repository.daemonId, repository: repository.path.trim() };
  const list = () => run(async () => setKept((await api.listRecoverable(where)).recoverable));
  const recover = (one: RecoverableWorktree) =>
    run(async (requestId) => {
      const { worktree } = await api.recoverWorktree({ ...where, requestId, recoverRef: one.recoverRef });
      records.putWorktree(worktree);
      close();
      if (worktree) go(`/worktrees/${worktree.id}`);
    });
  return (
    <Dialog title="Recover what was removed" close={close} wide>
      <p>What a removal took away is kept in the repository: the head, and what was not committed.</p>
      <form
        className="new"
        onSubmit={(event) => {
          event.preventDefault();
          list();
        }}
      >
        <RepositoryFields
          value={repository}
          set={(value) => {
            setRepository(value);
            setKept(undefined);
          }}
        />
        {!kept && <div className="buttons"><Button submit kind="primary" busy={busy} disabled={where.repository === ""}>Show what was kept</Button></div>}
      </form>
      {kept?.length === 0 && <p className="dim">Nothing was kept there: no removal took anything away.</p>}
      {kept && kept.length > 0 && (
        <ul className="lines-list" aria-label="Recoverable">
          {kept.map((one) => (
            <li key={one.recoverRef}>
              <b className="mono">{one.branch || "no branch"}</b>
              <span className="dim"><Ago at={ms(one.at)} prefix="kept " /> · at <code>{one.head.slice(0, 10)}</code></span>
              <span className="spacer" />
              <Button small busy={busy} label={`Recover ${one.branch || one.recoverRef}`} onClick={() => recover(one)}>Recover</Button>
              <code className="ref dim">{one.recoverRef}</code>
            </li>
          ))}
        </ul>
      )}
      <Refused by={refused} />
    </Dialog>
  );
}
