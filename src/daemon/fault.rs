//! The points at which tests make the daemon die while a session is started.

pub(super) use crate::base::fault::point;

/// What a session's start needs is on disk; no runner was started.
pub const BEFORE_RUNNER: &str = "daemon::before_runner";
/// The runner listens; nobody was told.
pub const AFTER_RUNNER: &str = "daemon::after_runner";

/// Every point.
pub const ALL: &[&str] = &[BEFORE_RUNNER, AFTER_RUNNER];
