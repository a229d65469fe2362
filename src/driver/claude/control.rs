//! Requests of ours to the harness, and its responses.

use bytes::Bytes;
use serde_json::{Value, json};

use super::state::{Note, Response, Stage, Waiting};
use super::step::{Step, cut};
use crate::base::Code;
use crate::base::id::InputId;
use crate::domain::{CommandOutcome, EventBody, InputState};
use crate::driver::WriteOutcome;
use crate::driver::line::Object;

/// What the id of every `initialize` request starts with.
pub(super) const INITIALIZE: &str = "drv-init-";
/// The most commands that may wait for the harness; the oldest is given up as indeterminate.
const MAX_WAITING: usize = 256;

/// An input as a line. Its uuid is the input's id, so the harness takes it once and names it later.
pub(super) fn input(input_id: InputId, text: &str) -> Bytes {
    line(&json!({
        "type": "user",
        "message": {"role": "user", "content": text},
        "uuid": input_id.to_uuid(),
    }))
}

/// A request with this id.
pub(super) fn request(id: &str, request: Value) -> Bytes {
    line(&json!({"type": "control_request", "request_id": id, "request": request}))
}

/// A line that the harness reads and passes over.
pub(super) fn keep_alive() -> Bytes {
    line(&json!({"type": "keep_alive"}))
}

fn line(value: &Value) -> Bytes {
    let mut text = value.to_string();
    text.push('\n');
    Bytes::from(text)
}

impl Step<'_> {
    /// A `control_response` line: the answer to a request of ours, or the echo of our answer to one of
    /// the harness's.
    pub(super) fn control_response(&mut self, line: &Object<'_>, text: &str) {
        let Some(response) = line.object("response") else {
            return self.notice("control_response", "a response without content", text);
        };
        let id = response.text_or_empty("request_id");
        let failed = response.text("subtype").as_deref() != Some("success");
        if id.starts_with(INITIALIZE) {
            return self.initialized(&response, failed, text);
        }
        if self.state.open_request(&id).is_some() {
            // The harness has read the answer.
            return self.state.answer(&id);
        }
        let body = response.object("response").unwrap_or_default();
        let response = Response {
            error: failed.then(|| {
                let why = response.text_or_empty("error");
                cut(&why, 2_000)
            }),
            cancelled: body.raw("cancelled").map(|cancelled| cancelled == "true"),
            id,
        };
        let waiting = &mut self.state.waiting;
        match waiting.iter().position(|waiting| waiting.id == response.id) {
            Some(at) => {
                let waiting = waiting.remove(at);
                self.answered(waiting, response);
            }
            None if response.id.starts_with("cmd_") => self.state.keep_early(response),
            None => {}
        }
    }

    fn initialized(&mut self, response: &Object<'_>, failed: bool, text: &str) {
        if failed {
            let why = response.text_or_empty("error");
            return self.notice("initialize", &why, text);
        }
        self.state.ready = true;
        let inner = response.object("response").unwrap_or_default();
        let pending = response
            .objects("pending_permission_requests")
            .or_else(|| inner.objects("pending_permission_requests"));
        // A harness that does not tell is not taken to have forgotten.
        if let Some(pending) = pending {
            self.resync(pending);
        }
    }

    /// A command was answered.
    fn answered(&mut self, waiting: Waiting, response: Response) {
        if let Some(why) = response.error {
            return self.rejected(&waiting.id, &why);
        }
        match waiting.note {
            Note::Cancel { .. } if response.cancelled != Some(true) => {
                return self.rejected(&waiting.id, "the agent has already taken this input");
            }
            Note::Options {
                model,
                permission_mode,
            } => self.event(EventBody::OptionsChanged {
                model,
                permission_mode,
            }),
            Note::Interrupt => self.state.notified = false,
            _ => {}
        }
        self.applied(&waiting.id);
    }

    /// A `Written` record.
    pub(super) fn written(&mut self, id: &str, note: &[u8], outcome: WriteOutcome, reason: &str) {
        let Some(note) = Note::decode(note) else {
            return;
        };
        match (note, outcome) {
            (Note::Input { input_id }, WriteOutcome::Done) => {
                self.state.follow_written(input_id, Stage::Written);
            }
            (Note::Input { input_id }, WriteOutcome::Unknown) => {
                let new = self.state.follow_written(input_id, Stage::Doubtful);
                if new {
                    let why = "nobody can tell whether the agent got this";
                    self.input_changed(input_id, InputState::Indeterminate, why);
                }
            }
            (Note::Answer { request_key, .. }, WriteOutcome::Done) => {
                self.state.answer(&request_key);
            }
            (Note::Answer { request_key, .. }, WriteOutcome::Unknown) => {
                let open = self.state.open.iter_mut();
                for open in open.filter(|open| open.key == request_key) {
                    open.doubtful = true;
                }
            }
            (
                note @ (Note::Interrupt
                | Note::Cancel { .. }
                | Note::Options { model: Some(_), .. }),
                outcome,
            ) => self.wait(id, note, outcome, reason),
            (
                Note::Options {
                    model: None,
                    permission_mode,
                },
                WriteOutcome::Done,
            ) => self.event(EventBody::OptionsChanged {
                model: None,
                permission_mode,
            }),
            _ => {}
        }
    }

    fn wait(&mut self, id: &str, note: Note, outcome: WriteOutcome, reason: &str) {
        let early = self.state.take_early(id);
        let waiting = Waiting {
            id: id.to_owned(),
            note,
        };
        match (early, outcome) {
            (Some(response), _) => self.answered(waiting, response),
            (None, WriteOutcome::Done) => {
                if self.state.waiting.len() >= MAX_WAITING {
                    let oldest = self.state.waiting.remove(0);
                    self.gave_up(&oldest.id, "the agent did not answer");
                }
                self.state.waiting.push(waiting);
            }
            (None, WriteOutcome::Failed) => self.rejected(id, reason),
            (None, WriteOutcome::Unknown) => {
                self.gave_up(id, "nobody can tell whether the agent got this");
            }
        }
    }

    /// What became of commands whose harness is gone.
    pub(super) fn drop_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.state.waiting) {
            self.gave_up(&waiting.id, "the agent ended before it answered");
        }
    }

    fn gave_up(&mut self, id: &str, why: &str) {
        let code = Code::HarnessUnavailable.as_str();
        self.done(id, CommandOutcome::Indeterminate, code, why);
    }
}
