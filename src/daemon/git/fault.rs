//! The points at which tests make the daemon die in the middle of an operation on a worktree.

#[cfg(feature = "failpoints")]
pub(super) use crate::base::fault::is_on;
pub(super) use crate::base::fault::point;

/// A step is written down and not taken yet.
pub const STEP: &str = "git::step";
/// A branch and a directory are made, and nothing is in it.
pub const MADE: &str = "git::made";
/// A target's checkout has moved, and the target has not.
pub const MOVING: &str = "git::moving";
/// A target has moved, and nobody was told.
pub const MOVED: &str = "git::moved";
/// A worktree's files are gone, and git still knows it.
pub const REMOVING: &str = "git::removing";

/// Switched on, files cannot be removed: somebody else's are among them, or somebody writes there still.
pub const CANNOT_REMOVE: &str = "git::cannot_remove";

/// Every point at which the daemon dies.
pub const ALL: &[&str] = &[STEP, MADE, MOVING, MOVED, REMOVING];
