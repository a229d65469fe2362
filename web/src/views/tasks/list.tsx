// Tasks as a list, and the queue of what could be begun now.
import { useCallback, useEffect, useMemo } from "react";

import { type Task, TaskStatus } from "../../gen/baton/v1/task_pb";
import { useCell } from "../../store/cell";
import { type Query, ReadyList, tasks } from "../../store/tasks";
import { records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { ms } from "../../text/format";
import { Ago, Badge, Empty, Failure, Loading } from "../../ui/bits";
import { Link } from "../../ui/route";
import { Windowed } from "../../ui/windowed";
import { useTaskList } from "./board";
import { agentName } from "./pick";
import { later, MERGE, STATUS, STATUS_TONE, TYPE, urgency, urgencyTone, waits } from "./words";

/** The height of a row, in rem. */
const ROW_REM = 3.6;

const NOT_CLOSED = [TaskStatus.OPEN, TaskStatus.IN_PROGRESS, TaskStatus.REVIEW, TaskStatus.DEFERRED, TaskStatus.BACKLOG];

interface Pages {
  items: Task[];
  done: boolean;
  loading: boolean;
  failure: unknown;
  version: number;
  more(): Promise<void>;
  again(): void;
}

export function AllTasks({ query, closed }: { query: Query; closed: boolean }) {
  const list = useTaskList({ ...query, statuses: closed ? [] : NOT_CLOSED });
  return <Rows list={list} label="Tasks" nothing="No task fits." numbered={false} />;
}

export function ReadyTasks({ query }: { query: Query }) {
  const key = JSON.stringify(query);
  const list = useMemo(() => new ReadyList(JSON.parse(key) as Query), [key]);
  useEffect(() => {
    const stop = tasks.tell(list);
    void list.more();
    return stop;
  }, [list]);
  useCell(list);
  return (
    <>
      <p className="dim">What an agent could begin now: the most urgent first, then the oldest. A task is as urgent as the most urgent that waits for it.</p>
      <Rows list={list} label="Ready queue" nothing="Nothing is ready." numbered />
    </>
  );
}

function Rows({ list, label, nothing, numbered }: { list: Pages; label: string; nothing: string; numbered: boolean }) {
  useCell(records);
  const { version } = list;
  const end = useCallback(() => {
    void version;
    void list.more();
  }, [list, version]);
  if (list.failure !== undefined && list.items.length === 0) return <Failure thrown={list.failure} retry={() => list.again()} />;
  if (list.items.length === 0) return list.done ? <Empty title={nothing} /> : <Loading what="tasks" />;
  return (
    <>
      {list.failure !== undefined && <Failure thrown={list.failure} retry={() => list.again()} />}
      <Windowed className="task-rows" items={list.items} rows={ROW_REM} label={label} id={(task) => task.id} end={end} open={!list.done}>
        {(task, at) => <Row task={task} place={numbered ? at + 1 : 0} />}
      </Windowed>
    </>
  );
}

function Row({ task, place }: { task: Task; place: number }) {
  return (
    <Link to={`/tasks/${task.id}`} className="task-row">
      <span className="task-row-title">
        {place > 0 && <span className="place dim">{place}.</span>}
        <Badge tone={urgencyTone(task)} title="priority; its own in brackets">{urgency(task)}</Badge>
        <span className="clip"><Visible text={task.title} /></span>
      </span>
      <span className="task-row-facts dim">
        {place === 0 && <Badge tone={STATUS_TONE[task.status]}>{STATUS[task.status]}</Badge>}
        <span>{TYPE[task.type]}</span>
        {task.assignment && <span className="clip">{agentName(task.assignment.agentId)}</span>}
        {task.assignment && task.assignment.escalation !== "" && <Badge tone="bad" title="A person must look at it">needs you</Badge>}
        {waits(task) !== "" && <span className="warn">{waits(task)}</span>}
        {later(task) && <span>scheduled</span>}
        {MERGE[task.mergeStatus] && <span>{MERGE[task.mergeStatus]}</span>}
        {Object.entries(task.labels).slice(0, 3).map(([name, value]) => (
          <span key={name} className="clip">{value === "" ? name : `${name}=${value}`}</span>
        ))}
        <Ago at={ms(task.updatedAt)} />
      </span>
    </Link>
  );
}
