//! What a driver knows after a record: enough for a later daemon to go on in mid-stream.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::usage::Ledger;
use crate::base::id::{InputId, PromptId, TurnId};
use crate::base::{Json, Timestamp};
use crate::domain::prompt::PromptKind;
use crate::domain::session::Activity;

/// The most requests of the harness that may be open at once; one more is refused.
pub(super) const MAX_OPEN: usize = 256;
/// How many answered requests are remembered; the oldest is forgotten.
const MAX_ANSWERED: usize = 256;
/// How many inputs are followed; the oldest is forgotten.
const MAX_INPUTS: usize = 512;
/// How many finished inputs are remembered; the oldest is forgotten.
const MAX_FINISHED: usize = 128;
/// How many responses may be kept that came before the record of their write; the oldest is forgotten.
const MAX_EARLY: usize = 64;
/// How many messages may be streamed at once (an agent and its sub-agents); the oldest is forgotten.
const MAX_STREAMS: usize = 16;
/// How many plans are remembered until they are asked about; the oldest is forgotten.
const MAX_PLANS: usize = 8;

/// What a write to the harness was for; it comes back with the `Written` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Note {
    /// An input.
    Input { input_id: InputId },
    /// An answer.
    Answer {
        prompt_id: PromptId,
        request_key: String,
    },
    /// An interruption.
    Interrupt,
    /// New options. Without a model nothing is asked of the harness.
    Options {
        model: Option<String>,
        permission_mode: Option<crate::domain::PermissionMode>,
    },
    /// An input to be taken back.
    Cancel { input_id: InputId },
    /// The polite end.
    End,
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

/// A request of the harness that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenRequest {
    /// The harness's id of it.
    pub(super) key: String,
    /// The prompt it became.
    pub(super) prompt_id: PromptId,
    /// What is asked.
    pub(super) kind: PromptKind,
    /// The tool.
    pub(super) tool: String,
    /// The input as it came; an allow gives it back byte for byte.
    pub(super) input: Json,
    /// The texts of its questions.
    pub(super) questions: Vec<String>,
    /// Whether an answer was written and nobody knows if it arrived.
    pub(super) doubtful: bool,
}

/// How far an input has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// Its bytes are in the pipe.
    Written,
    /// They may be.
    Doubtful,
    /// The harness has it in its own queue.
    Queued,
    /// The harness took it.
    Started,
}

/// An input on its way through the harness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownInput {
    pub(super) id: InputId,
    pub(super) stage: Stage,
    /// Whether a turn has ended since it was written. A harness that tells no lifecycle of inputs is not waited
    /// for any longer then.
    #[serde(default)]
    pub(super) passed: bool,
}

/// A turn that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenTurn {
    pub(super) id: TurnId,
    pub(super) inputs: Vec<InputId>,
}

/// A command whose answer has not come yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// The command's id, which is also the request's.
    pub(super) id: String,
    pub(super) note: Note,
}

/// What the harness answered to a request of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Response {
    pub(super) id: String,
    /// Why it failed; `None` if it did not.
    pub(super) error: Option<String>,
    /// Whether it says that a message was cancelled.
    pub(super) cancelled: Option<bool>,
}

/// The message that is being streamed by the agent or by one sub-agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stream {
    /// The call of the sub-agent; empty for the agent itself.
    pub(super) parent: String,
    pub(super) message_id: String,
    pub(super) block: u32,
    pub(super) offset: u64,
}

/// What was last said in a `Started` event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Announced {
    pub(super) provider_session_id: String,
    pub(super) model: String,
    pub(super) cwd: String,
    pub(super) tools: Vec<String>,
    pub(super) version: String,
}

/// Everything a driver knows, but for the bytes of an unfinished line. Fields added later carry a
/// default, so that a newer driver reads an older one's state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct State {
    pub(super) pid: u32,
    pub(super) announced: Announced,
    pub(super) activity: Activity,
    /// Whether the harness has said anything that shows it is ready.
    pub(super) ready: bool,
    pub(super) exited: bool,
    pub(super) turn: Option<OpenTurn>,
    pub(super) inputs: VecDeque<KnownInput>,
    /// Inputs the harness is done with.
    pub(super) finished: VecDeque<InputId>,
    /// How many background tasks run.
    pub(super) tasks: u64,
    /// Whether a background task has reported and the turn that follows has not begun.
    pub(super) notified: bool,
    pub(super) open: Vec<OpenRequest>,
    pub(super) answered: VecDeque<String>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) early: VecDeque<Response>,
    pub(super) ledger: Ledger,
    pub(super) streams: VecDeque<Stream>,
    /// When the provider takes requests again, as far as it said.
    pub(super) limited_until: Option<Timestamp>,
    /// Plans the agent handed in, by call.
    pub(super) plans: VecDeque<(String, String)>,
    /// The plan file as it was last written.
    pub(super) plan_file: String,
    /// The start of a character that the last piece of standard error ended in.
    pub(super) stderr_tail: Vec<u8>,
    /// Whether the line that is being read is beyond its bound.
    pub(super) oversize: bool,
}

impl State {
    /// An input that is being followed.
    pub(super) fn input(&mut self, id: InputId) -> Option<&mut KnownInput> {
        self.inputs.iter_mut().find(|known| known.id == id)
    }

    /// Follows an input, or moves it to `stage` if it is followed already.
    pub(super) fn follow(&mut self, id: InputId, stage: Stage) {
        match self.input(id) {
            Some(known) => known.stage = stage,
            None => {
                let known = KnownInput {
                    id,
                    stage,
                    passed: false,
                };
                keep(&mut self.inputs, known, MAX_INPUTS);
            }
        }
    }

    /// No longer follows an input: the harness is done with it.
    pub(super) fn forget(&mut self, id: InputId) {
        self.inputs.retain(|known| known.id != id);
        keep(&mut self.finished, id, MAX_FINISHED);
    }

    /// Follows an input whose bytes are, or may be, in the pipe, unless the harness spoke of it first;
    /// says whether it is new.
    pub(super) fn follow_written(&mut self, id: InputId, stage: Stage) -> bool {
        let new = self.input(id).is_none() && !self.finished.contains(&id);
        if new {
            self.follow(id, stage);
        }
        new
    }

    /// Whether the harness has an input in its queue, or in its pipe and takes it in a moment.
    pub(super) fn has_queue(&self) -> bool {
        self.inputs.iter().any(|known| match known.stage {
            Stage::Queued => true,
            Stage::Written => !known.passed,
            Stage::Doubtful | Stage::Started => false,
        })
    }

    /// A turn has ended: what the harness has not spoken of may have been part of it.
    pub(super) fn pass_written(&mut self) {
        for known in &mut self.inputs {
            known.passed |= known.stage == Stage::Written;
        }
    }

    /// The request with this key.
    pub(super) fn open_request(&self, key: &str) -> Option<&OpenRequest> {
        self.open.iter().find(|open| open.key == key)
    }

    /// Notes that a request was answered.
    pub(super) fn answer(&mut self, key: &str) {
        let before = self.open.len();
        self.open.retain(|open| open.key != key);
        if self.open.len() < before {
            keep(&mut self.answered, key.to_owned(), MAX_ANSWERED);
        }
    }

    /// Keeps a response whose write is not on record yet.
    pub(super) fn keep_early(&mut self, response: Response) {
        keep(&mut self.early, response, MAX_EARLY);
    }

    /// Takes the response that came before the record of its write.
    pub(super) fn take_early(&mut self, id: &str) -> Option<Response> {
        let at = self.early.iter().position(|response| response.id == id)?;
        self.early.remove(at)
    }

    /// The stream of the agent or of a sub-agent, if it has begun.
    pub(super) fn stream(&mut self, parent: &str) -> Option<&mut Stream> {
        self.streams
            .iter_mut()
            .find(|stream| stream.parent == parent)
    }

    /// Begins a stream.
    pub(super) fn begin_stream(&mut self, parent: String, message_id: String) {
        self.streams.retain(|stream| stream.parent != parent);
        let stream = Stream {
            parent,
            message_id,
            block: 0,
            offset: 0,
        };
        keep(&mut self.streams, stream, MAX_STREAMS);
    }

    /// Remembers a plan until it is asked about.
    pub(super) fn keep_plan(&mut self, call_id: String, plan: String) {
        keep(&mut self.plans, (call_id, plan), MAX_PLANS);
    }

    /// The plan of a call, or the plan file.
    pub(super) fn plan_of(&self, call_id: &str) -> String {
        let plan = self.plans.iter().rev().find(|(id, _)| id == call_id);
        plan.map_or_else(|| self.plan_file.clone(), |(_, plan)| plan.clone())
    }
}

/// Adds to a bounded queue; the oldest entry makes room.
fn keep<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    while queue.len() >= max {
        queue.pop_front();
    }
    queue.push_back(item);
}
