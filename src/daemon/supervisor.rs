//! Owns the sessions of this machine: starts them once, takes living ones over, ends foreign ones.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};

use super::fault;
use super::paths::{StateDir, broken, make_private};
use super::policy::Policy;
use super::runner::ledger::LEDGER_FILE;
use super::runner::spec::Window;
use super::runner::{Spec, client};
use super::session::pump::{Home, Inbox, Message, Pump, Shared, applied, rejected};
use super::session::state::{DONE_FILE, Meta};
use crate::base::id::{CommandId, SessionId};
use crate::base::{Code, Error, Result, Timestamp};
use crate::domain::command::{CommandBody, StartCommand};
use crate::domain::link::{DaemonEvent, Query, QueryBody, QueryResult};
use crate::domain::session::Mode;
use crate::domain::terminal::Act;
use crate::domain::{Command, CommandResult};

/// The most that waits in the spool of a session in a terminal, in bytes.
const TERMINAL_SPOOL_BYTES: u64 = 16 << 20;
/// Most messages that wait for one session; the server has fewer commands of a session under way.
const MAILBOX: usize = 256;
/// How long the process that a new one replaces may take to be gone.
const REPLACE_PATIENCE: Duration = Duration::from_secs(60);
/// How long the link waits for the sessions that are taken over.
const ADOPT_PATIENCE: Duration = Duration::from_secs(10);
/// How long before a session whose pump failed is taken over again.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the directory of a session that is done is kept.
const KEEP_DONE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How runners are started.
#[derive(Clone, Debug)]
pub struct RunnerOptions {
    /// This program.
    pub program: PathBuf,
    /// Size at which a spool counts as full, in bytes.
    pub spool_bytes: u64,
    /// How long a runner waits for a daemon.
    pub orphan_after: Duration,
}

/// Owns the sessions.
pub struct Supervisor {
    state: Arc<StateDir>,
    policy: Arc<Policy>,
    shared: Arc<Shared>,
    runner: RunnerOptions,
    sessions: HashMap<SessionId, Handle>,
    jobs: JoinSet<Result<()>>,
    names: HashMap<Id, SessionId>,
}

struct Handle {
    mailbox: mpsc::Sender<Message>,
    provider: Arc<Mutex<String>>,
    /// Whether the process is gone; its sender lives as long as the job.
    gone: watch::Receiver<bool>,
}

impl Supervisor {
    /// Owns nothing yet.
    pub fn new(
        state: Arc<StateDir>,
        policy: Arc<Policy>,
        shared: Arc<Shared>,
        runner: RunnerOptions,
    ) -> Self {
        Supervisor {
            state,
            policy,
            shared,
            runner,
            sessions: HashMap::new(),
            jobs: JoinSet::new(),
            names: HashMap::new(),
        }
    }

    /// Takes over every session that has a runner or unsent records, and clears away what is long done.
    ///
    /// Returns when each of them is known to the link, or has had its time: what the first hello leaves out,
    /// the server takes for lost.
    pub async fn adopt(&mut self) -> Result<()> {
        let (opening, mut opened) = mpsc::channel(1);
        for id in self.state.sessions()? {
            let dir = self.state.session(id);
            if dir.join(DONE_FILE).exists() {
                forget_old(&dir, self.shared.uplink.now());
            } else if dir.join(LEDGER_FILE).exists() {
                self.take_over(id, dir, Duration::ZERO, Some(opening.clone()));
            }
            // Else its start was never begun, and comes again if it is still wanted.
        }
        drop(opening);
        if tokio::time::timeout(ADOPT_PATIENCE, opened.recv())
            .await
            .is_err()
        {
            tracing::warn!("some sessions took too long to be found; the link begins without them");
        }
        Ok(())
    }

    /// Acts on what the link says until it says no more. Runners live on afterwards.
    pub async fn run(mut self, mut events: mpsc::Receiver<DaemonEvent>) {
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    None => break,
                    Some(event) => self.act(event),
                },
                Some(over) = self.jobs.join_next_with_id() => self.job_over(over),
            }
        }
        self.jobs.shutdown().await;
    }

    fn act(&mut self, event: DaemonEvent) {
        match event {
            DaemonEvent::Deliver(command) => self.deliver(command),
            DaemonEvent::Query(Query {
                id,
                body: QueryBody::Terminal { session_id, act },
            }) => self.ask_terminal(id, session_id, act),
            // What the server has, where to go on, and whether it is the daemon's at all, a pump asks the link: an
            // event could be lost on its way. The others are the link's own business.
            _ => {}
        }
    }

    fn deliver(&mut self, command: Box<Command>) {
        let (session_id, command_id) = (command.session_id, command.id);
        let refused = match command.body {
            CommandBody::Start(start) => match self.start(session_id, command_id, *start) {
                Ok(()) => return,
                Err(error) => error,
            },
            _ => match self.sessions.get(&session_id) {
                Some(handle) => match handle.mailbox.try_send(Message::Command(command)) {
                    Ok(()) => return,
                    Err(mpsc::error::TrySendError::Full(_)) => Error::new(
                        Code::AtCapacity,
                        "too many commands wait for this session on its machine",
                    ),
                    Err(mpsc::error::TrySendError::Closed(_)) if !*handle.gone.borrow() => {
                        Error::new(
                            Code::Unavailable,
                            "the session's machine is taking it up again; try again",
                        )
                    }
                    Err(mpsc::error::TrySendError::Closed(Message::Command(command)))
                        if matches!(command.body, CommandBody::End { .. }) =>
                    {
                        return self.result(applied(session_id, command_id));
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => {
                        Error::state("the session's process has ended")
                    }
                },
                None if matches!(command.body, CommandBody::End { .. }) => {
                    // There is no process, which is what is wanted.
                    return self.result(applied(session_id, command_id));
                }
                None => Error::new(
                    Code::NoSession,
                    "this machine has no process of the session",
                ),
            },
        };
        self.result(rejected(session_id, command_id, &refused));
    }

    /// Hands what is for a terminal to its session, in the order in which it came.
    fn ask_terminal(&self, query: u64, id: SessionId, act: Act) {
        let refused = match self.sessions.get(&id) {
            None => Error::new(
                Code::NoSession,
                "this machine has no process of the session",
            ),
            Some(handle) => match handle.mailbox.try_send(Message::Terminal(query, act)) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(_)) => Error::new(
                    Code::AtCapacity,
                    "too much waits for this session on its machine",
                ),
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    Error::state("the session's process has ended")
                }
            },
        };
        let result = QueryResult {
            id: query,
            result: Err(refused),
        };
        self.shared.uplink.with(|link| link.query_result(result));
    }

    /// Starts a session, once: the same command again finds it started.
    fn start(&mut self, id: SessionId, command_id: CommandId, start: StartCommand) -> Result<()> {
        let dir = self.state.session(id);
        if self.sessions.contains_key(&id) {
            // Being started (then the result comes from there), taken over, or running.
            let begun = dir.join(LEDGER_FILE).exists();
            if begun {
                self.result(applied(id, command_id));
            }
            return Ok(());
        }
        if dir.join(DONE_FILE).exists() {
            self.result(applied(id, command_id));
            return Ok(());
        }
        let cwd = self.policy.check(&start, self.sessions.len())?;
        let kind = self.shared.registry.get(&start.harness).ok_or_else(|| {
            Error::new(
                Code::HarnessUnavailable,
                format!("this daemon does not know the harness {}", start.harness),
            )
        })?;
        if start.mode == Mode::Interactive && !kind.capabilities().terminal {
            return Err(Error::new(
                Code::NotInteractive,
                format!("the harness {} does not run in a terminal", start.harness),
            ));
        }
        self.check_writer(id, &start)?;
        let launch = kind.launch(id, &start)?;
        let replaced = start
            .replaces
            .and_then(|old| self.sessions.get(&old))
            .map(|handle| handle.gone.clone());
        let env = self
            .policy
            .environment(&start.env_names, own_env(), &launch.env);
        let cwd = cwd
            .into_os_string()
            .into_string()
            .map_err(|_| Error::invalid("cwd", "is not UTF-8"))?;
        let mut spec = Spec::new(id.to_string(), launch.argv, cwd, env);
        spec.spool_bytes = self.runner.spool_bytes;
        if start.mode == Mode::Interactive {
            let size = start.terminal.unwrap_or_default();
            spec.window = Some(Window {
                cols: size.cols,
                rows: size.rows,
            });
            // What waits in the spool is what a person waits for before they see the answer to their keys.
            spec.spool_bytes = spec.spool_bytes.min(TERMINAL_SPOOL_BYTES);
        }
        spec.orphan_ms = u64::try_from(self.runner.orphan_after.as_millis()).unwrap_or(u64::MAX);

        let provider = match start.fork {
            true => String::new(),
            false => start.provider_session_id.clone(),
        };
        let (mut inbox, provider, gone) = self.enter(id, provider);
        let (shared, program) = (self.shared.clone(), self.runner.program.clone());
        let meta = Meta { command_id, start };
        let job = async move {
            let started = async {
                if let Some(replaced) = replaced {
                    wait_gone(replaced).await?;
                }
                begin(&dir, &meta, &spec, &program).await
            };
            match started.await {
                Ok(()) => shared
                    .uplink
                    .with(|link| link.result(applied(id, command_id))),
                Err(error) => {
                    inbox.mailbox.close();
                    refuse(&shared, id, &mut inbox, &error);
                    shared
                        .uplink
                        .with(|link| link.result(rejected(id, command_id, &error)));
                    let _ = gone.send(true);
                    return Ok(());
                }
            }
            let home = Home {
                id,
                dir,
                meta,
                provider,
            };
            pump(home, shared, inbox, true, gone, None).await
        };
        let name = self.jobs.spawn(job).id();
        self.names.insert(name, id);
        Ok(())
    }

    /// Takes over a session whose runner was started before.
    fn take_over(
        &mut self,
        id: SessionId,
        dir: PathBuf,
        after: Duration,
        opening: Option<Opening>,
    ) {
        let (inbox, provider, gone) = self.enter(id, String::new());
        let shared = self.shared.clone();
        let job = async move {
            tokio::time::sleep(after).await;
            let meta = Meta::read(&dir).map_err(|error| broken(&dir, error))?;
            let Some(meta) = meta else {
                return Err(Error::state(format!(
                    "{} says not what it is",
                    dir.display()
                )));
            };
            if !meta.start.fork {
                provider.lock().clone_from(&meta.start.provider_session_id);
            }
            let home = Home {
                id,
                dir,
                meta,
                provider,
            };
            pump(home, shared, inbox, false, gone, opening).await
        };
        let name = self.jobs.spawn(job).id();
        self.names.insert(name, id);
    }

    fn enter(
        &mut self,
        id: SessionId,
        provider: String,
    ) -> (Inbox, Arc<Mutex<String>>, watch::Sender<bool>) {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let provider = Arc::new(Mutex::new(provider));
        let (gone, is_gone) = watch::channel(false);
        self.sessions.insert(
            id,
            Handle {
                mailbox: sender,
                provider: provider.clone(),
                gone: is_gone,
            },
        );
        let again = Vec::new();
        (Inbox { mailbox, again }, provider, gone)
    }

    /// One writer for each conversation of a provider: harnesses do not lock theirs.
    fn check_writer(&self, id: SessionId, start: &StartCommand) -> Result<()> {
        if start.provider_session_id.is_empty() || start.fork {
            return Ok(());
        }
        let other = self.sessions.iter().find(|(other, handle)| {
            **other != id
                && Some(**other) != start.replaces
                && !*handle.gone.borrow()
                && *handle.provider.lock() == start.provider_session_id
        });
        match other {
            None => Ok(()),
            Some((other, _)) => Err(Error::new(
                Code::SessionExists,
                format!("session {other} runs this conversation on this machine"),
            )
            .with("existing_session", other)),
        }
    }

    fn job_over(&mut self, over: std::result::Result<(Id, Result<()>), JoinError>) {
        let (name, problem) = match over {
            Ok((name, Ok(()))) => (name, None),
            Ok((name, Err(error))) => (name, Some(format!("{error:?}"))),
            Err(error) => (error.id(), Some(error.to_string())),
        };
        let Some(id) = self.names.remove(&name) else {
            return;
        };
        self.sessions.remove(&id);
        let Some(problem) = problem else { return };
        tracing::error!(session = %id, problem, "the pump of a session failed");
        self.shared.uplink.with(|link| link.unanswered(id));
        let dir = self.state.session(id);
        if dir.join(LEDGER_FILE).exists() && !dir.join(DONE_FILE).exists() {
            self.take_over(id, dir, AGAIN, None);
        }
    }

    fn result(&self, result: CommandResult) {
        self.shared.uplink.with(|link| link.result(result));
    }
}

/// Everything on disk that a start needs, then the runner.
async fn begin(dir: &Path, meta: &Meta, spec: &Spec, program: &Path) -> Result<()> {
    make_private(dir)?;
    if dir.join(LEDGER_FILE).exists() {
        return Ok(());
    }
    meta.write(dir).map_err(|error| broken(dir, error))?;
    spec.write(dir).map_err(|error| broken(dir, error))?;
    fault::point(fault::BEFORE_RUNNER);
    match client::spawn(program, dir).await {
        Ok(()) => {
            fault::point(fault::AFTER_RUNNER);
            Ok(())
        }
        // It came up after all, or died on the way: its directory tells the rest.
        Err(_) if dir.join(LEDGER_FILE).exists() => Ok(()),
        Err(error) => {
            let _ = std::fs::remove_dir_all(dir);
            Err(Error::new(
                Code::Unavailable,
                format!("the runner could not be started: {error}"),
            ))
        }
    }
}

/// Held by a session that is being opened; nothing is ever sent.
type Opening = mpsc::Sender<()>;

/// Runs a session's pump, and the next one if it fails: what waits for the session waits on. `opening` is let go of
/// when the session is known to the link, or cannot be.
async fn pump(
    home: Home,
    shared: Arc<Shared>,
    mut inbox: Inbox,
    mut is_new: bool,
    gone: watch::Sender<bool>,
    mut opening: Option<Opening>,
) -> Result<()> {
    let (id, dir) = (home.id, home.dir.clone());
    loop {
        let opened = Pump::open(home.clone(), shared.clone(), inbox, is_new).await;
        drop(opening.take());
        let mut failed = match opened {
            Ok(pump) => match pump.run(&gone).await {
                Ok(()) => return Ok(()),
                Err(failed) => failed,
            },
            Err(mut failed) => {
                let refused = broken(&dir, io_again(&failed.error));
                refuse(&shared, id, &mut failed.inbox, &refused);
                failed
            }
        };
        let is_whole = dir.join(LEDGER_FILE).exists() && !dir.join(DONE_FILE).exists();
        let problem = broken(&dir, io_again(&failed.error));
        if !is_whole {
            failed.inbox.mailbox.close();
            refuse(&shared, id, &mut failed.inbox, &problem);
            shared.uplink.with(|link| link.forget(id));
            return Err(problem);
        }
        tracing::error!(session = %id, ?problem, "the pump of a session failed; it is taken over again");
        tokio::time::sleep(AGAIN).await;
        (inbox, is_new) = (failed.inbox, false);
    }
}

fn io_again(error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), error.to_string())
}

/// Answers what came for a session that could not be.
fn refuse(shared: &Shared, id: SessionId, inbox: &mut Inbox, error: &Error) {
    let refuse = |command: Command| {
        shared
            .uplink
            .with(|link| link.result(rejected(id, command.id, error)));
    };
    inbox.again.drain(..).for_each(refuse);
    while let Ok(message) = inbox.mailbox.try_recv() {
        match message {
            Message::Command(command) => refuse(*command),
            Message::Terminal(query, _) => {
                let result = QueryResult {
                    id: query,
                    result: Err(error.clone()),
                };
                shared.uplink.with(|link| link.query_result(result));
            }
        }
    }
}

async fn wait_gone(mut gone: watch::Receiver<bool>) -> Result<()> {
    match tokio::time::timeout(REPLACE_PATIENCE, gone.wait_for(|gone| *gone)).await {
        // A sender that is dropped is a job that has ended, and its process with it or before.
        Ok(_) => Ok(()),
        Err(_) => Err(Error::state(
            "the process that this session continues has not ended; end it, or use force",
        )),
    }
}

/// The daemon's environment, as far as it is text.
pub(super) fn own_env() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn forget_old(dir: &Path, now: Timestamp) {
    let is_old = std::fs::metadata(dir.join(DONE_FILE))
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|done| done.duration_since(UNIX_EPOCH).ok())
        .is_some_and(|done| {
            now.saturating_since(Timestamp::EPOCH.saturating_add(done)) > KEEP_DONE
        });
    if is_old && let Err(error) = std::fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "a session that is done cannot be removed");
    }
}
