// Which repository, on which machine.
import { useId, useState } from "react";

import { records } from "../../store/world";
import { Button, Field } from "../../ui/bits";
import { Picker } from "../new";
import { linked, repositories } from "./words";

export interface Repository {
  daemonId: string;
  path: string;
}

/** The one that was last used, or the only machine. */
export function likely(): Repository {
  const [first] = repositories();
  const there = linked().filter((daemon) => daemon.attached);
  return first ?? { daemonId: there[0]?.id ?? "", path: "" };
}

export function RepositoryFields({ value, set }: { value: Repository; set: (value: Repository) => void }) {
  const [picking, setPicking] = useState(false);
  const list = useId();
  const daemon = records.daemons.get(value.daemonId);
  return (
    <>
      <Field label="Machine">
        {(id) => (
          <select id={id} value={value.daemonId} onChange={(event) => set({ daemonId: event.target.value, path: "" })}>
            {linked().map((one) => (
              <option key={one.id} value={one.id} disabled={!one.attached}>{one.name}{one.attached ? "" : " (away)"}</option>
            ))}
          </select>
        )}
      </Field>
      <Field label="Repository" hint="Its directory, or one in it: absolute.">
        {(id) => (
          <div className="with-button">
            <input id={id} className="mono" required value={value.path} list={list} onChange={(event) => set({ ...value, path: event.target.value })} />
            <datalist id={list}>
              {repositories().filter((one) => one.daemonId === value.daemonId).map((one) => (
                <option key={one.path} value={one.path} />
              ))}
            </datalist>
            {daemon?.attached && <Button icon="folder" onClick={() => setPicking(true)}>Browse</Button>}
          </div>
        )}
      </Field>
      {picking && daemon && <Picker daemon={daemon} start={value.path} pick={(path) => (set({ ...value, path }), setPicking(false))} close={() => setPicking(false)} />}
    </>
  );
}
