// The board: a column for each status, and one for what is blocked. A card is dragged, or moved with keys.
import { type KeyboardEvent, memo, useCallback, useEffect, useMemo, useRef, useState } from "react";

import { type Task, TaskStatus } from "../../gen/baton/v1/task_pb";
import { useCell } from "../../store/cell";
import { type Query, TaskList, tasks } from "../../store/tasks";
import { records } from "../../store/world";
import { Visible } from "../../text/hidden";
import { Badge, Button, Failure } from "../../ui/bits";
import { Icon } from "../../ui/icons";
import { go, Link } from "../../ui/route";
import { Windowed } from "../../ui/windowed";
import { type Column, COLUMNS, columnOf, moveTo } from "./moves";
import { agentName } from "./pick";
import { mayChange, useVerbs } from "./verbs";
import { later, MERGE, MERGE_BAD, TYPE, urgency, urgencyTone, waits } from "./words";

/** The height of a card with the gap below it, in rem. */
const CARD_REM = 6.2;
/** Tasks of a status that are read without being asked for while a column of them is nearly empty. */
const LOOK_MAX = 1_000;

export function useTaskList(query: Query): TaskList {
  const key = JSON.stringify(query);
  const list = useMemo(() => new TaskList(JSON.parse(key) as Query), [key]);
  useEffect(() => {
    const stop = tasks.tell(list);
    void list.more();
    return stop;
  }, [list]);
  return useCell(list);
}

interface Focus {
  id: string;
}

export function Board({ query }: { query: Query }) {
  useCell(records);
  const backlog = useTaskList({ ...query, statuses: [TaskStatus.BACKLOG] });
  const deferred = useTaskList({ ...query, statuses: [TaskStatus.DEFERRED] });
  const open = useTaskList({ ...query, statuses: [TaskStatus.OPEN] });
  const begun = useTaskList({ ...query, statuses: [TaskStatus.IN_PROGRESS] });
  const review = useTaskList({ ...query, statuses: [TaskStatus.REVIEW] });
  const closed = useTaskList({ ...query, statuses: [TaskStatus.CLOSED] });
  const [dragged, setDragged] = useState<Task>();
  const [focus, setFocus] = useState<Focus>({ id: "" });
  const [seen, setSeen] = useState<Column>("open");
  const wanted = useRef("");
  const look = useCallback((id: string) => {
    wanted.current = id;
    setFocus({ id });
  }, []);
  const verbs = useVerbs(look);
  const may = mayChange();

  const lists: Record<Column, TaskList> = { backlog, deferred, blocked: open, open, in_progress: begun, review, closed };
  const columns = COLUMNS.map(({ column, name }) => {
    const list = lists[column];
    return { column, name, list, items: list.items.filter((task) => columnOf(task) === column) };
  });

  const keys = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.target instanceof HTMLElement)) return;
    const id = event.target.closest<HTMLElement>("[data-task]")?.dataset.task;
    if (id === undefined) return;
    const x = columns.findIndex(({ items }) => items.some((task) => task.id === id));
    const y = columns[x]?.items.findIndex((task) => task.id === id) ?? -1;
    const task = columns[x]?.items[y];
    if (!task) return;
    const to = (column: number, at: number) => {
      const items = columns[column]?.items ?? [];
      const next = items[Math.min(Math.max(at, 0), items.length - 1)];
      if (next) look(next.id);
    };
    const side = (step: number) => {
      for (let at = x + step; at >= 0 && at < columns.length; at += step) {
        if ((columns[at]?.items.length ?? 0) === 0) continue;
        setSeen(columns[at]?.column ?? "open");
        to(at, y);
        return;
      }
    };
    switch (event.key) {
      case "ArrowDown":
        to(x, y + 1);
        break;
      case "ArrowUp":
        to(x, y - 1);
        break;
      case "ArrowRight":
        side(1);
        break;
      case "ArrowLeft":
        side(-1);
        break;
      case "Home":
        to(x, 0);
        break;
      case "End":
        to(x, Infinity);
        break;
      case "m":
        if (!may) return;
        verbs.ask({ verb: "move", task });
        break;
      default:
        return;
    }
    event.preventDefault();
  };

  return (
    <>
      <label className="board-pick">
        <span className="visually-hidden">Column</span>
        <select value={seen} onChange={(event) => setSeen(event.target.value as Column)}>
          {columns.map(({ column, name, items, list }) => (
            <option key={column} value={column}>{name} ({items.length}{list.done ? "" : "+"})</option>
          ))}
        </select>
      </label>
      {/* The keys are those of the cards in it. */}
      <div className="board" onKeyDown={keys}>
        {columns.map(({ column, name, list, items }) => {
          const way = dragged && moveTo(dragged, column);
          return (
            <Lane
              key={column}
              column={column}
              name={name}
              list={list}
              items={items}
              seen={seen === column}
              drop={way === undefined ? "" : typeof way === "string" ? "never" : "here"}
              why={typeof way === "string" ? way : ""}
              take={() => dragged && verbs.move(dragged, column)}
              focus={focus}
              wanted={wanted}
              drag={may ? setDragged : undefined}
              ask={may ? (task) => verbs.ask({ verb: "move", task }) : undefined}
            />
          );
        })}
      </div>
      {verbs.dialog}
    </>
  );
}

interface LaneProps {
  column: Column;
  name: string;
  list: TaskList;
  items: Task[];
  /** Whether it is the one that a phone shows. */
  seen: boolean;
  drop: "" | "here" | "never";
  why: string;
  take: () => void;
  focus: Focus;
  wanted: { current: string };
  drag: ((task: Task | undefined) => void) | undefined;
  ask: ((task: Task) => void) | undefined;
}

function Lane(props: LaneProps) {
  const { list, items, column, drop } = props;
  const [over, setOver] = useState(false);
  const [further, setFurther] = useState(LOOK_MAX);
  // A column that shares its status with another may be empty however much is read.
  const reads = items.length >= 20 || list.size < further;
  const { version } = list;
  const end = useCallback(() => {
    // The list has changed: there may be another page to read.
    void version;
    if (reads) void list.more();
  }, [list, reads, version]);
  const at = items.findIndex((task) => task.id === props.focus.id);
  const reveal = useMemo(() => ({ at: items.findIndex((task) => task.id === props.focus.id) }),
    // Only a new focus scrolls.
    // eslint-disable-next-line react-hooks/exhaustive-deps
    [props.focus, at >= 0]);
  const stop = at >= 0 ? props.focus.id : items[0]?.id;
  return (
    <section
      className={`lane${drop === "" ? "" : ` drop-${drop}`}${over && drop === "here" ? " over" : ""}${props.seen ? " seen" : ""}`}
      aria-label={props.name}
      data-column={column}
      onDragOver={(event) => {
        if (drop !== "here") return;
        event.preventDefault();
        event.dataTransfer.dropEffect = "move";
        setOver(true);
      }}
      onDragLeave={(event) => {
        if (!(event.relatedTarget instanceof Node && event.currentTarget.contains(event.relatedTarget))) setOver(false);
      }}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        props.take();
      }}
    >
      <h2>{props.name} <span className="dim">{items.length}{list.done ? "" : "+"}</span></h2>
      {props.why !== "" && <p className="lane-why">{props.why}</p>}
      {list.failure !== undefined && <Failure thrown={list.failure} retry={() => list.again()} />}
      <Windowed items={items} rows={CARD_REM} label={props.name} id={(task) => task.id} end={end} open={!list.done} reveal={reveal}>
        {(task) => <Card task={task} stop={task.id === stop} wanted={props.wanted} drag={props.drag} ask={props.ask} />}
      </Windowed>
      {!reads && !list.done && !list.loading && <Button small onClick={() => setFurther(list.size + LOOK_MAX)}>Look further</Button>}
    </section>
  );
}

interface CardProps {
  task: Task;
  /** Whether the tab key stops here. */
  stop: boolean;
  wanted: { current: string };
  drag: ((task: Task | undefined) => void) | undefined;
  ask: ((task: Task) => void) | undefined;
}

const Card = memo(function Card({ task, stop, wanted, drag, ask }: CardProps) {
  const link = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (wanted.current !== task.id) return;
    wanted.current = "";
    link.current?.querySelector("a")?.focus({ preventScroll: true });
  });
  return (
    <div
      ref={link}
      className={`task-card${task.blocked ? " blocked" : ""}`}
      data-task={task.id}
      draggable={drag !== undefined}
      onDragStart={(event) => {
        event.dataTransfer.setData("text/plain", task.title);
        event.dataTransfer.effectAllowed = "move";
        drag?.(task);
      }}
      onDragEnd={() => drag?.(undefined)}
      onDoubleClick={() => go(`/tasks/${task.id}`)}
    >
      <div className="task-head">
        <Link to={`/tasks/${task.id}`} className="task-title" tab={stop ? 0 : -1}><Visible text={task.title} /></Link>
        {ask && (
          <button type="button" className="button quiet small bare" tabIndex={-1} aria-label={`Move ${task.title}`} title="Move (m)" onClick={() => ask(task)}>
            <Icon name="move" />
          </button>
        )}
      </div>
      <div className="task-facts">
        <span>
          <Badge tone={urgencyTone(task)} title={task.effectivePriority !== task.priority ? `priority ${task.priority}; as urgent as ${task.effectivePriority} because of what waits for it` : `priority ${task.priority}`}>{urgency(task)}</Badge>
          <span className="dim">{TYPE[task.type]}</span>
          {later(task) && <span className="dim clip">scheduled</span>}
        </span>
        <span>
          {waits(task) !== "" && <span className="warn clip">{waits(task)}</span>}
          {task.assignment && task.assignment.escalation !== "" && <span className="bad" title="A person must look at it">needs you</span>}
          {task.assignment && <span className="task-agent clip">{agentName(task.assignment.agentId)}</span>}
          {waits(task) === "" && MERGE[task.mergeStatus] !== "" && <span className={`clip ${MERGE_BAD.includes(task.mergeStatus) ? "bad" : "dim"}`}>{MERGE[task.mergeStatus]}</span>}
        </span>
      </div>
    </div>
  );
});
