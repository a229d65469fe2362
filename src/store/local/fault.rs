//! The points at which tests make the store fail or die.

#[cfg(feature = "failpoints")]
pub(super) use crate::base::fault::is_on;
pub(super) use crate::base::fault::point;

/// A commit was accepted and is not written yet.
pub const BEFORE_APPEND: &str = "store::before_append";
/// A group of commits was written and is not synced yet.
pub const AFTER_APPEND: &str = "store::after_append";
/// Right before the sync.
pub const BEFORE_SYNC: &str = "store::before_sync";
/// Synced; nobody was told yet.
pub const AFTER_SYNC_BEFORE_ACK: &str = "store::after_sync_before_ack";
/// The index has the group; heads and tails, which readers see, do not.
pub const MID_PROJECTION: &str = "store::mid_projection";
/// The first caller of the group was answered; readers were not woken yet.
pub const AFTER_ACK_BEFORE_PUBLISH: &str = "store::after_ack_before_publish";
/// A full segment was cut to its length; its footer is not written.
pub const MID_SEAL: &str = "store::mid_seal";
/// A segment was rewritten and the old one is still there.
pub const MID_COMPACTION: &str = "store::mid_compaction";
/// A snapshot is half written.
pub const MID_SNAPSHOT: &str = "store::mid_snapshot";
/// A piece of content is in its staging file; whatever is whole of it is not in its place.
pub const MID_STAGING: &str = "store::mid_staging";
/// Whole content is in its place for good; nobody was told.
pub const AFTER_CONTENT: &str = "store::after_content";
/// The disk is full: half of the group is written, then the write fails.
pub const NO_SPACE: &str = "store::no_space";

/// Every point.
pub const ALL: &[&str] = &[
    BEFORE_APPEND,
    AFTER_APPEND,
    BEFORE_SYNC,
    AFTER_SYNC_BEFORE_ACK,
    MID_PROJECTION,
    AFTER_ACK_BEFORE_PUBLISH,
    MID_SEAL,
    MID_COMPACTION,
    MID_SNAPSHOT,
    MID_STAGING,
    AFTER_CONTENT,
    NO_SPACE,
];
