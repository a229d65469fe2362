//! The points at which tests hold up a session's way to the server, or make the daemon die on it.

pub(super) use crate::base::fault::point;

/// The next record of the runner is about to be read.
pub const BEFORE_RECORD: &str = "session::before_record";
/// The link wants a record, and does not have it yet.
pub const BEFORE_PUSH: &str = "session::before_push";
/// The link has a record; it may be on its way.
pub const AFTER_PUSH: &str = "session::after_push";
/// A command came; nothing was done for it.
pub const BEFORE_COMMAND: &str = "session::before_command";
/// The runner was told what to write.
pub const AFTER_TELL: &str = "session::after_tell";
/// A command's result is known here and nowhere else.
pub const BEFORE_RESULT: &str = "session::before_result";
/// What the server has stored is known; the state that says so is not on disk.
pub const BEFORE_SAVE: &str = "session::before_save";
/// The state is on disk; the spool still has what it stands for.
pub const BEFORE_TRIM: &str = "session::before_trim";

/// Every point.
pub const ALL: &[&str] = &[
    BEFORE_RECORD,
    BEFORE_PUSH,
    AFTER_PUSH,
    BEFORE_COMMAND,
    AFTER_TELL,
    BEFORE_RESULT,
    BEFORE_SAVE,
    BEFORE_TRIM,
];
