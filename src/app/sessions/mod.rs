//! Sessions: made, steered, ended. Every change of a session goes through its actor, one after another.

mod actor;
mod apply;
mod create;
mod delete;
pub mod fault;
pub(in crate::app) mod fields;
pub(in crate::app) mod index;
mod links;
mod live;
mod look;
mod lost;
mod queue;
mod report;
mod steer;
mod step;
mod stop_all;
mod timers;
mod writer;

pub use apply::Stored;
pub(in crate::app) use create::{Ask, Attempts, Begun, joined};
pub use create::{NewSession, Resume};
pub use live::Live;
pub use look::{SessionFilter, Shown};
pub use report::Reported;
pub use steer::NewOptions;
pub use step::Step;
pub use stop_all::StopOfMany;

pub(crate) use apply::request_event;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::app::budgets::Budgets;
use crate::app::events::Transients;
use crate::app::failure;
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Code, Error, Result, SharedClock, Timestamp};
use crate::domain::Daemon;
use crate::domain::daemon::Offer;
use crate::domain::price::Prices;
use crate::domain::session::Limits;
use crate::store::{Commit, SharedStore};

/// What a server says about all sessions.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a lost link may last before its sessions end as lost; zero is at once.
    pub grace: Duration,
    /// The limits of a session that names none, and the widest that it may name.
    pub limits: Limits,
    /// How long a prompt waits for an answer; `None` is for ever.
    pub prompt_expiry: Option<Duration>,
    /// The most living sessions; beyond it new ones are refused.
    pub max_living: u32,
    /// At least as many of the newest bytes are kept of what a terminal showed, and about twice as many at most.
    pub scrollback_bytes: u64,
    /// What models cost whose harness states no cost.
    pub prices: Arc<Prices>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            grace: Duration::from_secs(300),
            limits: Limits::default(),
            prompt_expiry: None,
            max_living: 1_000,
            scrollback_bytes: 1 << 20,
            prices: Arc::default(),
        }
    }
}

/// Wakes what carries commands to daemons.
pub trait Nudge: Send + Sync {
    /// There is something new in a daemon's outbox.
    fn nudge(&self, daemon: DaemonId);
}

/// What all actors share.
pub(super) struct Shared {
    pub(super) store: SharedStore,
    pub(super) clock: SharedClock,
    pub(super) options: Options,
    pub(super) transients: Arc<Transients>,
    pub(super) nudges: Arc<dyn Nudge>,
    pub(super) budgets: Budgets,
    actors: Mutex<HashMap<SessionId, mpsc::Sender<actor::Job>>>,
    living: index::Living,
    links: links::Links,
    /// The sessions whose records are behind their logs.
    behind: Mutex<HashSet<SessionId>>,
    loading: tokio::sync::Mutex<()>,
    jobs: TaskTracker,
}

impl Shared {
    /// Notes whether a session's record is behind its log.
    fn behind(&self, id: SessionId, is_behind: bool) {
        let mut behind = self.behind.lock();
        match is_behind {
            true => behind.insert(id),
            false => behind.remove(&id),
        };
    }

    /// A step of a session.
    fn begin<'a>(
        &'a self,
        live: &'a mut Live,
        changes: &'a mut step::Changes,
        now: Timestamp,
    ) -> Step<'a> {
        Step::new(live, changes, now, self.store.as_ref(), &self.budgets)
    }

    /// Commits, and notes which sessions live after that.
    async fn commit(&self, commit: Commit) -> Result<()> {
        let marks = index::Living::marks(&commit.ops);
        self.store
            .commit(commit)
            .await
            .map_err(failure::from_store)?;
        self.living.committed(&marks);
        Ok(())
    }

    /// Takes an actor out of the register if nobody is about to use it.
    fn retire(&self, id: SessionId, jobs: &mpsc::Receiver<actor::Job>) -> bool {
        let mut actors = self.actors.lock();
        // The register has one sender; another one is in the hands of a caller that is about to send.
        if !jobs.is_empty() || jobs.sender_strong_count() > 1 {
            return false;
        }
        actors.remove(&id);
        drop(actors);
        self.transients.ended(id);
        true
    }

    /// Takes an actor out of the register whatever waits for it.
    fn forget(&self, id: SessionId) {
        self.actors.lock().remove(&id);
        self.behind(id, false);
        self.transients.ended(id);
    }
}

/// The place of a session that is being made, among the living. Given back when it is dropped, unless the
/// session lives by then.
pub(in crate::app) struct Room {
    id: SessionId,
    shared: Arc<Shared>,
}

impl Room {
    /// The session that it is kept for.
    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// Keeps the place on a daemon, or refuses it when as many live or are being made there as it takes.
    pub(in crate::app) fn claim(&self, daemon: &Daemon) -> Result<()> {
        let offer = &daemon.offer;
        let has_room = |living| offer.has_room_beside(living);
        match self.shared.living.claim(self.id, daemon.id, has_room) {
            true => Ok(()),
            false => Err(daemon_is_full(offer)),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.shared.living.give_back(self.id);
    }
}

fn daemon_is_full(offer: &Offer) -> Error {
    let most = offer.max_sessions;
    Error::new(
        Code::AtCapacity,
        format!("it has as many living sessions as it takes, which is {most}"),
    )
    .retry_after(Duration::from_secs(30))
}

/// All sessions.
#[derive(Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

impl Sessions {
    /// The sessions of a store. Actors start when they are needed.
    pub fn new(
        store: SharedStore,
        clock: SharedClock,
        options: Options,
        transients: Arc<Transients>,
        nudges: Arc<dyn Nudge>,
        budgets: Budgets,
    ) -> Self {
        Sessions {
            shared: Arc::new(Shared {
                store,
                clock,
                options,
                transients,
                nudges,
                budgets,
                actors: Mutex::default(),
                living: index::Living::default(),
                links: links::Links::default(),
                behind: Mutex::default(),
                loading: tokio::sync::Mutex::default(),
                jobs: TaskTracker::new(),
            }),
        }
    }

    /// What the server says about all sessions.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Changes a session: runs `step` in its actor and answers after the commit. A step that fails
    /// changes nothing. NOT_FOUND: there is no such session.
    pub async fn step<T: Send + 'static>(
        &self,
        id: SessionId,
        step: impl FnOnce(&mut Step<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (mut job, told) = actor::job(step);
        loop {
            let actor = self.actor(id).await?;
            match actor.send(job).await {
                Ok(()) => break,
                // It went away between being found and being asked.
                Err(back) => job = back.0,
            }
        }
        told.await.map_err(|_| actor::gone(id))?
    }

    /// Has the records of all sessions written that are behind their logs: then they say which logs grew.
    pub(in crate::app) async fn write_records(&self) {
        let behind: Vec<SessionId> = self.shared.behind.lock().iter().copied().collect();
        let written = behind.into_iter().map(|id| async move {
            let step = |step: &mut Step<'_>| {
                step.write_record();
                Ok(())
            };
            if let Err(error) = self.step(id, step).await {
                // It is written later, or the session is gone.
                tracing::debug!(session = %id, ?error, "a session's record could not be written");
            }
        });
        // All at once: they share a commit.
        join_all(written).await;
    }

    async fn actor(&self, id: SessionId) -> Result<mpsc::Sender<actor::Job>> {
        if let Some(actor) = self.running(id) {
            return Ok(actor);
        }
        // One load at a time, so that a session never has two actors.
        let _loading = self.shared.loading.lock().await;
        if let Some(actor) = self.running(id) {
            return Ok(actor);
        }
        let mut live = Live::load(self.shared.store.as_ref(), id)
            .await?
            .ok_or_else(|| Error::not_found("session", id))?;
        live.prompt_expiry = self.shared.options.prompt_expiry;
        let (actor, jobs) = mpsc::channel(actor::QUEUE);
        self.shared.actors.lock().insert(id, actor.clone());
        self.shared
            .jobs
            .spawn(actor::run(self.shared.clone(), Box::new(live), jobs));
        Ok(actor)
    }

    /// Whether a session lives, or was spoken of just now.
    pub(crate) fn has_actor(&self, id: SessionId) -> bool {
        self.running(id).is_some()
    }

    /// How many sessions have an actor.
    pub fn actors(&self) -> usize {
        self.shared.actors.lock().len()
    }

    fn running(&self, id: SessionId) -> Option<mpsc::Sender<actor::Job>> {
        let actors = self.shared.actors.lock();
        actors.get(&id).filter(|actor| !actor.is_closed()).cloned()
    }

    /// Ids of all living sessions, of one daemon or of all.
    pub fn living(&self, daemon: Option<DaemonId>) -> Vec<SessionId> {
        self.shared.living.ids(daemon)
    }

    /// How many sessions live, of one daemon or of all.
    pub fn living_count(&self, daemon: Option<DaemonId>) -> usize {
        self.shared.living.count(daemon)
    }

    /// Whether a daemon has room for a further session, beside those that live and those that are being made there.
    pub(in crate::app) fn has_room(&self, daemon: &Daemon) -> Result<()> {
        match daemon.offer.has_room_beside(self.taken(daemon.id)) {
            true => Ok(()),
            false => Err(daemon_is_full(&daemon.offer)),
        }
    }

    /// How many sessions live on a daemon or are being made there.
    pub(in crate::app) fn taken(&self, daemon: DaemonId) -> usize {
        self.shared.living.taken(daemon)
    }

    /// Keeps a place for a further living session, or refuses it when there are as many as this server takes.
    pub(super) fn reserve(&self, id: SessionId) -> Result<Room> {
        let most = self.options().max_living;
        if self.shared.living.reserve(id, most as usize) {
            let shared = self.shared.clone();
            return Ok(Room { id, shared });
        }
        Err(Error::new(
            Code::AtCapacity,
            format!("this server has {most} living sessions, as many as it takes"),
        ))
    }

    /// Whether a daemon is linked now.
    pub(super) fn is_linked(&self, daemon: DaemonId) -> bool {
        self.shared.links.epoch(daemon).is_some()
    }

    /// Starts a new session's actor, so that its timers run, and sets its link fact right: the daemon may have
    /// come or gone while the session was made, and what happens from here on finds it among the living.
    pub(super) async fn born(&self, id: SessionId) -> Result<()> {
        let shared = self.shared.clone();
        self.step(id, move |step| {
            match shared.links.epoch(step.live.session.daemon_id) {
                Some(epoch) => lost::attached(step, epoch, false),
                None => lost::detached(step, 0),
            }
        })
        .await
    }

    /// Commits what a session's step has gathered, or its birth.
    async fn commit(&self, commit: Commit) -> Result<()> {
        self.shared.commit(commit).await
    }

    /// Reads what is held in memory; before anything else.
    pub(crate) async fn load(&self) -> Result<()> {
        let store = self.shared.store.as_ref();
        index::build(store).await?;
        self.shared.living.load(store).await
    }

    /// After a start: every session that was living is detached until its daemon comes back, and has an
    /// actor, so that its timers run.
    pub async fn start(&self) -> Result<()> {
        for id in self.living(None) {
            let outcome = self.step(id, |step| lost::detached(step, 0)).await;
            if let Err(error) = outcome {
                tracing::error!(session = %id, ?error, "a session could not be taken up again");
            }
        }
        Ok(())
    }

    /// Waits until every actor has finished what it had, after the last call was made.
    pub async fn stop(&self) {
        self.shared.actors.lock().clear();
        self.shared.jobs.close();
        self.shared.jobs.wait().await;
    }
}
