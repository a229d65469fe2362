//! Tasks: units of work, what they wait for, and who has them.
//!
//! What a task is now is in its record, and every verb here moves it by an edge of [`Status`] or refuses. Whether
//! it is blocked and how urgent it is because of others is not in it: that follows from other tasks, and is
//! computed where all of them are known.

mod assignment;
mod brief;
mod dependency;
mod draft;
mod history;
mod status;
mod verbs;

pub use assignment::{Assignment, AssignmentState, MAX_ASSIGNMENT_SESSIONS, MAX_ASSIGNMENTS};
pub use brief::ready_brief;
pub use dependency::{Dependency, Gate, MAX_DEPENDENCIES, On, Relation};
pub use draft::{
    Attachment, AttachmentBody, Draft, MAX_ATTACHMENT_TEXT_BYTES, MAX_ATTACHMENTS, MAX_BODY_BYTES,
    MAX_CAPABILITIES, MAX_NOTE_BYTES, Update, branch, note,
};
pub use history::{Entry, MAX_HISTORY, What};
pub use status::{LEVELS, MergeStatus, Status, Type};
pub use verbs::Outcome;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Actor;
use crate::base::Timestamp;
use crate::base::id::TaskId;

/// A unit of work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Id; older ids are of older tasks.
    pub id: TaskId,
    /// One line that says what is to be done.
    pub title: String,
    /// What is to be done, as markdown.
    #[serde(default)]
    pub body: String,
    /// What sort of work it is.
    #[serde(rename = "type")]
    pub kind: Type,
    /// 1 (critical) to 5.
    pub priority: u8,
    /// 1 (small) to 5.
    pub complexity: u8,
    /// Where it is. Never that it is blocked, which is computed.
    pub status: Status,
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Not to be begun before this.
    #[serde(default)]
    pub scheduled_for: Option<Timestamp>,
    /// What an agent must be able to do to be given it.
    #[serde(default)]
    pub required_capabilities: Vec<String>,
    /// What an agent should be able to do.
    #[serde(default)]
    pub preferred_capabilities: Vec<String>,
    /// How to tell that it is done.
    #[serde(default)]
    pub acceptance: String,
    /// What belongs to it.
    #[serde(default)]
    pub attachments: Vec<Attachment>,
    /// Whether it is closed when it is complete, without anybody looking at it.
    #[serde(default)]
    pub skip_review: bool,
    /// The directory it is about; empty is none. Never changed: narrowed tokens see tasks by it.
    #[serde(default)]
    pub directory: String,
    /// What it waits for, belongs to, or refers to.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
    /// Who had it and has it, oldest first; only the last may be living.
    #[serde(default)]
    pub assignments: Vec<Assignment>,
    /// What was said of the work when it was completed.
    #[serde(default)]
    pub summary: String,
    /// What became of its branch.
    #[serde(default)]
    pub merge_status: MergeStatus,
    /// Who made it.
    pub created_by: Actor,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was closed; `None` while it is not.
    #[serde(default)]
    pub closed_at: Option<Timestamp>,
    /// What was done to it, oldest first, the newest [`MAX_HISTORY`] of it.
    #[serde(default)]
    pub history: Vec<Entry>,
    /// How many older entries of the history were left out.
    #[serde(default)]
    pub history_dropped: u64,
}

/// What follows for a task from the others: computed, never kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is open or in progress and waits for tasks or gates.
    pub blocked: bool,
    /// The tasks it waits for that are not closed.
    pub blocked_by: Vec<TaskId>,
    /// Its own priority, or the highest of what waits for it.
    pub effective_priority: u8,
}

impl Task {
    /// A new task; `draft` was checked.
    pub fn new(id: TaskId, draft: Draft, by: &Actor, now: Timestamp) -> Self {
        let mut task = Task {
            id,
            title: draft.title,
            body: draft.body,
            kind: draft.kind,
            priority: draft.priority,
            complexity: draft.complexity,
            status: draft.status,
            labels: draft.labels,
            scheduled_for: draft.scheduled_for,
            required_capabilities: draft.required_capabilities,
            preferred_capabilities: draft.preferred_capabilities,
            acceptance: draft.acceptance,
            attachments: draft.attachments,
            skip_review: draft.skip_review,
            directory: draft.directory,
            dependencies: draft
                .dependencies
                .into_iter()
                .map(|on| Dependency {
                    on,
                    by: by.clone(),
                    at: now,
                })
                .collect(),
            assignments: Vec::new(),
            summary: String::new(),
            merge_status: MergeStatus::default(),
            created_by: by.clone(),
            created_at: now,
            updated_at: now,
            closed_at: None,
            history: Vec::new(),
            history_dropped: 0,
        };
        task.note(What::Created, "", None, by, now);
        task
    }

    /// The assignment that is not over.
    pub fn living(&self) -> Option<&Assignment> {
        self.assignments
            .last()
            .filter(|assignment| assignment.state.is_living())
    }

    /// The task it is a part of.
    pub fn parent(&self) -> Option<TaskId> {
        self.dependencies
            .iter()
            .find_map(|dependency| match dependency.on {
                On::Task {
                    relation: Relation::ParentChild,
                    id,
                } => Some(id),
                _ => None,
            })
    }

    /// When the latest of what only time lifts is over: its schedule and its timers; `None` if there is none.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        let timers = self
            .dependencies
            .iter()
            .filter_map(|dependency| match &dependency.on {
                On::Gate(Gate::Timer { until }) => Some(*until),
                _ => None,
            });
        timers.chain(self.scheduled_for).max()
    }

    /// The gates that are closed at `now`: it waits for them.
    pub fn closed_gates(&self, now: Timestamp) -> impl Iterator<Item = &Gate> {
        self.dependencies
            .iter()
            .filter_map(move |dependency| match &dependency.on {
                On::Gate(gate) if gate.is_closed(now) => Some(gate),
                _ => None,
            })
    }
}

#[cfg(test)]
mod tests;
