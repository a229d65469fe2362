//! What the store's refusals mean to a caller.

use std::time::Duration;

use crate::base::{Code, Error};
use crate::store;

/// The error a caller is shown for a store error that no rule expected. Conflicts that a rule does expect
/// (a stale record, say) are matched before it comes to this.
pub fn from_store(error: store::Error) -> Error {
    match error {
        store::Error::Conflict { .. }
        | store::Error::Fenced { .. }
        | store::Error::Stale { .. } => Error::new(
            Code::Stale,
            "something else changed this at the same time; read it again and repeat",
        )
        .caused_by(error),
        store::Error::Full => Error::new(
            Code::Unavailable,
            "the server's disk is full; nothing was changed. Free space, or delete old sessions",
        )
        .retry_after(Duration::from_secs(30))
        .caused_by(error),
        store::Error::Closed => Error::new(
            Code::Unavailable,
            "the server is shutting down; try again in a moment",
        )
        .retry_after(Duration::from_secs(1))
        .caused_by(error),
        store::Error::Unusable(_) => Error::new(
            Code::Unavailable,
            "the server cannot use its store; its log says why",
        )
        .caused_by(error),
        store::Error::Truncated { head, .. } | store::Error::Future { head, .. } => Error::new(
            Code::OutOfRange,
            format!(
                "the log holds events {} to {}; start again after {}",
                head.first_seq,
                head.last_seq,
                head.first_seq.saturating_sub(1)
            ),
        )
        .with("first", head.first_seq)
        .with("head", head.last_seq)
        .with("epoch", head.log_epoch),
        store::Error::Forgotten { through } => Error::new(
            Code::OutOfRange,
            format!("what was deleted up to revision {through} is forgotten; read everything anew"),
        )
        .with("first", through),
        store::Error::NoStream { stream } => Error::not_found("session", stream),
        store::Error::Corrupt { ref stream, .. } => Error::new(
            Code::InternalError,
            format!(
                "the log of {stream} is damaged on disk and was set apart; `baton store check` says more"
            ),
        )
        .caused_by(error),
        other => Error::internal(other),
    }
}

/// The error of a store that could not be opened: whoever starts a server is told everything.
pub fn from_store_at_start(error: store::Error) -> Error {
    Error::new(
        Code::InternalError,
        format!("the store cannot be opened: {error}"),
    )
}
