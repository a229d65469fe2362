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
    /// How often its work was taken up again after a session of it had failed.
    #[serde(default)]
    pub restarts: u32,
    /// How often making its worktree was refused for good: the next attempt is another one.
    #[serde(default)]
    pub checkouts_refused: u32,
    /// Until when the provider takes nothing more of its agent; `None` if it does.
    #[serde(default)]
    pub parked_until: Option<Timestamp>,
    /// Why a person must look at it; empty if nobody must.
    #[serde(default)]
    pub escalation: String,
}

impl Assignment {
    /// An assignment that is not begun.
    pub fn new(id: AssignmentId, agent_id: AgentId, by: &Actor, now: Timestamp) -> Self {
        Assignment {
            id,
            agent_id,
            state: AssignmentState::Assigned,
            session_ids: Vec::new(),
            branch: String::new(),
            worktree_id: None,
            note: String::new(),
            by: by.clone(),
            assigned_at: now,
            started_at: None,
            ended_at: None,
            restarts: 0,
            checkouts_refused: 0,
            parked_until: None,
            escalation: String::new(),
        }
    }
}
