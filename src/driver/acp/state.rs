//! What a driver knows after a record: enough for a later daemon to go on in mid-stream.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::base::id::{InputId, PromptId, TurnId};
use crate::domain::session::Activity;
use crate::domain::{PermissionMode, Usage};

/// The most requests of the agent that may be open at once; one more is refused.
pub(super) const MAX_OPEN: usize = 256;
/// How many inputs may wait for the agent; one more is refused.
pub(super) const MAX_HELD: usize = 128;
/// How many calls of tools are followed at once; the oldest is told as it is and forgotten.
pub(super) const MAX_CALLS: usize = 32;

/// What a write to the agent was for; it comes back with the `Written` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Note {
    /// An input has come. Nothing was written for it: the agent takes one at a time, and gets it as [`Note::Prompt`].
    Input { input_id: InputId, text: String },
    /// An input was given to the agent.
    Prompt { input_id: InputId },
    /// An answer. `cancels` says that the turn was cancelled with it.
    Answer {
        prompt_id: PromptId,
        request_key: String,
        cancels: bool,
    },
    /// An interruption, and with it the answers of these requests.
    Cancel { request_keys: Vec<String> },
    /// New options.
    Options {
        permission_mode: Option<PermissionMode>,
    },
    /// Something the driver wrote by itself.
    Own,
}

impl Note {
    /// The note as bytes.
    pub(super) fn encode(&self) -> bytes::Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// The note in these bytes; `None` if no driver wrote them.
    pub(super) fn decode(bytes: &[u8]) -> Option<Note> {
        serde_json::from_slice(bytes).ok()
    }
}

/// How far the conversation with the agent has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// It was asked what it can do.
    #[default]
    Starting,
    /// It was asked for a conversation.
    Opening,
    /// It was told its mode and model, under these request ids.
    Choosing { requests: Vec<String> },
    /// It takes inputs.
    Ready,
    /// It cannot be talked to, for this reason.
    Failed { why: String },
}

/// What the agent said it can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Agent {
    /// Whether it has answered at all.
    pub(super) is_known: bool,
    pub(super) name: String,
    pub(super) version: String,
    /// Whether it takes a conversation up and tells it anew.
    pub(super) can_load: bool,
    /// Whether it takes a conversation up without a word.
    pub(super) can_resume: bool,
    /// How one signs in, for people.
    pub(super) sign_in: Vec<String>,
}

/// An input that waits for the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) id: InputId,
    pub(super) text: String,
}

/// A turn: from an input to the agent's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenTurn {
    pub(super) id: TurnId,
    pub(super) input_id: InputId,
    /// The id of the request.
    pub(super) request: String,
    pub(super) started: Timestamp,
    /// Whether it was told, which it is when the agent has the input.
    pub(super) is_told: bool,
    /// Whether nobody knows if the agent has the input.
    pub(super) doubtful: bool,
    /// Whether it was cancelled.
    pub(super) cancelled: bool,
    /// The last that the agent said.
    pub(super) last_said: String,
}

/// An option of a permission request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Choice {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) kind: ChoiceKind,
}

/// What choosing an option means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ChoiceKind {
    AllowOnce,
    AllowAlways,
    RejectOnce,
    RejectAlways,
}

/// A permission request that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenRequest {
    /// The agent's id of it, as it came.
    pub(super) key: String,
    /// The prompt it became.
    pub(super) prompt_id: PromptId,
    pub(super) choices: Vec<Choice>,
    /// Whether an answer was written and nobody knows if it arrived.
    pub(super) doubtful: bool,
}

/// A call of a tool, as far as it was told by the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) title: String,
    /// The protocol's word for the kind of tool.
    pub(super) kind: String,
    /// The input as JSON; empty while none came.
    pub(super) input: String,
    pub(super) paths: Vec<String>,
    /// What it is about to change.
    pub(super) diff: String,
    /// Whether it is in the log.
    pub(super) is_told: bool,
}

/// A message that is being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) by_user: bool,
    pub(super) thinking: bool,
    /// The agent's id of the message; may be empty.
    pub(super) message_id: String,
    /// The number by which the live text knows it.
    pub(super) block: u32,
    pub(super) text: String,
}

/// A mode of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mode {
    pub(super) id: String,
    pub(super) name: String,
}

/// The agent's models, if it offers a choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Models {
    /// The id of the option that chooses.
    pub(super) option: String,
    pub(super) offered: Vec<String>,
    pub(super) current: String,
}

/// Everything a driver knows, but for the bytes of an unfinished line. Fields added later carry a
/// default, so that a newer driver reads an older one's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) pid: u32,
    pub(super) cwd: String,
    /// The model that was asked for; empty is the agent's own.
    pub(super) wanted_model: String,
    /// The conversation to go on with; empty is a new one.
    pub(super) resumes: String,
    pub(super) phase: Phase,
    /// How often a conversation was asked for.
    pub(super) attempts: u32,
    pub(super) agent: Agent,
    /// The agent's id of the conversation.
    pub(super) conversation: String,
    /// Whether the agent tells an old conversation anew: that is in the log of the session before.
    pub(super) is_replaying: bool,
    pub(super) modes: Vec<Mode>,
    pub(super) mode: String,
    /// How often the agent was put back into the mode that asks.
    pub(super) corrections: u32,
    pub(super) models: Models,
    pub(super) activity: Activity,
    pub(super) exited: bool,
    pub(super) held: VecDeque<Held>,
    pub(super) turn: Option<OpenTurn>,
    pub(super) open: Vec<OpenRequest>,
    pub(super) calls: VecDeque<Call>,
    pub(super) said: Option<Said>,
    /// How many messages were begun; the live text knows each by its number.
    pub(super) blocks: u32,
    pub(super) total: Usage,
    /// The start of a character that the last piece of standard error ended in.
    pub(super) stderr_tail: Vec<u8>,
    /// Whether the line that is being read is beyond its bound.
    pub(super) oversize: bool,
}

impl State {
    /// The request with this key.
    pub(super) fn open_request(&self, key: &str) -> Option<&OpenRequest> {
        self.open.iter().find(|open| open.key == key)
    }

    /// The call with this id, new if it is not known. What has to make room is given back.
    pub(super) fn call(&mut self, id: &str) -> (&mut Call, Option<Call>) {
        let mut gone = None;
        let at = match self.calls.iter().position(|call| call.id == id) {
            Some(at) => at,
            None => {
                if self.calls.len() >= MAX_CALLS {
                    gone = self.calls.pop_front();
                }
                self.calls.push_back(Call {
                    id: id.to_owned(),
                    ..Call::default()
                });
                self.calls.len() - 1
            }
        };
        (&mut self.calls[at], gone)
    }
}
