//! Commands: what the server tells a daemon to do to a session, once each.

use serde::{Deserialize, Serialize};

use super::harness::PermissionMode;
use super::prompt::PromptAnswer;
use super::session::{EndReason, Mode};
use super::terminal::Size;
use crate::base::Timestamp;
use crate::base::id::{CommandId, InputId, PromptId, SessionId};

/// Starts a harness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartCommand {
    /// Kind of agent program.
    pub harness: String,
    /// Working directory.
    pub cwd: String,
    /// The model; empty means the default.
    pub model: String,
    /// The permission mode.
    pub permission_mode: PermissionMode,
    /// Headless or interactive.
    pub mode: Mode,
    /// Program and arguments, for `command`.
    pub argv: Vec<String>,
    /// Names of environment variables to pass on.
    pub env_names: Vec<String>,
    /// The conversation to continue; empty means a new one.
    pub provider_session_id: String,
    /// Whether to branch off from that conversation.
    pub fork: bool,
    /// Whether to end after the first turn.
    pub one_shot: bool,
    /// The session whose process must be gone first.
    pub replaces: Option<SessionId>,
    /// The size that the terminal of an interactive session begins with.
    #[serde(default)]
    pub terminal: Option<Size>,
    /// What the agent is told beside its inputs, for a harness that takes it.
    #[serde(default)]
    pub instructions: String,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandBody {
    /// Start the harness.
    Start(Box<StartCommand>),
    /// Give the harness an input.
    Input {
        /// The input.
        input_id: InputId,
        /// Its text.
        text: String,
        /// Whether it goes into the running turn.
        steer: bool,
    },
    /// Interrupt the turn.
    Interrupt,
    /// Give the harness an answer.
    Answer {
        /// The prompt.
        prompt_id: PromptId,
        /// The harness's own id of the request.
        request_key: String,
        /// The answer.
        answer: PromptAnswer,
    },
    /// End the process.
    End {
        /// Whether to skip the polite end.
        force: bool,
        /// Why.
        reason: EndReason,
        /// Whether it is to be resumed later.
        suspend: bool,
        /// A sentence for people.
        message: String,
    },
    /// Change options.
    Options {
        /// The new model; `None` leaves it, empty is the default.
        model: Option<String>,
        /// The new permission mode.
        permission_mode: Option<PermissionMode>,
    },
    /// Take an input back that the harness has queued.
    CancelInput {
        /// The input.
        input_id: InputId,
    },
}

impl CommandBody {
    /// The command's name.
    pub const fn name(&self) -> &'static str {
        match self {
            CommandBody::Start(_) => "start",
            CommandBody::Input { .. } => "input",
            CommandBody::Interrupt => "interrupt",
            CommandBody::Answer { .. } => "answer",
            CommandBody::End { suspend: true, .. } => "suspend",
            CommandBody::End { .. } => "end",
            CommandBody::Options { .. } => "options",
            CommandBody::CancelInput { .. } => "cancel_input",
        }
    }
}

/// Something a daemon is to do to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Id; the same id is the same command for ever. A session's commands are done in the order of their ids.
    pub id: CommandId,
    /// The session.
    pub session_id: SessionId,
    /// Reject it instead when this time is past.
    pub deadline: Option<Timestamp>,
    /// What to do.
    pub body: CommandBody,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandOutcome {
    /// It was applied, once.
    Applied,
    /// It was refused and changed nothing.
    Rejected,
    /// It was taken back before it reached the harness.
    Withdrawn,
    /// It may or may not have reached the harness.
    Indeterminate,
}

/// What a daemon says of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// The command.
    pub command_id: CommandId,
    /// The session.
    pub session_id: SessionId,
    /// How it ended.
    pub outcome: CommandOutcome,
    /// Why, unless it was applied.
    pub reason: String,
    /// The reason's code; empty if it was applied.
    pub code: String,
}
