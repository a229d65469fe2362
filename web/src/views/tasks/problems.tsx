// What the server refused about a task, with what it says beside the words.
import type { Problem } from "../../api/problem";
import { Refused } from "../../ui/bits";
import { agentName, TaskName } from "./pick";

export function Problems({ by }: { by: Problem | undefined }) {
  const circle = by?.reason === "CYCLE" ? (by.details.get("cycle")?.split(",").filter(Boolean) ?? []) : [];
  const holder = by?.details.get("holder");
  return (
    <Refused by={by}>
      {circle.length > 0 && (
        <p className="cycle">
          The circle:{" "}
          {[...circle, circle[0] ?? ""].map((id, at) => (
            <span key={at}>{at > 0 && " waits for "}<TaskName id={id} /></span>
          ))}
        </p>
      )}
      {holder !== undefined && holder !== "" && <p>{agentName(holder)} has it. Hand it on first.</p>}
      {by?.reason === "STALE" && <p>Somebody changed it meanwhile. What you see now is how it is; try again if you still want to.</p>}
    </Refused>
  );
}
