//! Which daemons are linked now.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::handler::Handler;
use super::link::{DownFrames, LinkJob, UpFrames};
use crate::base::id::{DaemonId, SessionId};
use crate::base::{Code, Error, Result, SharedClock};
use crate::domain::daemon::{Directory, DirectoryQuery};
use crate::domain::link::{Found, QueryBody, ServerLimits, Up};
use crate::domain::terminal::Act;
use crate::domain::worktree::{Answer, Order};
use crate::store::{SharedStore, Stream};

/// So many readers make waking them for a commit cost more than storing it.
const MANY_READERS: usize = 16;

/// How the relay works.
#[derive(Clone, Debug)]
pub struct Options {
    /// The figures of every link.
    pub limits: ServerLimits,
    /// The server's version, told to daemons.
    pub server_version: String,
    /// Frames between the transport and a link's actor, each way; the transport waits when it is full.
    pub channel: usize,
    /// How long after a commit of what a session says the next one begins, while many read it: each commit wakes them all.
    /// Zero stores at once.
    pub gather: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            limits: ServerLimits::default(),
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            channel: 64,
            gather: Duration::from_millis(19),
        }
    }
}

/// How a link is told to end.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    /// The daemon is asked to come back later.
    Drain { after: Duration, reason: String },
    /// The stream ends with this error.
    Close(Error),
    /// A newer link took over.
    Superseded,
}

/// A question for a daemon.
pub(super) struct Ask {
    pub(super) body: QueryBody,
    /// From then on nobody waits for the answer.
    pub(super) deadline: Instant,
    pub(super) answer: oneshot::Sender<Result<Found>>,
}

/// What others hold of a link.
pub(super) struct Live {
    pub(super) epoch: u64,
    /// The daemon's start and its connection: what is newer at the other end.
    pub(super) attempt: (u64, u64),
    /// Whether its sessions are known to be this daemon's; set before [`Handler::attached`] is called.
    pub(super) attached: AtomicBool,
    pub(super) nudge: Arc<Notify>,
    pub(super) ending: watch::Sender<Option<Ending>>,
    pub(super) asks: mpsc::Sender<Box<Ask>>,
    /// Cancelled when the link's last call to the handler has returned.
    pub(super) done: CancellationToken,
}

impl Live {
    fn end(&self, ending: Ending) {
        self.ending.send_if_modified(|now| {
            // A request to come back later does not take back an end.
            let stays = matches!(now, Some(Ending::Close(_) | Ending::Superseded));
            if !stays {
                *now = Some(ending);
            }
            !stays
        });
    }
}

pub(super) struct Shared {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) store: SharedStore,
    pub(super) clock: SharedClock,
    pub(super) options: Options,
    links: Mutex<HashMap<DaemonId, Arc<Live>>>,
    jobs: TaskTracker,
}

/// The live links; a cheap handle.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

impl Relay {
    /// A relay without links.
    pub fn new(
        handler: Arc<dyn Handler>,
        store: SharedStore,
        clock: SharedClock,
        options: Options,
    ) -> Self {
        Relay {
            shared: Arc::new(Shared {
                handler,
                store,
                clock,
                options,
                links: Mutex::new(HashMap::new()),
                jobs: TaskTracker::new(),
            }),
        }
    }

    /// A stream of the daemon that a credential names has begun: starts the link's actor, which takes the daemon's frames
    /// as they come.
    pub fn open(&self, daemon: DaemonId, frames: UpFrames) -> DownFrames {
        let (job, down) = LinkJob::new(self.shared.clone(), daemon, frames);
        self.shared.jobs.spawn(job.run());
        down
    }

    /// The same for a transport that hands over one frame after the other.
    pub fn open_queued(&self, daemon: DaemonId) -> (mpsc::Sender<Result<Box<Up>>>, DownFrames) {
        let (frames, queue) = mpsc::channel(self.shared.options.channel.max(1));
        let down = self.open(daemon, ReceiverStream::new(queue).boxed());
        (frames, down)
    }

    /// Something lies in the outbox for this daemon.
    pub fn nudge(&self, daemon: DaemonId) {
        if let Some(live) = self.shared.live(daemon) {
            live.nudge.notify_one();
        }
    }

    /// Whether the daemon is linked now.
    pub fn is_linked(&self, daemon: DaemonId) -> bool {
        self.epoch(daemon).is_some()
    }

    /// The epoch of the daemon's link, if it is linked now.
    pub fn epoch(&self, daemon: DaemonId) -> Option<u64> {
        self.shared
            .live(daemon)
            .filter(|live| live.attached.load(Ordering::Acquire))
            .map(|live| live.epoch)
    }

    /// How many daemons are linked now.
    pub fn linked(&self) -> usize {
        let links = self.shared.links.lock();
        links
            .values()
            .filter(|live| live.attached.load(Ordering::Acquire))
            .count()
    }

    /// Whether the server has begun to end ([`Relay::drain_all`]).
    pub fn is_draining(&self) -> bool {
        self.shared.jobs.is_closed()
    }

    /// Ends a daemon's link with an error: its credential was revoked, or it was removed.
    pub fn close(&self, daemon: DaemonId, reason: Error) {
        if let Some(live) = self.shared.live(daemon) {
            live.end(Ending::Close(reason));
        }
    }

    /// Lists a directory on a daemon's machine. [`Code::DaemonDisconnected`]: it is not linked, or its link
    /// was lost meanwhile. [`Code::Timeout`]: it did not answer in time. [`Code::AtCapacity`]: too many
    /// questions are open.
    pub async fn list_directory(
        &self,
        daemon: DaemonId,
        query: DirectoryQuery,
        deadline: Duration,
    ) -> Result<Directory> {
        let body = QueryBody::ListDirectory(query);
        match self.ask(daemon, body, deadline).await? {
            Found::Directory(directory) => Ok(directory),
            _ => Err(Error::internal("the daemon answered something else")),
        }
    }

    /// Has a session's terminal do something. What one caller asks one after the other is done in that order.
    /// [`Code::DaemonDisconnected`]: the daemon is not linked, or its link was lost meanwhile, which the error's
    /// effect tells apart. [`Code::Timeout`]: it did not answer in time. [`Code::AtCapacity`]: too many questions
    /// are open. All else is the daemon's own answer.
    pub async fn ask_terminal(
        &self,
        daemon: DaemonId,
        session_id: SessionId,
        act: Act,
        deadline: Duration,
    ) -> Result<()> {
        let body = QueryBody::Terminal { session_id, act };
        match self.ask(daemon, body, deadline).await? {
            Found::Terminal => Ok(()),
            _ => Err(Error::internal("the daemon answered another question")),
        }
    }

    /// Orders something about worktrees. The answer is certain, whatever it says; an error is none: the order
    /// may have been done. The errors are those of [`Relay::list_directory`].
    pub async fn order(
        &self,
        daemon: DaemonId,
        order: Order,
        deadline: Duration,
    ) -> Result<Answer> {
        let body = QueryBody::Worktree(Box::new(order));
        match self.ask(daemon, body, deadline).await? {
            Found::Worktree(answer) => Ok(*answer),
            _ => Err(Error::internal("the daemon answered something else")),
        }
    }

    async fn ask(&self, daemon: DaemonId, body: QueryBody, deadline: Duration) -> Result<Found> {
        let live = self
            .shared
            .live(daemon)
            .filter(|live| live.attached.load(Ordering::Acquire))
            .ok_or_else(disconnected)?;
        let (answer, answered) = oneshot::channel();
        let deadline = Instant::now() + deadline;
        let ask = Ask {
            body,
            deadline,
            answer,
        };
        live.asks
            .try_send(Box::new(ask))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => at_capacity(),
                mpsc::error::TrySendError::Closed(_) => disconnected(),
            })?;
        // Here, for a link whose welcome is still to come does not look at questions yet.
        match timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            // It was sent, or was about to be.
            Ok(Err(_)) => Err(disconnected().maybe_done()),
            Err(_) => {
                Err(Error::new(Code::Timeout, "the daemon did not answer in time").maybe_done())
            }
        }
    }

    /// The server goes away: every daemon is asked to come back after `after`, and what is left of the
    /// links is ended at `deadline`. Returns when no link is left.
    pub async fn drain_all(&self, after: Duration, reason: &str, deadline: Duration) {
        self.shared.jobs.close();
        for live in self.shared.all() {
            live.end(Ending::Drain {
                after,
                reason: reason.to_owned(),
            });
        }
        if tokio::time::timeout(deadline, self.shared.jobs.wait())
            .await
            .is_ok()
        {
            return;
        }
        for live in self.shared.all() {
            live.end(Ending::Close(shuts_down()));
        }
        // What remains are calls into the store, which are not cut off half-way.
        self.shared.jobs.wait().await;
    }
}

impl Shared {
    /// How long what a session says is gathered from the begin of a commit to the next; `None` if it is not.
    pub(super) fn gather(&self, session: SessionId) -> Option<Duration> {
        let gather = self.options.gather;
        if gather.is_zero() {
            return None;
        }
        let readers = self.store.readers(&Stream::session(session))
            + self.store.readers(&Stream::terminal(session));
        (readers >= MANY_READERS).then_some(gather)
    }

    fn live(&self, daemon: DaemonId) -> Option<Arc<Live>> {
        self.links.lock().get(&daemon).cloned()
    }

    fn all(&self) -> Vec<Arc<Live>> {
        self.links.lock().values().cloned().collect()
    }

    /// Puts a link in the place of an older one, which is told to end and returned. A link whose Hello was
    /// overtaken by a later one is refused: it is the older one, though it came last.
    pub(super) fn register(&self, daemon: DaemonId, live: Arc<Live>) -> Result<Option<Arc<Live>>> {
        let mut links = self.links.lock();
        let newer = |old: &Arc<Live>| old.epoch > live.epoch || old.attempt > live.attempt;
        if links.get(&daemon).is_some_and(newer) {
            return Err(Error::new(
                Code::Stale,
                "a newer link of the same daemon took over; this one must not come back",
            ));
        }
        if self.jobs.is_closed() {
            return Err(shuts_down());
        }
        let kind = if live.epoch > 1 { "again" } else { "first" };
        metrics::counter!("baton_links_total", "kind" => kind).increment(1);
        let old = links.insert(daemon, live);
        if let Some(old) = &old {
            old.end(Ending::Superseded);
        }
        Ok(old)
    }

    /// Takes a link out, unless a newer one has its place.
    pub(super) fn unregister(&self, daemon: DaemonId, epoch: u64) {
        let mut links = self.links.lock();
        if links.get(&daemon).is_some_and(|live| live.epoch == epoch) {
            links.remove(&daemon);
        }
    }
}

pub(super) fn disconnected() -> Error {
    Error::new(
        Code::DaemonDisconnected,
        "the daemon is not linked now; it comes back by itself",
    )
}

fn shuts_down() -> Error {
    Error::new(Code::Unavailable, "the server shuts down; reconnect")
}

pub(super) fn at_capacity() -> Error {
    Error::new(
        Code::AtCapacity,
        "too many questions to this daemon are open",
    )
}
