//! The points at which tests make the server die while sessions change.

pub(in crate::app) use crate::base::fault::point;

/// What a session's steps change was decided and is not written.
pub const BEFORE_COMMIT: &str = "sessions::before_commit";
/// It is written for good; readers, the daemon and the callers do not know.
pub const AFTER_COMMIT: &str = "sessions::after_commit";
/// A new session is written for good; its daemon does not know.
pub const AFTER_BIRTH: &str = "sessions::after_birth";
/// A daemon is linked, and not all of its sessions say so yet.
pub const MID_LINKED: &str = "sessions::mid_linked";
/// A daemon's link is gone, and not all of its sessions say so yet.
pub const MID_UNLINKED: &str = "sessions::mid_unlinked";

/// Every point.
pub const ALL: &[&str] = &[
    BEFORE_COMMIT,
    AFTER_COMMIT,
    AFTER_BIRTH,
    MID_LINKED,
    MID_UNLINKED,
];
