//! One task given to one agent.

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::base::id::{AgentId, AssignmentId, SessionId, WorktreeId};
use crate::domain::Actor;

/// The most assignments that a task's record keeps: the newest.
pub const MAX_ASSIGNMENTS: usize = 20;
/// The most sessions that an assignment's record keeps: the newest.
pub const MAX_ASSIGNMENT_SESSIONS: usize = 100;

/// Where an assignment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssignmentState {
    /// Given, and not begun.
    Assigned,
    /// The agent works on it.
    InProgress,
    /// The agent has done it.
    Completed,
    /// What was done is merged.
    Merged,
    /// It was handed on.
    HandedOff,
    /// It was taken back.
    Released,
}

impl AssignmentState {
    /// Whether the agent still has the task.
    pub const fn is_living(self) -> bool {
        matches!(
            self,
            AssignmentState::Assigned | AssignmentState::InProgress
        )
    }
}

/// One task given to one agent. It may span sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Id.
    pub id: AssignmentId,
    /// Who has it.
    pub agent_id: AgentId,
    /// Where it is.
    pub state: AssignmentState,
    /// The sessions in which it was worked on, oldest first.
    #[serde(default)]
    pub session_ids: Vec<SessionId>,
    /// The branch that it is worked on in; empty if there is none.
    #[serde(default)]
    pub branch: String,
    /// The worktree that it is worked on in.
    #[serde(default)]
    pub worktree_id: Option<WorktreeId>,
    /// What was said when it was handed on, completed or taken back.
    #[serde(default)]
    pub note: String,
    /// Who gave it.
    pub by: Actor,
    /// When it was given.
    pub assigned_at: Timestamp,
    /// When it was begun.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it was over.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
}
