//! What the daemon's side of a link tells its owner.

use std::time::Duration;

use super::super::frame::{Position, Query};
use crate::base::Error;
use crate::base::id::{CommandId, SessionId};
use crate::domain::Command;

/// Something for the daemon to act on.
#[derive(Clone, Debug)]
pub enum DaemonEvent {
    /// The server welcomed this daemon.
    Linked {
        /// The link's epoch.
        epoch: u64,
    },
    /// Do this. Comes once for a command in the life of this value; after the daemon's restart it may come
    /// again, and the runner's ledger knows.
    Deliver(Box<Command>),
    /// The server has the result of a command for good: the ledger may forget it.
    ResultStored {
        /// The session.
        session_id: SessionId,
        /// The command.
        command_id: CommandId,
    },
    /// Everything up to here is stored: the spool may be trimmed, the driver's state snapshotted.
    Stored {
        /// The session.
        session_id: SessionId,
        /// The last record that is stored.
        through: Position,
    },
    /// Push the records after this one, whatever was pushed before: those that are left of its spool, then
    /// those of younger spools. Where the next one is not there any more, the first one pushed carries a gap.
    Rewind {
        /// The session.
        session_id: SessionId,
        /// The record before the one to push next.
        after: Position,
    },
    /// The server has more than the spool: the spool lost its end (power failure, an old copy). Go on in a
    /// spool with a higher epoch, whose first record carries a gap.
    Behind {
        /// The session.
        session_id: SessionId,
        /// What the server has.
        stored: Position,
    },
    /// The session is not this daemon's to run: end its process, drop its spool, then
    /// [`DaemonLink::forget`](super::DaemonLink::forget) it.
    EndForeign {
        /// The session.
        session_id: SessionId,
        /// Why, as the server says.
        reason: String,
    },
    /// Look this up and call [`DaemonLink::query_result`](super::DaemonLink::query_result).
    Query(Query),
    /// The server goes away. The link says goodbye and dials again by itself.
    Draining {
        /// Not before this.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// Drop the stream now. [`DaemonEvent::Reconnect`] follows, unless the daemon said goodbye itself.
    Close {
        /// What the server did wrong, or why it was taken for lost.
        reason: String,
    },
    /// The server refuses this daemon; dialling goes on slowly.
    Denied(Error),
    /// Dial again after this pause, with [`DaemonLink::dial`](super::DaemonLink::dial).
    Reconnect {
        /// The pause.
        after: Duration,
    },
    /// A newer process of the same daemon took over: end this one's link for good.
    Superseded(Error),
}

/// Why a push was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The session was not reported, or the server has not said what it has of it.
    #[error("the session is not open on this link")]
    NotOpen,
    /// It is not the record that comes next; [`DaemonLink::position`](super::DaemonLink::position) says after which
    /// one to go on.
    #[error("this is not the next record")]
    NotNext,
}
