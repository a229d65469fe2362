// Removing what has no work and was left alone: first what that would be, then it.
import { useState } from "react";

import { worktrees as api } from "../../api/transport";
import type { PrunedWorktree } from "../../gen/baton/v1/worktree_pb";
import { useCell } from "../../store/cell";
import { records } from "../../store/world";
import { bytes, tail } from "../../text/format";
import { Badge, Button, Dialog, Field, Refused, useAttempt } from "../../ui/bits";
import { linked } from "./words";

const DAY_S = 86_400;

export function PruneDialog({ close }: { close: () => void }) {
  useCell(records);
  const [daemonId, setDaemonId] = useState(() => linked()[0]?.id ?? "");
  const [days, setDays] = useState("");
  const [found, setFound] = useState<{ dry: boolean; list: PrunedWorktree[] }>();
  const { busy, refused, run } = useAttempt();
  const seconds = Number(days) * DAY_S;
  const prune = (dryRun: boolean) =>
    run(async () => {
      const grace = days.trim() === "" || !Number.isFinite(seconds) || seconds < 0 ? undefined : { seconds: BigInt(Math.round(seconds)), nanos: 0 };
      const { pruned } = await api.pruneWorktrees({ daemonId, dryRun, ...(grace && { grace }) });
      setFound({ dry: dryRun, list: pruned });
    });
  const size = found?.list.reduce((sum, one) => sum + Number(one.sizeBytes), 0) ?? 0;
  const gone = found?.list.filter((one) => one.removed).length ?? 0;
  return (
    <Dialog title="Prune" close={close} wide>
      <p>Removes worktrees without any work and without sessions that were left alone. What has work stays.</p>
      <div className="columns">
        <Field label="Machine">
          {(id) => (
            <select id={id} value={daemonId} onChange={(event) => (setDaemonId(event.target.value), setFound(undefined))}>
              {linked().map((one) => (
                <option key={one.id} value={one.id} disabled={!one.attached}>{one.name}{one.attached ? "" : " (away)"}</option>
              ))}
            </select>
          )}
        </Field>
        <Field label="Left alone for, in days" hint="Empty: the machine's own figure.">
          {(id) => <input id={id} type="number" min="0" step="any" value={days} onChange={(event) => (setDays(event.target.value), setFound(undefined))} />}
        </Field>
      </div>
      {found?.list.length === 0 && <p className="dim">{found.dry ? "There is nothing to remove." : "There was nothing to remove."}</p>}
      {found && found.list.length > 0 && (
        <>
          <p role="status">{found.dry ? `${found.list.length} could go, ${bytes(size)}:` : `${gone} of ${found.list.length} are gone:`}</p>
          <ul className="lines-list" aria-label={found.dry ? "Could go" : "Pruned"}>
            {found.list.map((one) => (
              <li key={one.worktreeId}>
                <span className="path clip" title={one.path}>{tail(one.path)}</span>
                <span className="dim">{one.reason} · {bytes(one.sizeBytes)}</span>
                <span className="spacer" />
                {one.removed ? <Badge tone="good">gone</Badge> : one.failure !== "" && <span className="bad">{one.failure}</span>}
              </li>
            ))}
          </ul>
        </>
      )}
      <Refused by={refused} />
      <div className="buttons">
        {!found?.dry || found.list.length === 0 ? (
          <Button kind="primary" busy={busy} disabled={daemonId === ""} onClick={() => prune(true)}>Show what would go</Button>
        ) : (
          <Button kind="danger" busy={busy} onClick={() => prune(false)}>Remove {found.list.length === 1 ? "it" : `these ${found.list.length}`}</Button>
        )}
        <Button kind="quiet" onClick={close}>{found && !found.dry ? "Done" : "Back"}</Button>
      </div>
    </Dialog>
  );
}
