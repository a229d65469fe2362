//! What a link asks of the rooms above.

use futures_util::future::BoxFuture;

use crate::base::Result;
use crate::base::id::{DaemonId, SessionId};
use crate::domain::daemon::Offer;
use crate::domain::link::{ContentChunk, Goodbye, Records, SessionReport};
use crate::domain::{CommandResult, Transient};
use crate::store::Origin;

/// A daemon that has just connected.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// Its id, proved by its credential.
    pub daemon_id: DaemonId,
    /// The epoch of its new link, higher than any before.
    pub epoch: u64,
    /// Grows with every start of the daemon.
    pub boot_generation: u64,
    /// What it can run.
    pub offer: Offer,
    /// Every session it has a runner or unsent records for.
    pub reports: Vec<SessionReport>,
}

/// Whose a session is that a daemon has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The daemon's own; this much of its spool is stored.
    Own(Origin),
    /// Not the daemon's to run: it is told to end and forget it.
    Foreign,
}

/// The rules behind a link. Calls about one session come one after the other, in the order of the frames;
/// calls about several sessions come at the same time. No call is dropped half-way.
///
/// `epoch` is the link's; an older link's calls may still come for a moment after a newer link's
/// [`Handler::hello`], so what they write must be fenced by it.
pub trait Handler: Send + Sync + 'static {
    /// A daemon introduces itself: says for each reported session whose it is; sessions left out count as
    /// foreign. An error ends the link with it.
    fn hello(&self, hello: Introduction) -> BoxFuture<'_, Result<Vec<(SessionId, Claim)>>>;

    /// The link is up; nothing of it is handed over before this has returned.
    fn attached(&self, daemon: DaemonId, epoch: u64) -> BoxFuture<'_, ()>;

    /// The link is gone; nothing of it comes after this. Once for every [`Handler::attached`].
    /// `goodbye` is there only if the daemon ended it on purpose.
    fn lost(&self, daemon: DaemonId, epoch: u64, goodbye: Option<Goodbye>) -> BoxFuture<'_, ()>;

    /// Stores records, which are next in their session's spool, each whole or not at all. Answers how far
    /// the spool is stored for good now; what lies beyond is asked for again.
    ///
    /// Errors: `STALE`: a newer link has taken over, this one ends. `NOT_FOUND`, `NO_SESSION`,
    /// `FORBIDDEN`: the session is not this daemon's, or no longer. All others: the same records
    /// come again after a second.
    fn records(
        &self,
        daemon: DaemonId,
        epoch: u64,
        records: Records,
    ) -> BoxFuture<'_, Result<Origin>>;

    /// Stages a piece of content. Answers the offset to go on from; the whole size means that the content
    /// is stored for good, whatever piece was sent. On an error the content comes again from its beginning.
    fn content(
        &self,
        daemon: DaemonId,
        epoch: u64,
        chunk: ContentChunk,
    ) -> BoxFuture<'_, Result<u64>>;

    /// Makes a command's result durable and removes the command from the outbox. A command that is
    /// unknown or settled already is not an error, and its first result stands; whether the command is this
    /// daemon's at all is for this call to see. `NOT_FOUND` and `FORBIDDEN` count as settled; on any other
    /// error the result comes again after a second.
    fn command_result(&self, daemon: DaemonId, result: CommandResult) -> BoxFuture<'_, Result<()>>;

    /// A session appeared on a daemon, or its process is gone.
    fn session_report(
        &self,
        daemon: DaemonId,
        epoch: u64,
        report: SessionReport,
    ) -> BoxFuture<'_, Result<Claim>>;

    /// What a daemon can run has changed.
    fn offer(&self, daemon: DaemonId, epoch: u64, offer: Offer) -> BoxFuture<'_, Result<()>>;

    /// Something live for a session that is the daemon's own. Must not block.
    fn transient(&self, daemon: DaemonId, transient: Transient);
}
