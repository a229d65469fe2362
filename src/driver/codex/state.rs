//! What a driver knows after a record: enough for a later daemon to go on in mid-stream.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::base::Timestamp;
use crate::base::id::{InputId, PromptId, TurnId};
use crate::domain::prompt::PromptKind;
use crate::domain::session::Activity;
use crate::domain::{PermissionMode, Usage};

/// The most requests of the agent that may be open at once; one more is refused.
pub(super) const MAX_OPEN: usize = 256;
/// How many inputs may wait for the agent; one more is refused.
pub(super) const MAX_HELD: usize = 128;
/// How many items are followed at once; the oldest is forgotten.
const MAX_ITEMS: usize = 64;

/// What a write to the agent was for; it comes back with the `Written` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Note {
    /// An input has come. Nothing was written for it: the agent takes one at a time, and gets it as [`Note::Turn`].
    Input { input_id: InputId, text: String },
    /// An input was given to the agent.
    Turn { input_id: InputId },
    /// An answer.
    Answer {
        prompt_id: PromptId,
        request_key: String,
    },
    /// An interruption was asked for. Nothing was written: the agent's id of the turn may not be known yet.
    Interrupt,
    /// New options. The model goes with the next turn.
    Options {
        model: Option<String>,
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
    /// It was greeted.
    #[default]
    Starting,
    /// It was asked for a thread.
    Opening,
    /// It takes inputs.
    Ready,
    /// It cannot be talked to, for this reason.
    Failed { why: String },
}

/// An input that waits for the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) id: InputId,
    pub(super) text: String,
}

/// A turn that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenTurn {
    pub(super) id: TurnId,
    pub(super) input_id: InputId,
    /// The id of the request.
    pub(super) request: String,
    /// The agent's id of the turn; empty until it says it.
    pub(super) theirs: String,
    pub(super) started: Timestamp,
    /// Whether it was told, which it is when the agent has the input.
    pub(super) is_told: bool,
    /// Whether nobody knows if the agent has the input.
    pub(super) doubtful: bool,
    /// Whether it is to be interrupted as soon as its id is known.
    pub(super) interrupt: bool,
    pub(super) last_said: String,
    pub(super) usage: Usage,
}

/// A request that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenRequest {
    /// The agent's id of it, as it came.
    pub(super) key: String,
    pub(super) prompt_id: PromptId,
    pub(super) kind: PromptKind,
    /// Its questions: the agent's id of each, and its text.
    pub(super) questions: Vec<(String, String)>,
    /// Whether an answer was written and nobody knows if it arrived.
    pub(super) doubtful: bool,
}

/// Something that the agent does, from its beginning to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Item {
    pub(super) id: String,
    /// The tool it is, and what that is called with; empty for a text.
    pub(super) tool: String,
    pub(super) input: String,
    /// How much of a text went out live, by its part, in bytes.
    pub(super) live: Vec<u64>,
}

/// Everything a driver knows, but for the bytes of an unfinished line. Fields added later carry a
/// default, so that a newer driver reads an older one's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) pid: u32,
    pub(super) cwd: String,
    /// The model that was asked for, for the next turn; empty leaves it.
    pub(super) wanted_model: String,
    /// The thread to go on with; empty is a new one.
    pub(super) resumes: String,
    pub(super) phase: Phase,
    /// How often a thread was asked for.
    pub(super) attempts: u32,
    /// Whether the agent has answered at all.
    pub(super) is_known: bool,
    pub(super) version: String,
    pub(super) model: String,
    /// The agent's id of the conversation.
    pub(super) thread: String,
    pub(super) activity: Activity,
    pub(super) exited: bool,
    pub(super) held: VecDeque<Held>,
    pub(super) turn: Option<OpenTurn>,
    pub(super) open: Vec<OpenRequest>,
    pub(super) items: VecDeque<Item>,
    /// What this process consumed.
    pub(super) total: Usage,
    /// What the thread consumed, as last reported; it began before this process when it was resumed.
    pub(super) reported: Option<Usage>,
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

    /// The item with this id, new if it is not known.
    pub(super) fn item(&mut self, id: &str) -> &mut Item {
        let at = match self.items.iter().position(|item| item.id == id) {
            Some(at) => at,
            None => {
                if self.items.len() >= MAX_ITEMS {
                    self.items.pop_front();
                }
                self.items.push_back(Item {
                    id: id.to_owned(),
                    ..Item::default()
                });
                self.items.len() - 1
            }
        };
        &mut self.items[at]
    }
}
