//! What a task waits for, belongs to, or refers to.

use serde::{Deserialize, Serialize};

use crate::base::id::TaskId;
use crate::base::{Error, Result, Timestamp};
use crate::domain::{Actor, field};

/// The most dependencies that one task has.
pub const MAX_DEPENDENCIES: usize = 100;

/// How a task relates to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// It waits until the other is closed.
    Blocks,
    /// The other is its parent, which waits until it is closed. A task has at most one.
    ParentChild,
    /// They have to do with each other.
    RelatesTo,
    /// It mentions the other.
    References,
    /// It takes the other's place.
    Supersedes,
    /// It is the same as the other.
    Duplicates,
    /// The other is why there is this one.
    CausedBy,
    /// It checks what the other did.
    Validates,
}

impl Relation {
    /// Whether one of the two waits for the other.
    pub const fn is_blocking(self) -> bool {
        matches!(self, Relation::Blocks | Relation::ParentChild)
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Relation::Blocks => "blocks",
            Relation::ParentChild => "parent-child",
            Relation::RelatesTo => "relates-to",
            Relation::References => "references",
            Relation::Supersedes => "supersedes",
            Relation::Duplicates => "duplicates",
            Relation::CausedBy => "caused-by",
            Relation::Validates => "validates",
        }
    }

    /// Who waits for whom, where `from` has this relation to `to`: the one that waits comes first.
    pub const fn waits(self, from: TaskId, to: TaskId) -> Option<(TaskId, TaskId)> {
        match self {
            Relation::Blocks => Some((from, to)),
            Relation::ParentChild => Some((to, from)),
            _ => None,
        }
    }
}

/// Something that is no task and keeps one waiting.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// A time; it opens by itself.
    Timer {
        /// When.
        until: Timestamp,
    },
    /// Somebody's approval; it is given by removing the gate.
    Approval {
        /// What is to be approved, or by whom.
        name: String,
    },
    /// Something outside; whoever knows that it has happened removes the gate.
    External {
        /// What.
        name: String,
    },
}

impl Gate {
    /// Whether it keeps its task waiting at `now`.
    pub fn is_closed(&self, now: Timestamp) -> bool {
        match self {
            Gate::Timer { until } => now < *until,
            Gate::Approval { .. } | Gate::External { .. } => true,
        }
    }

    /// A gate whose name is a line that is not empty.
    pub fn check(&self, at: &str) -> Result<()> {
        match self {
            Gate::Timer { .. } => Ok(()),
            Gate::Approval { name } | Gate::External { name } => {
                let at = format!("{at}.name");
                if name.is_empty() {
                    return Err(Error::invalid(&at, "is missing; say what is waited for"));
                }
                field::title(&at, name)
            }
        }
    }

    /// For people: what is waited for.
    pub fn describe(&self) -> String {
        match self {
            Gate::Timer { until } => format!("the time {until}"),
            Gate::Approval { name } => format!("the approval {name:?}"),
            Gate::External { name } => format!("{name:?}"),
        }
    }
}

/// What a dependency is on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// Another task.
    Task {
        /// How it relates to it.
        relation: Relation,
        /// The other.
        id: TaskId,
    },
    /// A gate: the task awaits it.
    Gate(Gate),
}

impl On {
    /// For people: `blocks tsk_…`, or `awaits …`.
    pub fn describe(&self) -> String {
        match self {
            On::Task { relation, id } => format!("{} {id}", relation.as_str()),
            On::Gate(gate) => format!("awaits {}", gate.describe()),
        }
    }
}

/// What a task waits for, belongs to, or refers to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// On what.
    pub on: On,
    /// Who added it.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// Dependencies that one task may have together: not too many, none twice, one parent at most.
pub(super) fn check_all(at: &str, all: &[On]) -> Result<()> {
    if all.len() > MAX_DEPENDENCIES {
        return Err(Error::invalid(
            at,
            format!("has {} entries; the most is {MAX_DEPENDENCIES}", all.len()),
        ));
    }
    let mut parents = 0;
    for (index, on) in all.iter().enumerate() {
        let here = format!("{at}[{index}]");
        match on {
            On::Gate(gate) => gate.check(&format!("{here}.gate"))?,
            On::Task { relation, .. } => {
                parents += usize::from(*relation == Relation::ParentChild);
            }
        }
        if all[..index].contains(on) {
            return Err(Error::invalid(&here, "is there twice"));
        }
        if parents > 1 {
            return Err(Error::invalid(&here, "is a second parent"));
        }
    }
    Ok(())
}
