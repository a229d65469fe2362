//! The points at which tests hold up a session's way to the server.

pub(super) use crate::base::fault::point;

/// The link wants a record, and does not have it yet.
pub const BEFORE_PUSH: &str = "session::before_push";
