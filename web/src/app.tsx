// The frame around every view: navigation, connection, and which view the address means.
import { lazy, Suspense, useEffect } from "react";

import { useCell } from "./store/cell";
import { auth, records, watch } from "./store/world";
import { Button, Empty, Failure, Loading, Menu, Seconds, ToastList } from "./ui/bits";
import { setTitle } from "./ui/attention";
import { Icon, type IconName } from "./ui/icons";
import { Mark } from "./ui/mark";
import { go, Link, usePlace } from "./ui/route";
import { Inbox } from "./views/prompts/inbox";
import { Sessions } from "./views/sessions";
import SessionView from "./views/session/index";
import { SignIn } from "./views/signin";

const NewSession = lazy(() => import("./views/new"));
const Agents = lazy(() => import("./views/agents/index"));
const Tasks = lazy(() => import("./views/tasks/index"));
const Worktrees = lazy(() => import("./views/worktrees/index"));
const Budgets = lazy(() => import("./views/budgets/index"));
const Machines = lazy(() => import("./views/machines"));
const Access = lazy(() => import("./views/access"));
const Settings = lazy(() => import("./views/settings"));
const Terminals = lazy(() => import("./views/terminal/list"));

/** `rest`: on a small screen it is behind a button. */
const VIEWS: readonly { path: string; name: string; icon: IconName; key: string; rest?: boolean }[] = [
  { path: "sessions", name: "Sessions", icon: "sessions", key: "s" },
  { path: "terminals", name: "Terminals", icon: "terminal", key: "e", rest: true },
  { path: "prompts", name: "Prompts", icon: "prompts", key: "p" },
  { path: "agents", name: "Agents", icon: "agents", key: "a" },
  { path: "tasks", name: "Tasks", icon: "tasks", key: "t" },
  { path: "worktrees", name: "Worktrees", icon: "worktrees", key: "w", rest: true },
  { path: "budgets", name: "Budgets", icon: "budgets", key: "b", rest: true },
  { path: "machines", name: "Machines", icon: "machines", key: "m", rest: true },
  { path: "access", name: "Access", icon: "access", key: "", rest: true },
  { path: "settings", name: "Settings", icon: "settings", key: "", rest: true },
];

export function App() {
  useCell(auth);
  switch (auth.state.kind) {
    case "checking":
      return <Loading what="Baton" />;
    case "out":
      return <SignIn why={auth.state.why} />;
    case "unreachable":
      return (
        <main className="signin" id="main">
          <Failure thrown="The server cannot be reached." retry={() => void auth.check()} />
        </main>
      );
    case "in":
      return <Frame />;
  }
}

function Frame() {
  useCell(records);
  const { path } = usePlace();
  const view = path[0] ?? "sessions";
  const id = view === "sessions" ? path[1] : undefined;
  const waiting = records.pending().length;
  const name = id !== undefined ? (records.sessions.get(id)?.title ?? "Session") : view === "new" ? "New session" : (VIEWS.find((one) => one.path === view)?.name ?? "");
  useEffect(() => setTitle(name), [name]);
  useGoKeys();
  return (
    <div className={id === undefined ? "frame" : "frame in-session"}>
      <a className="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        To the content
      </a>
      <nav className="nav" aria-label="Views">
        <Link to="/sessions" className="brand" label="Baton, all sessions"><Mark /><span>baton</span></Link>
        <ul>
          {VIEWS.map((one) => (
            <li key={one.path} className={one.rest ? "rest" : undefined}>
              <Link to={`/${one.path}`} current={view === one.path}>
                <Icon name={one.icon} />
                <span>{one.name}</span>
                {one.path === "prompts" && waiting > 0 && <b className="count" aria-label={`${waiting} waiting`}>{waiting}</b>}
              </Link>
            </li>
          ))}
          <li className="more-views">
            <Menu label="More views" icon="more" name="More">
              {(close) =>
                VIEWS.filter((one) => one.rest).map((one) => (
                  <Button key={one.path} kind="quiet" icon={one.icon} pressed={view === one.path} onClick={() => (close(), go(`/${one.path}`))}>{one.name}</Button>
                ))
              }
            </Menu>
          </li>
        </ul>
        <Connection />
      </nav>
      <main id="main" tabIndex={-1}>
        <ConnectionBanner />
        <Suspense fallback={<Loading what="the view" />}>
          <View view={view} id={id} />
        </Suspense>
      </main>
      <ToastList />
    </div>
  );
}

function View({ view, id }: { view: string; id: string | undefined }) {
  if (id !== undefined) return <SessionView key={id} id={id} />;
  switch (view) {
    case "sessions":
      return <Sessions />;
    case "prompts":
      return <Inbox />;
    case "new":
      return <NewSession />;
    case "terminals":
      return <Terminals />;
    case "agents":
      return <Agents />;
    case "tasks":
      return <Tasks />;
    case "worktrees":
      return <Worktrees />;
    case "budgets":
      return <Budgets />;
    case "machines":
      return <Machines />;
    case "access":
      return <Access />;
    case "settings":
      return <Settings />;
    default:
      return <Empty title="There is nothing here."><Link to="/sessions">All sessions</Link></Empty>;
  }
}

/** `g` and a letter go to a view. */
function useGoKeys(): void {
  useEffect(() => {
    let armed = -Infinity;
    const listen = (event: KeyboardEvent) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target instanceof HTMLElement && ["INPUT", "TEXTAREA", "SELECT"].includes(event.target.tagName)) return;
      if (document.querySelector("dialog[open]")) return;
      if (event.key === "g") {
        armed = performance.now();
        return;
      }
      if (performance.now() - armed > 1_000) return;
      armed = -Infinity;
      const view = VIEWS.find((one) => one.key === event.key);
      // What comes after g is not for a prompt's card.
      if (view || event.key === "n") event.stopImmediatePropagation();
      if (view) go(`/${view.path}`);
      else if (event.key === "n") go("/new");
    };
    document.addEventListener("keydown", listen, true);
    return () => document.removeEventListener("keydown", listen, true);
  }, []);
}

/** The state of the stream, in a word. */
function Connection() {
  useCell(watch);
  const { phase } = watch;
  const words = { connecting: "connecting", live: "live", polling: "live, every 2 s", hidden: "resting", waiting: "not connected", "signed-out": "signed out" };
  const tone = phase.kind === "live" || phase.kind === "polling" ? "good" : phase.kind === "waiting" ? "bad" : "off";
  return (
    <p className="connection" role="status" data-phase={phase.kind} title={phase.kind === "polling" ? "Many tabs of this console are open; this one looks from time to time." : undefined}>
      <span className={`dot ${tone}`} aria-hidden="true" /> <span>{words[phase.kind]}</span>
    </p>
  );
}

function ConnectionBanner() {
  useCell(watch);
  const { phase } = watch;
  if (phase.kind !== "waiting") return null;
  return (
    <div className="banner" role="status">
      <Icon name="offline" />
      <span>
        {phase.why} What you see may be old; nothing is lost. Trying again in <Seconds until={phase.until} />
      </span>
      <Button small onClick={() => watch.retry()}>Now</Button>
    </div>
  );
}
