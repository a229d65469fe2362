//! The points at which tests make a runner die.

pub(super) use crate::base::fault::point;

/// It is noted that the harness is about to be started; it is not.
pub const BEFORE_SPAWN: &str = "runner::before_spawn";
/// The harness runs, and no record says so.
pub const AFTER_SPAWN: &str = "runner::after_spawn";
/// A line was read from the harness; it is nowhere else.
pub const BEFORE_RECORD: &str = "runner::before_record";
/// A record is in the spool; nobody knows.
pub const AFTER_RECORD: &str = "runner::after_record";
/// That a command is to be done is on disk; nothing of it was written to the harness.
pub const AFTER_INTENT: &str = "runner::after_intent";
/// The harness has a command's bytes; nothing says so.
pub const AFTER_WRITE: &str = "runner::after_write";
/// The spool says that a command was written; the ledger does not.
pub const BEFORE_FINISH: &str = "runner::before_finish";

/// Every point.
pub const ALL: &[&str] = &[
    BEFORE_SPAWN,
    AFTER_SPAWN,
    BEFORE_RECORD,
    AFTER_RECORD,
    AFTER_INTENT,
    AFTER_WRITE,
    BEFORE_FINISH,
];

/// The fault that a daemon passes on to its runners, whose environment is otherwise empty.
#[cfg(feature = "failpoints")]
const OF_RUNNERS: &str = "BATON_FAULT_RUNNER";
/// The fault of a process.
#[cfg(feature = "failpoints")]
const OF_PROCESS: &str = "BATON_FAULT";

/// Gives a runner's first process the fault that is meant for runners.
pub(super) fn give(launcher: &mut std::process::Command) {
    #[cfg(feature = "failpoints")]
    if let Some(fault) = std::env::var_os(OF_RUNNERS) {
        launcher.env(OF_PROCESS, fault);
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = launcher;
}

/// Gives the runner proper the fault of its first process.
pub(super) fn hand_on(runner: &mut std::process::Command) {
    #[cfg(feature = "failpoints")]
    if let Some(fault) = std::env::var_os(OF_PROCESS) {
        runner.env(OF_PROCESS, fault);
    }
    #[cfg(not(feature = "failpoints"))]
    let _ = runner;
}
