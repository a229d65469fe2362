//! The process on a machine that runs agents: link, supervisor, runner, spool, harnesses.
//!
//! Reading order: a [`runner`] holds one agent's pipes and keeps what it says in a [`spool`]; a
//! [`session`] interprets that with a [`harness`] driver and moves it; the [`supervisor`] owns the
//! sessions; [`link`] moves frames between all of them and the server. What may run is decided by the
//! [`policy`] of this machine alone.

pub mod kin;

pub mod spool;

pub mod runner;

pub mod paths;

pub mod policy;

pub mod directory;

pub mod fault;

pub mod git;

pub mod harness;

pub mod uplink;

pub mod session;

pub mod supervisor;

pub mod link;

#[cfg(test)]
mod fuzz;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::base::{Error, Result, Secret, SystemClock};
use crate::domain::daemon::Offer;
use crate::domain::link::{DaemonLimits, DaemonLink};

use harness::acp::AcpAgent;
use harness::registry::Registry;
pub use link::ServerAddress;

use link::LinkJob;
use paths::{Identity, StateDir};
use policy::{Policy, PolicyOptions};
use session::pump::Shared;
use supervisor::{RunnerOptions, Supervisor};
use uplink::Uplink;

/// How often it is looked which harnesses can be used.
const PROBE_EVERY: Duration = Duration::from_secs(600);
/// Most events between the link and the supervisor; the link's stream waits when there are more.
const MAX_EVENTS: usize = 1_024;

/// How a daemon is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The state directory.
    pub state_dir: PathBuf,
    /// The server.
    pub server: ServerAddress,
    /// A single-use token to join with, while the daemon has no credential.
    pub join_token: Option<Secret>,
    /// Name for people; empty takes the token's name or the host name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What may run here.
    pub policy: PolicyOptions,
    /// The program of Claude Code; `None` looks for it on the daemon's `PATH`.
    pub claude_program: Option<PathBuf>,
    /// Agents that speak ACP, beside those that are known and found on the daemon's `PATH`.
    pub acp_agents: Vec<AcpAgent>,
    /// This program, to start runners with; `None` is the one that runs.
    pub program: Option<PathBuf>,
    /// Size at which a session's spool counts as full, in bytes.
    pub spool_bytes: u64,
    /// How long a runner waits for a daemon before it ends its harness.
    pub orphan_after: Duration,
    /// Figures of the link.
    pub link_limits: DaemonLimits,
    /// Where worktrees are, and how much of them is kept.
    pub worktrees: git::Options,
}

impl Options {
    /// The defaults of a daemon that keeps its state in `state_dir` and serves `server`. No root is
    /// allowed until one is named.
    pub fn new(state_dir: PathBuf, server: ServerAddress) -> Self {
        Options {
            state_dir,
            server,
            join_token: None,
            name: String::new(),
            labels: BTreeMap::new(),
            policy: PolicyOptions::default(),
            claude_program: None,
            acp_agents: Vec::new(),
            program: None,
            spool_bytes: 256 << 20,
            orphan_after: Duration::from_secs(24 * 3_600),
            link_limits: DaemonLimits::default(),
            worktrees: git::Options::default(),
        }
    }
}

/// A daemon that holds its state directory and knows who it is.
pub struct Daemon {
    options: Options,
    state: Arc<StateDir>,
    policy: Arc<Policy>,
    program: PathBuf,
    identity: Identity,
    credential: Secret,
}

impl Daemon {
    /// Takes the state directory, and enrols where that is needed.
    pub async fn open(options: Options) -> Result<Self> {
        let policy = Arc::new(Policy::new(&options.policy)?);
        let state = Arc::new(StateDir::open(&options.state_dir)?);
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(Error::internal)?,
        };
        let mut known = state.identity()?.zip(state.credential()?);
        if let (Some((identity, credential)), Some(_)) = (&known, &options.join_token)
            && link::is_refused(&options.server, credential).await
        {
            tracing::warn!(
                daemon = %identity.id,
                "the server does not take this daemon's credential any more; it joins anew with the join token"
            );
            known = None;
        }
        let (identity, credential) = match known {
            Some(known) => known,
            None => {
                let token = options.join_token.as_ref().ok_or_else(|| {
                    Error::state(format!(
                        "{} holds no credential: this daemon has not joined a server yet; run `baton daemons join` \
                         where the server is, and here the command that it prints",
                        options.state_dir.display()
                    ))
                })?;
                let identity =
                    link::enroll(&options.server, &state, token, &options.name, &hostname())
                        .await?;
                let credential = state
                    .credential()?
                    .ok_or_else(|| Error::internal("the credential was not kept"))?;
                (identity, credential)
            }
        };
        Ok(Daemon {
            options,
            state,
            policy,
            program,
            identity,
            credential,
        })
    }

    /// Who this daemon is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Serves until `shutdown` is set, or until another process takes this daemon's place. Runners live on.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let clock = SystemClock::shared();
        let boot_generation = self.state.next_boot()?;
        let worktrees = Arc::new(git::Room::open(
            &self.state.worktrees(),
            self.policy.clone(),
            self.options.worktrees.clone(),
            clock.clone(),
        )?);
        let prober = Arc::new(Prober {
            registry: registry(&self),
            policy: self.policy.clone(),
            labels: self.options.labels.clone(),
            worktrees: worktrees.clone(),
        });
        let offer = prober.clone().offer().await?;
        let link = DaemonLink::new(
            self.identity.id,
            boot_generation,
            offer.clone(),
            self.options.link_limits.clone(),
            rand::random(),
        );
        let uplink = Arc::new(Uplink::new(link, clock));
        let shared = Arc::new(Shared {
            uplink: uplink.clone(),
            registry: registry(&self),
            boot_generation,
        });
        let runner = RunnerOptions {
            program: self.program.clone(),
            spool_bytes: self.options.spool_bytes,
            orphan_after: self.options.orphan_after,
        };
        let mut supervisor =
            Supervisor::new(self.state.clone(), self.policy.clone(), shared, runner);
        supervisor.adopt().await?;
        let (events, inbox) = mpsc::channel(MAX_EVENTS);
        let job = LinkJob {
            uplink: uplink.clone(),
            server: self.options.server.clone(),
            credential: self.credential.clone(),
            policy: self.policy.clone(),
            worktrees: worktrees.clone(),
            events,
            shutdown,
            said: parking_lot::Mutex::default(),
        };
        tracing::info!(daemon = %self.identity.id, name = self.identity.name, "the daemon runs");
        let mut settling = JoinSet::new();
        settling.spawn_blocking(move || worktrees.settle_all());
        tokio::select! {
            over = job.run() => over,
            () = supervisor.run(inbox) => Err(Error::internal("the supervisor ended by itself")),
            over = keep_offer(prober, uplink, offer) => over,
        }
    }
}

/// Opens a daemon and serves until `shutdown` is set.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<()> {
    Daemon::open(options).await?.run(shutdown).await
}

fn registry(daemon: &Daemon) -> Registry {
    let claude = daemon.options.claude_program.clone();
    let acp = &daemon.options.acp_agents;
    Registry::built_in(&daemon.policy, &daemon.program, claude, acp)
}

struct Prober {
    registry: Registry,
    policy: Arc<Policy>,
    labels: BTreeMap<String, String>,
    worktrees: Arc<git::Room>,
}

impl Prober {
    async fn offer(self: Arc<Self>) -> Result<Offer> {
        tokio::task::spawn_blocking(move || Offer {
            hostname: hostname(),
            platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            harnesses: self.registry.probe(&self.policy),
            roots: self
                .policy
                .roots()
                .iter()
                .map(|root| root.to_string_lossy().into_owned())
                .collect(),
            max_permission_mode: self.policy.max_permission_mode(),
            labels: self.labels.clone(),
            env_names: self.policy.env_names().cloned().collect(),
            max_sessions: self.policy.max_sessions(),
            worktrees: self.worktrees.support(),
        })
        .await
        .map_err(Error::internal)
    }
}

/// Looks now and then what can be run, and tells the server when that has changed; never returns but with
/// an error.
async fn keep_offer(prober: Arc<Prober>, uplink: Arc<Uplink>, mut known: Offer) -> Result<()> {
    let mut ticks = tokio::time::interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let offer = prober.clone().offer().await?;
        if offer != known {
            known = offer.clone();
            uplink.with(|link| link.offer(offer));
        }
    }
}

fn hostname() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}
