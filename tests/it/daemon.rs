//! What the daemon promises, tried with real runners and a real transport.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use baton::base::id::{CommandId, InputId, SessionId};
use baton::base::{Clock as _, Code, Error, Secret, SystemClock};
use baton::daemon::kin;
use baton::daemon::{Daemon, Options, ServerAddress};
use baton::domain::command::{CommandBody, StartCommand};
use baton::domain::event::EventBody;
use baton::domain::harness::PermissionMode;
use baton::domain::session::{EndReason, Mode};
use baton::domain::{Command, CommandOutcome, CommandResult, EventKind};
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::daemon_server::FakeServer;
use crate::history::{Fact, History, hash};
use crate::runner::{is_alive, runner_in};

const PATIENCE: Duration = Duration::from_secs(60);

/// A server and a daemon that can be killed and started again.
struct World {
    root: tempfile::TempDir,
    server: FakeServer,
    daemon: Option<JoinHandle<baton::base::Result<()>>>,
    shutdown: CancellationToken,
    last: Option<CommandId>,
}

impl World {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("work")).unwrap();
        let mut world = World {
            root,
            server: FakeServer::start().await,
            daemon: None,
            shutdown: CancellationToken::new(),
            last: None,
        };
        world.start().await;
        world
    }

    fn options(&self) -> Options {
        let server = ServerAddress {
            uri: self.server.uri.clone(),
            ca: None,
        };
        let mut options = Options::new(self.root.path().join("state"), server);
        options.join_token = Some(Secret::new("bj_join"));
        options.name = "here".to_owned();
        options.policy.roots = vec![self.root.path().join("work")];
        options.policy.allow_commands = true;
        options.program = Some(PathBuf::from(env!("CARGO_BIN_EXE_baton")));
        options.link_limits.backoff = (Duration::from_millis(10), Duration::from_millis(200));
        options
    }

    async fn start(&mut self) {
        self.shutdown = CancellationToken::new();
        let daemon = Daemon::open(self.options()).await.unwrap();
        assert_eq!(daemon.identity().id, self.server.daemon_id);
        self.daemon = Some(tokio::spawn(daemon.run(self.shutdown.clone())));
    }

    /// Ends the daemon between two polls, wherever it is: what a kill leaves.
    async fn kill(&mut self) {
        let daemon = self.daemon.take().unwrap();
        daemon.abort();
        let _ = daemon.await;
    }

    fn send(&mut self, session_id: SessionId, body: CommandBody) -> CommandId {
        // Ids of one session are done in their order.
        let id = loop {
            let id = CommandId::generate(SystemClock.now());
            if self.last.is_none_or(|last| id > last) {
                break id;
            }
        };
        self.last = Some(id);
        self.server.command(Command {
            id,
            session_id,
            deadline: None,
            body,
        });
        id
    }

    fn run(&mut self, script: &str) -> (SessionId, CommandId) {
        self.run_with(|start| {
            start.argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        })
    }

    fn run_with(&mut self, change: impl FnOnce(&mut StartCommand)) -> (SessionId, CommandId) {
        let id = SessionId::generate(SystemClock.now());
        let mut start = StartCommand {
            harness: "command".to_owned(),
            cwd: self.root.path().join("work").to_str().unwrap().to_owned(),
            model: String::new(),
            permission_mode: PermissionMode::Ask,
            mode: Mode::Headless,
            argv: Vec::new(),
            env_names: Vec::new(),
            provider_session_id: String::new(),
            fork: false,
            one_shot: false,
            replaces: None,
            terminal: None,
            instructions: String::new(),
        };
        change(&mut start);
        let command = self.send(id, CommandBody::Start(Box::new(start)));
        (id, command)
    }

    fn input(&mut self, id: SessionId, text: &str) -> CommandId {
        self.send(
            id,
            CommandBody::Input {
                input_id: InputId::generate(SystemClock.now()),
                text: text.to_owned(),
                steer: false,
            },
        )
    }

    fn end(&mut self, id: SessionId, force: bool) -> CommandId {
        self.send(
            id,
            CommandBody::End {
                force,
                reason: EndReason::Stopped,
                suspend: false,
                message: "enough".to_owned(),
            },
        )
    }

    async fn result(&self, id: CommandId) -> CommandResult {
        eventually("a result", || self.server.result(id)).await
    }

    async fn applied(&self, id: CommandId) {
        let result = self.result(id).await;
        assert_eq!(result.outcome, CommandOutcome::Applied, "{result:?}");
    }

    async fn refused(&self, id: CommandId) -> Code {
        let result = self.result(id).await;
        assert_eq!(result.outcome, CommandOutcome::Rejected, "{result:?}");
        Code::parse(&result.code).unwrap()
    }

    async fn line(&self, id: SessionId, text: &str) {
        eventually(&format!("the line {text:?}"), || {
            self.lines(id).iter().any(|line| line == text).then_some(())
        })
        .await;
    }

    fn lines(&self, id: SessionId) -> Vec<String> {
        let mut lines = vec![String::new()];
        for event in self.server.events(id) {
            if let EventBody::Output { text, continues } = event.body {
                lines.last_mut().unwrap().push_str(&text);
                if !continues {
                    lines.push(String::new());
                }
            }
        }
        lines.pop();
        lines
    }

    async fn ended(&self, id: SessionId) -> baton::domain::EndInfo {
        eventually("the end", || {
            self.server
                .events(id)
                .into_iter()
                .find_map(|event| match event.body {
                    EventBody::Ended { end } => Some(end),
                    _ => None,
                })
        })
        .await
    }

    fn dir(&self, id: SessionId) -> PathBuf {
        self.root.path().join("state/sessions").join(id.to_string())
    }

    /// The session's directory is empty but for the mark that it is done.
    async fn cleared(&self, id: SessionId) {
        let dir = self.dir(id);
        eventually("an empty directory", || {
            let names: Vec<_> = std::fs::read_dir(&dir)
                .ok()?
                .map(|entry| entry.unwrap().file_name())
                .collect();
            (names == ["done"]).then_some(())
        })
        .await;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let sessions = self.root.path().join("state/sessions");
        for entry in std::fs::read_dir(sessions).into_iter().flatten().flatten() {
            if let Ok(spec) = baton::daemon::runner::Spec::read(&entry.path()) {
                for process in kin::marked("BATON_RUNNER", &spec.marker) {
                    process.signal(Signal::SIGKILL);
                }
            }
            if let Some(pid) = runner_in(&entry.path()) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn runner_pid(dir: &Path) -> i32 {
    // The runner's directory is its working directory.
    runner_in(dir).unwrap()
}

#[tokio::test]
async fn a_command_runs_takes_input_and_ends() {
    let mut world = World::new().await;
    let (id, start) =
        world.run("echo hi; while read line; do echo \"got $line\"; done; echo bad >&2; exit 3");
    world.applied(start).await;
    world.line(id, "hi").await;
    let input = world.input(id, "one\ntwo");
    world.applied(input).await;
    world.line(id, "got two").await;
    let end = world.end(id, false);
    world.applied(end).await;
    let info = world.ended(id).await;
    assert_eq!((info.reason, info.exit_code), (EndReason::Stopped, Some(3)));
    assert_eq!(
        (info.message.as_str(), info.stderr_tail.as_str()),
        ("enough", "bad\n")
    );
    let kinds: Vec<EventKind> = world
        .server
        .events(id)
        .iter()
        .map(|e| e.body.kind())
        .collect();
    assert_eq!(kinds[0], EventKind::Started);
    assert!(kinds.contains(&EventKind::InputChanged));
    assert_eq!(world.lines(id), ["hi", "got one", "got two"]);
    world.cleared(id).await;
}

#[tokio::test]
async fn ends_are_told_as_they_were() {
    let mut world = World::new().await;
    let (good, _) = world.run("exit 0");
    let (bad, _) = world.run("echo why >&2; exit 7");
    let (killed, _) = world.run("kill -SEGV $$");
    let (absent, start) = world.run_with(|start| start.argv = vec!["/nonexistent".to_owned()]);
    world.applied(start).await;
    assert_eq!(world.ended(good).await.reason, EndReason::Completed);
    let end = world.ended(bad).await;
    assert_eq!((end.reason, end.exit_code), (EndReason::Failed, Some(7)));
    assert_eq!(end.stderr_tail, "why\n");
    let end = world.ended(killed).await;
    assert_eq!((end.reason, end.signal), (EndReason::Crashed, 11));
    let end = world.ended(absent).await;
    assert_eq!(end.reason, EndReason::Failed);
    assert!(
        end.message.contains("could not be started"),
        "{}",
        end.message
    );
}

#[tokio::test]
async fn a_killed_daemon_comes_back_to_the_same_process_and_nothing_is_lost_or_doubled() {
    let mut world = World::new().await;
    let script = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo $i; done; echo pid $$; \
                  while read line; do echo \"got $line\"; done";
    let (id, start) = world.run(script);
    world.applied(start).await;
    for round in 0..6 {
        let seen = world.server.events(id).len();
        eventually("more events", || {
            let events = world.server.events(id);
            (events.len() >= seen + 200 || world.lines(id).len() > 4_000).then_some(())
        })
        .await;
        world.kill().await;
        if round % 2 == 1 {
            world.server.vanish().await;
            world.server.again().await;
        }
        world.start().await;
    }
    for n in 0..20 {
        let input = world.input(id, &format!("in {n}"));
        if n % 5 == 0 {
            world.kill().await;
            world.start().await;
        }
        world.applied(input).await;
    }
    world.line(id, "got in 19").await;
    let end = world.end(id, false);
    world.applied(end).await;
    world.ended(id).await;
    let lines = world.lines(id);
    let expected: Vec<String> = (1..=4_000)
        .map(|n| n.to_string())
        .chain([lines[4_000].clone()])
        .chain((0..20).map(|n| format!("got in {n}")))
        .collect();
    assert!(
        lines == expected,
        "{:?}",
        &lines[lines.len().saturating_sub(30)..]
    );
    world.cleared(id).await;
}

#[tokio::test]
async fn a_lost_link_loses_and_doubles_nothing() {
    let mut world = World::new().await;
    let (id, start) = world.run("i=0; while [ $i -lt 6000 ]; do i=$((i+1)); echo $i; done");
    world.applied(start).await;
    for _ in 0..5 {
        let seen = world.server.events(id).len();
        eventually("more events", || {
            (world.server.events(id).len() > seen || world.lines(id).len() >= 6_000).then_some(())
        })
        .await;
        world.server.vanish().await;
        world.server.again().await;
    }
    world.ended(id).await;
    let expected: Vec<String> = (1..=6_000).map(|n| n.to_string()).collect();
    assert!(world.lines(id) == expected);
}

#[tokio::test]
async fn a_session_that_stands_still_does_not_hold_up_its_siblings() {
    const LINES: usize = 4_000;
    let mut world = World::new().await;
    let history = History::in_memory("siblings");
    let script = format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo $i; done; read word");
    let (still, start) = world.run(&script);
    world.applied(start).await;
    world.server.stall(Some(still));
    let log = still.to_string();
    history.note("server", Fact::Stalled { log });
    let before = world.server.events(still).len();
    // It uses up what a session may have under way, and waits. Meanwhile another one goes its whole way.
    let (moves, start) = world.run(&script);
    world.applied(start).await;
    let last = LINES.to_string();
    world.line(moves, &last).await;
    let input = world.input(moves, "over");
    world.applied(input).await;
    world.ended(moves).await;
    assert_eq!(world.server.events(still).len(), before);
    let events = world.server.events(moves);
    let acked = Fact::Acked {
        log: moves.to_string(),
        first: 1,
        hashes: events
            .iter()
            .map(|event| hash(&format!("{event:?}")))
            .collect(),
    };
    history.note("server", acked);
    assert_eq!(world.server.log.lock().links, 1, "all of it on one link");
    let log = still.to_string();
    history.note("server", Fact::Unstalled { log });
    world.server.stall(None);
    world.line(still, &last).await;
    let input = world.input(still, "over");
    world.applied(input).await;
    world.ended(still).await;
    let expected: Vec<String> = (1..=LINES).map(|line| line.to_string()).collect();
    assert!(world.lines(still) == expected && world.lines(moves) == expected);
    assert_eq!(world.server.log.lock().links, 1, "all of it on one link");
    history.validate();
}

#[tokio::test]
async fn the_runner_of_a_dead_session_is_told_as_a_crash_and_what_it_left_is_ended() {
    let mut world = World::new().await;
    let (id, start) = world.run("echo $$; exec sleep 600");
    world.applied(start).await;
    let pid = eventually("the pid", || world.lines(id).first().cloned()).await;
    let runner = runner_pid(&world.dir(id));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    let end = world.ended(id).await;
    assert_eq!(end.reason, EndReason::Crashed);
    assert!(end.message.contains("runner died"), "{}", end.message);
    assert!(!is_alive(pid.parse().unwrap()));
    world.cleared(id).await;

    // The same while no daemon is there to see it.
    let (id, start) = world.run("echo up; exec sleep 600");
    world.applied(start).await;
    world.line(id, "up").await;
    world.kill().await;
    let runner = runner_pid(&world.dir(id));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    world.start().await;
    assert_eq!(world.ended(id).await.reason, EndReason::Crashed);
    let late = world.input(id, "too late");
    assert!(matches!(
        world.refused(late).await,
        Code::InvalidState | Code::NoSession
    ));
}

#[tokio::test]
async fn a_start_that_comes_again_starts_nothing() {
    let mut world = World::new().await;
    let count = world.root.path().join("work/count");
    let (id, start) = world.run("echo x >> count; exec sleep 600");
    world.applied(start).await;
    eventually("the process", || count.exists().then_some(())).await;
    // As after a crash of the server before it noted the result.
    let start = Command {
        body: CommandBody::Start(Box::new(StartCommand {
            harness: "command".to_owned(),
            cwd: world.root.path().join("work").to_str().unwrap().to_owned(),
            model: String::new(),
            permission_mode: PermissionMode::Ask,
            mode: Mode::Headless,
            argv: ["/bin/sh", "-c", "echo x >> count"]
                .map(str::to_owned)
                .to_vec(),
            env_names: Vec::new(),
            provider_session_id: String::new(),
            fork: false,
            one_shot: false,
            replaces: None,
            terminal: None,
            instructions: String::new(),
        })),
        id: start,
        session_id: id,
        deadline: None,
    };
    world.kill().await;
    world.server.log.lock().results.clear();
    world.server.command(start.clone());
    world.start().await;
    world.applied(start.id).await;
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\n");
    let end = world.end(id, true);
    world.applied(end).await;
    world.ended(id).await;
    world.cleared(id).await;
    world.kill().await;
    world.server.log.lock().results.clear();
    world.server.command(start.clone());
    world.start().await;
    world.applied(start.id).await;
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "x\n");
}

#[tokio::test]
async fn the_policy_of_the_machine_is_final() {
    let mut world = World::new().await;
    let (_, outside) = world.run_with(|start| {
        start.argv = vec!["/bin/true".to_owned()];
        start.cwd = "/etc".to_owned();
    });
    assert_eq!(world.refused(outside).await, Code::Forbidden);
    let (_, unknown) = world.run_with(|start| start.harness = "other".to_owned());
    assert_eq!(world.refused(unknown).await, Code::HarnessUnavailable);
    let (_, env) = world.run_with(|start| {
        start.argv = vec!["/bin/true".to_owned()];
        start.env_names = vec!["AWS_SECRET_ACCESS_KEY".to_owned()];
    });
    assert_eq!(world.refused(env).await, Code::Forbidden);
    let (id, empty) = world.run_with(|_| {});
    assert_eq!(world.refused(empty).await, Code::InvalidInput);
    assert!(!world.dir(id).exists());
    let (id, start) = world.run("env");
    world.applied(start).await;
    world.ended(id).await;
    let names: Vec<String> = world
        .lines(id)
        .iter()
        .filter_map(|line| line.split_once('=').map(|pair| pair.0.to_owned()))
        .collect();
    assert!(names.contains(&"PATH".to_owned()));
    assert!(
        names.iter().all(|name| !name.starts_with("CARGO")),
        "{names:?}"
    );
    let interrupt = world.send(id, CommandBody::Interrupt);
    assert!(matches!(
        world.refused(interrupt).await,
        Code::NotInteractive | Code::InvalidState | Code::NoSession
    ));
}

#[tokio::test]
async fn a_foreign_session_is_ended_and_forgotten() {
    let mut world = World::new().await;
    let (id, start) = world.run("echo up; exec sleep 600");
    world.applied(start).await;
    world.line(id, "up").await;
    world.kill().await;
    world
        .server
        .log
        .lock()
        .sessions
        .get_mut(&id)
        .unwrap()
        .foreign = true;
    world.start().await;
    world.cleared(id).await;
}

#[tokio::test]
async fn shutdown_says_goodbye_and_agents_work_on() {
    let mut world = World::new().await;
    let (id, start) = world.run("read line; echo \"got $line\"; exec sleep 600");
    world.applied(start).await;
    world.shutdown.cancel();
    let daemon = world.daemon.take().unwrap();
    tokio::time::timeout(PATIENCE, daemon)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(world.server.log.lock().goodbyes.len(), 1);
    assert!(!world.server.log.lock().goodbyes[0].sessions_end);
    world.start().await;
    let input = world.input(id, "again");
    world.applied(input).await;
    world.line(id, "got again").await;
}

#[tokio::test]
async fn a_second_process_of_the_same_daemon_does_not_run() {
    let world = World::new().await;
    let error = Daemon::open(world.options()).await.err().unwrap();
    assert!(error.message().contains("another daemon runs"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_was_replaced_ends_and_one_that_is_refused_keeps_its_agents() {
    let mut world = World::new().await;
    let (id, start) = world.run("echo up; read line; echo \"got $line\"; exec sleep 600");
    world.applied(start).await;
    world.line(id, "up").await;
    world.server.log.lock().refuses = Some(Error::new(Code::Unauthenticated, "revoked"));
    world.server.vanish().await;
    world.server.again().await;
    let input = world.input(id, "after all");
    // Allowed again, it goes on.
    world.server.log.lock().refuses = None;
    world.applied(input).await;
    world.line(id, "got after all").await;

    world.server.log.lock().refuses = Some(Error::new(Code::Stale, "a newer link took over"));
    world.server.vanish().await;
    world.server.again().await;
    let daemon = world.daemon.take().unwrap();
    let over = tokio::time::timeout(PATIENCE, daemon)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(over.unwrap_err().code(), Code::Stale);
}

#[tokio::test]
async fn directories_are_looked_up_beneath_the_roots() {
    let world = World::new().await;
    std::fs::create_dir(world.root.path().join("work/sub")).unwrap();
    eventually("a link", || {
        (world.server.log.lock().links > 0).then_some(())
    })
    .await;
    world
        .server
        .list(world.root.path().join("work").to_str().unwrap());
    let listed = eventually("a directory", || world.server.log.lock().directories.pop()).await;
    assert_eq!(listed.entries[0].name, "sub");
}

#[tokio::test]
async fn one_conversation_has_one_writer() {
    let mut world = World::new().await;
    let demo = |conversation: &'static str| {
        move |start: &mut StartCommand| {
            start.harness = "demo".to_owned();
            start.provider_session_id = conversation.to_owned();
        }
    };
    let conversation = "7d3b1c1e-6c9b-4a3e-9b7c-0123456789ab";
    let (first, start) = world.run_with(demo(conversation));
    world.applied(start).await;
    let (_, second) = world.run_with(demo(conversation));
    // The first may have ended by itself, since there is no such conversation; then nobody is in the way.
    let result = world.result(second).await;
    if result.outcome == CommandOutcome::Rejected {
        assert_eq!(result.code, "SESSION_EXISTS");
    } else {
        world.ended(first).await;
    }
}
