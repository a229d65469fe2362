//! What the store's refusals mean to a caller.

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
            "the server's disk is full; it takes no changes until there is space",
        )
        .caused_by(error),
        store::Error::Closed | store::Error::Unusable(_) => Error::new(
            Code::Unavailable,
            "the server is shutting down or cannot reach its store",
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
