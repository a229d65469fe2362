//! The words that say where a task is.

use serde::{Deserialize, Serialize};

/// What priorities and complexities are: 1 is critical, or small.
pub const LEVELS: std::ops::RangeInclusive<u8> = 1..=5;

/// Where a task is. That it is blocked is computed and never among these; one that was deleted has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// To be done.
    Open,
    /// An agent works on it.
    InProgress,
    /// Put off.
    Deferred,
    /// Not to be done yet: nobody has decided about it.
    Backlog,
    /// Done, and to be looked at.
    Review,
    /// Over.
    Closed,
}

impl Status {
    /// Every status.
    pub const ALL: [Status; 6] = [
        Status::Open,
        Status::InProgress,
        Status::Deferred,
        Status::Backlog,
        Status::Review,
        Status::Closed,
    ];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::InProgress => "in_progress",
            Status::Deferred => "deferred",
            Status::Backlog => "backlog",
            Status::Review => "review",
            Status::Closed => "closed",
        }
    }

    /// Whether a task may go from here to there. What is blocked is open or in progress, and moves as that.
    pub const fn may_become(self, to: Status) -> bool {
        use Status::{Backlog, Closed, Deferred, InProgress, Open, Review};
        matches!(
            (self, to),
            (Open, InProgress | Deferred | Backlog | Closed)
                | (InProgress, Open | Deferred | Review | Closed)
                | (Deferred, Open | InProgress | Backlog)
                | (Backlog, Open | Deferred | Closed)
                | (Review, Closed | InProgress | Open)
                | (Closed, Open)
        )
    }

    /// Whether a task that is here is to be worked on: it may be ready, and it may be blocked.
    pub const fn is_active(self) -> bool {
        matches!(self, Status::Open | Status::InProgress)
    }
}

/// What sort of work a task is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// Something is wrong.
    Bug,
    /// Something new.
    Feature,
    /// Any work.
    #[default]
    Task,
    /// Upkeep.
    Chore,
}

/// What became of a task's branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MergeStatus {
    /// There is nothing to merge.
    #[default]
    NotApplicable,
    /// It waits to be merged.
    Pending,
    /// Its tests run.
    Testing,
    /// It is being merged.
    Merging,
    /// It is merged.
    Merged,
    /// It does not fit the target.
    Conflict,
    /// Its tests failed.
    TestFailed,
    /// Merging failed otherwise.
    Failed,
    /// Somebody must allow it.
    AwaitingApproval,
}
