//! Inputs: text sent to an agent, and its way there.

use serde::{Deserialize, Serialize};

use super::actor::Actor;
use crate::base::Timestamp;
use crate::base::id::{CommandId, InputId, SessionId};

/// The longest input, in bytes.
pub const MAX_INPUT_BYTES: usize = 1024 * 1024;
/// The longest queue of a session.
pub const MAX_QUEUED_INPUTS: u32 = 100;

/// How an input is to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// When the agent is idle, after what was queued before.
    #[default]
    Queue,
    /// Into the running turn, if the harness can; else first in the queue.
    Steer,
}

/// Where an input is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputState {
    /// It waits in the queue.
    Queued,
    /// It was given to the daemon.
    Delivered,
    /// The harness took it.
    Applied,
    /// Nobody can tell whether the harness took it.
    Indeterminate,
    /// It was taken back.
    Withdrawn,
    /// It was refused.
    Rejected,
}

impl InputState {
    /// The state's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            InputState::Queued => "queued",
            InputState::Delivered => "delivered",
            InputState::Applied => "applied",
            InputState::Indeterminate => "indeterminate",
            InputState::Withdrawn => "withdrawn",
            InputState::Rejected => "rejected",
        }
    }
}

/// An input's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Id; its bits are also the harness's message UUID.
    pub id: InputId,
    /// The session.
    pub session_id: SessionId,
    /// The text.
    pub text: String,
    /// How it is to be delivered.
    pub delivery: Delivery,
    /// Where it is.
    pub state: InputState,
    /// Who sent it.
    pub actor: Actor,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// Its place in the queue, from 1; 0 when it is not queued.
    pub position: u32,
    /// Why it was refused or is indeterminate.
    #[serde(default)]
    pub reason: String,
    /// The command that carries it, once delivered.
    #[serde(default)]
    pub command_id: Option<CommandId>,
}
