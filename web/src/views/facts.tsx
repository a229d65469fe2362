// The three facts of a session, side by side: lifecycle, activity, link.
import type { Session } from "../gen/baton/v1/session_pb";
import { ACTIVITY, LIFECYCLE, living, ms, REASON, tone, word } from "../text/format";
import { Ago, Badge, Dot } from "../ui/bits";
import { Icon } from "../ui/icons";
import { Activity, Lifecycle, SessionMode } from "../gen/baton/v1/session_pb";

export function State({ session }: { session: Session }) {
  return (
    <span className={`state-word ${tone(session)}`}>
      <Dot tone={tone(session)} />
      {word(session)}
    </span>
  );
}

export function Detached({ session }: { session: Session }) {
  if (session.attached || !living(session)) return null;
  return (
    <span className="badge warn" title="The link to the machine was lost. The agent works on; the log catches up when it is back.">
      <Icon name="offline" /> away <Ago at={ms(session.detachedSince)} />
    </span>
  );
}

/** All three, spelled out. */
export function Facts({ session }: { session: Session }) {
  const running = session.lifecycle === Lifecycle.RUNNING;
  // What a program in a terminal is about is known from its screen only.
  const told = session.mode !== SessionMode.INTERACTIVE || session.activity !== Activity.UNKNOWN;
  const guess = session.activityConfidence > 0 && session.activityConfidence < 100 ? ` (${session.activityConfidence} %)` : "";
  return (
    <span className="three-facts">
      <Badge title="lifecycle">
        {session.end ? `${LIFECYCLE[session.lifecycle]}: ${REASON[session.end.reason]}` : LIFECYCLE[session.lifecycle]}
      </Badge>
      {running && told && ACTIVITY[session.activity] && (
        <Badge tone={tone(session)} title="activity">
          <Dot tone={tone(session)} /> {ACTIVITY[session.activity]}{guess}
        </Badge>
      )}
      {living(session) && (session.attached ? <Badge title="link">attached</Badge> : <Detached session={session} />)}
    </span>
  );
}
