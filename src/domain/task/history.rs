//! What was done to a task, and by whom.

use serde::{Deserialize, Serialize};

use super::Task;
use crate::base::Timestamp;
use crate::base::id::AgentId;
use crate::domain::Actor;

/// The most entries that a task's record keeps: the newest.
pub const MAX_HISTORY: usize = 200;
/// The most text of an entry, in bytes.
const MAX_TEXT_BYTES: usize = 1_000;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was made.
    Created,
    /// Fields were changed; the text names them.
    Updated,
    /// It was moved without a verb; the text says from where to where.
    Moved,
    /// It was given to an agent.
    Assigned,
    /// The agent began.
    Started,
    /// Another session works on it.
    SessionLinked,
    /// It was handed on.
    HandedOff,
    /// It was taken back.
    Released,
    /// It was completed.
    Completed,
    /// It was opened again.
    Reopened,
    /// A dependency was added.
    DependencyAdded,
    /// A dependency was removed.
    DependencyRemoved,
    /// Merging its branch went on.
    MergeMoved,
    /// Its work is to be taken up again; the text says after what.
    Retried,
    /// It waits for the provider; the text says until when.
    Parked,
    /// A person must look at it; the text says why.
    Escalated,
}

/// One thing that was done to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Actor,
    /// What.
    pub what: What,
    /// More about it.
    #[serde(default)]
    pub text: String,
    /// The agent that it was about.
    #[serde(default)]
    pub agent_id: Option<AgentId>,
}

impl Task {
    /// Adds an entry, and leaves out the oldest where there are too many.
    pub(super) fn note(
        &mut self,
        what: What,
        text: &str,
        agent_id: Option<AgentId>,
        by: &Actor,
        now: Timestamp,
    ) {
        if self.history.len() >= MAX_HISTORY {
            let excess = self.history.len() + 1 - MAX_HISTORY;
            self.history.drain(..excess);
            self.history_dropped += excess as u64;
        }
        let mut end = text.len().min(MAX_TEXT_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.history.push(Entry {
            at: now,
            by: by.clone(),
            what,
            text: text[..end].to_owned(),
            agent_id,
        });
        self.updated_at = now;
    }
}
