//! Turns and the inputs they answer: `command_lifecycle` and `result` lines.
//!
//! Results are not one per input: an input that arrives while a tool runs joins the turn, one that
//! arrives while text streams gets a turn of its own, and a background task that reports begins a turn
//! that nobody asked for. So turns have ids of their own and are matched to inputs by message uuid.

use std::time::Duration;

use super::state::Stage;
use super::step::{Step, cut};
use crate::base::id::InputId;
use crate::domain::{EventBody, InputState, Usage};
use crate::driver::line::Object;

/// The most of a turn's last text that its end repeats, in bytes; the message has the whole.
const MAX_RESULT_BYTES: usize = 16 * 1024;

impl Step<'_> {
    /// A `command_lifecycle` line: what became of an input.
    pub(super) fn lifecycle(&mut self, line: &Object<'_>, text: &str) {
        let uuid = line.text_or_empty("command_uuid");
        let state = line.text_or_empty("state");
        let Some(id) = InputId::from_uuid(&uuid) else {
            return self.notice("command_lifecycle", &state, text);
        };
        let stage = self.state.input(id).map(|known| known.stage);
        match (state.as_str(), stage) {
            ("queued", Some(Stage::Started)) => {}
            ("queued", _) => self.state.follow(id, Stage::Queued),
            ("started", Some(Stage::Started)) => {}
            ("started", _) => self.started(id),
            // A turn that fails or is interrupted cancels what it had already taken.
            ("cancelled", Some(Stage::Started)) | ("completed", Some(Stage::Started)) => {
                self.state.forget(id);
            }
            ("cancelled", Some(_)) => {
                self.state.forget(id);
                self.input_changed(id, InputState::Withdrawn, "the agent let go of it");
            }
            ("completed", Some(_)) => {
                self.input_changed(id, InputState::Applied, "");
                self.state.forget(id);
            }
            ("cancelled" | "completed", None) => {}
            _ => self.notice("command_lifecycle", &state, text),
        }
    }

    /// A `result` line: the end of a turn.
    pub(super) fn result(&mut self, line: &Object<'_>, text: &str) {
        let inputs: Vec<InputId> = line
            .texts("user_message_uuids")
            .iter()
            .filter_map(|uuid| InputId::from_uuid(uuid))
            .collect();
        for id in inputs {
            match self.state.input(id).map(|known| known.stage) {
                // A harness that tells no lifecycle.
                Some(stage) if stage != Stage::Started => self.started(id),
                _ => {
                    self.turn(Some(id));
                }
            }
        }
        // A result that nothing announced, of a conversation that cannot be resumed for instance.
        self.turn(None);
        let usage = self.state.ledger.book(line);
        // Of an interrupted turn the harness reports how it stood within; that is for its makers.
        let mut errors = line.texts("errors");
        errors.retain(|error| !error.starts_with("[ede_diagnostic]"));
        let said = line.text("result").unwrap_or_else(|| errors.join("\n"));
        let status = line.number("api_error_status").unwrap_or(0);
        let is_error = line.flag("is_error");
        let reason = line
            .text("terminal_reason")
            .unwrap_or_else(|| line.text_or_empty("subtype"));
        let end = End {
            is_error,
            reason: cut(&reason, 128),
            text: cut(&said, MAX_RESULT_BYTES),
            usage,
            duration: Duration::from_millis(line.number("duration_ms").unwrap_or(0)),
            api_status: u32::try_from(status).unwrap_or(0),
        };
        let denied = line
            .objects("permission_denials")
            .is_some_and(|denials| !denials.is_empty());
        // The list of refusals is nowhere else.
        self.end_turn(end, denied.then_some(text));
        self.state.pass_written();
        if is_error {
            self.limited_result(status, &said);
        }
        self.event(EventBody::UsageUpdated {
            total: self.state.ledger.total(),
        });
    }

    /// Ends the open turn, if there is one.
    pub(super) fn end_turn(&mut self, end: End, raw: Option<&str>) {
        self.state
            .streams
            .retain(|stream| !stream.parent.is_empty());
        let Some(turn) = self.state.turn.take() else {
            return;
        };
        self.event_with(
            EventBody::TurnEnded {
                turn_id: turn.id,
                is_error: end.is_error,
                reason: end.reason,
                text: end.text,
                usage: end.usage,
                duration: end.duration,
                input_ids: turn.inputs,
                api_status: end.api_status,
            },
            raw,
        );
    }

    /// What became of inputs whose harness is gone.
    pub(super) fn drop_inputs(&mut self, crashed: bool) {
        for known in std::mem::take(&mut self.state.inputs) {
            match known.stage {
                Stage::Started | Stage::Doubtful => {}
                Stage::Written | Stage::Queued if crashed => self.input_changed(
                    known.id,
                    InputState::Indeterminate,
                    "the agent ended abruptly before it said that it took this",
                ),
                Stage::Written | Stage::Queued => self.input_changed(
                    known.id,
                    InputState::Rejected,
                    "the agent ended before it took this",
                ),
            }
        }
    }
}

/// How a turn ended.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) is_error: bool,
    pub(super) reason: String,
    pub(super) text: String,
    pub(super) usage: Usage,
    pub(super) duration: Duration,
    pub(super) api_status: u32,
}
