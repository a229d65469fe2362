//! Turns: one input, one request, one answer. The agent gets the next input when it has answered the one before.

use std::time::Duration;

use agent_client_protocol_schema::v1::{
    ContentBlock, PromptRequest, SessionId, TextContent, Usage,
};

use super::session::PROMPT;
use super::state::{Held, Note, OpenTurn, Phase};
use super::step::{Step, cut};
use crate::base::id::InputId;
use crate::domain::{self, EventBody, InputState};
use crate::driver::WriteOutcome;
use crate::driver::line::{Object, value};
use crate::driver::rpc::{self, AUTH_REQUIRED, Failure};

/// The most of a turn's last text that its end repeats, in bytes; the message has the whole.
pub(super) const MAX_RESULT_BYTES: usize = 16 * 1024;

/// How a turn ended.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) is_error: bool,
    pub(super) reason: String,
    /// What to say instead of the agent's last words.
    pub(super) text: Option<String>,
    pub(super) usage: domain::Usage,
    pub(super) api_status: u32,
    /// Whether the agent ended abruptly.
    pub(super) crashed: bool,
}

impl Step<'_> {
    /// An input has come.
    pub(super) fn hold(&mut self, id: InputId, text: String) {
        if self.state.exited {
            return self.input_changed(id, InputState::Rejected, "the agent has ended");
        }
        self.state.held.push_back(Held { id, text });
        match &self.state.phase {
            // Somebody may have signed in meanwhile.
            Phase::Failed { .. } if self.state.agent.is_known => self.open_conversation(),
            Phase::Failed { why } => {
                let why = why.clone();
                self.reject_held(&why);
            }
            _ => self.next_input(),
        }
    }

    /// Gives the agent the next input if it is ready and idle.
    pub(super) fn next_input(&mut self) {
        if self.state.phase != Phase::Ready || self.state.turn.is_some() || self.state.exited {
            return;
        }
        let Some(held) = self.state.held.pop_front() else {
            return;
        };
        self.flush();
        let request = format!("{PROMPT}{}", held.id);
        let params = PromptRequest::new(
            SessionId::new(self.state.conversation.clone()),
            vec![ContentBlock::Text(TextContent::new(held.text))],
        );
        let data = rpc::request(&request, "session/prompt", &params);
        let note = Note::Prompt { input_id: held.id };
        let id = self.next_turn_id();
        self.state.turn = Some(OpenTurn {
            id,
            input_id: held.id,
            request: request.clone(),
            started: self.record.time,
            is_told: false,
            doubtful: false,
            cancelled: false,
            last_said: String::new(),
        });
        self.write_as(request, data, note.encode());
    }

    /// What became of giving the agent an input.
    pub(super) fn prompted(&mut self, id: InputId, outcome: WriteOutcome, reason: &str) {
        let Some(turn) = self.state.turn.as_mut().filter(|turn| turn.input_id == id) else {
            return;
        };
        match outcome {
            WriteOutcome::Done => self.tell_turn(),
            WriteOutcome::Failed if !turn.is_told => {
                self.state.turn = None;
                self.input_changed(id, InputState::Rejected, reason);
                self.next_input();
            }
            WriteOutcome::Unknown if !turn.is_told => {
                turn.doubtful = true;
                let why = "nobody can tell whether the agent got this";
                self.input_changed(id, InputState::Indeterminate, why);
            }
            _ => {}
        }
    }

    /// The agent has the input: it is applied, and the turn has begun.
    pub(super) fn tell_turn(&mut self) {
        let Some(turn) = self.state.turn.as_mut().filter(|turn| !turn.is_told) else {
            return;
        };
        turn.is_told = true;
        let (turn_id, input_id) = (turn.id, turn.input_id);
        self.input_changed(input_id, InputState::Applied, "");
        self.event(EventBody::TurnStarted {
            turn_id,
            input_ids: vec![input_id],
        });
    }

    /// The answer to a prompt: the end of its turn.
    pub(super) fn answered(&mut self, id: &str, result: Result<&str, Failure>, text: &str) {
        if self
            .state
            .turn
            .as_ref()
            .is_none_or(|turn| turn.request != id)
        {
            return self.notice("session/prompt", "an answer that nobody waits for", text);
        }
        self.tell_turn();
        let end = match result {
            Ok(result) => {
                let answer = Object::parse(result).unwrap_or_default();
                let reason = answer.text_or_empty("stopReason");
                End {
                    is_error: reason != "end_turn",
                    reason: cut(&reason, 128),
                    usage: usage_of(&answer),
                    ..End::default()
                }
            }
            Err(failure) if failure.code == AUTH_REQUIRED => End {
                is_error: true,
                reason: "auth_required".to_owned(),
                text: Some(self.sign_in(&failure.message)),
                ..End::default()
            },
            Err(failure) => End {
                is_error: true,
                reason: "agent_error".to_owned(),
                // Some agents hand the status of their model's API on.
                api_status: u32::try_from(failure.code)
                    .ok()
                    .filter(|code| (400..600).contains(code))
                    .unwrap_or(0),
                text: Some(failure.message),
                ..End::default()
            },
        };
        self.end_turn(end);
        self.next_input();
    }

    /// The turn was cancelled by us, and these requests with it. Those that came meanwhile are answered too.
    pub(super) fn cancelled(&mut self, keys: &[String]) {
        if let Some(turn) = &mut self.state.turn {
            turn.cancelled = true;
        }
        for open in std::mem::take(&mut self.state.open) {
            if !keys.contains(&open.key) && !open.doubtful {
                self.write(super::answer::cancelled(&open.key));
            }
            self.withdrawn(&open, "the turn was cancelled");
        }
        // Of an input that may never have arrived no answer may ever come.
        let doubtful = self
            .state
            .turn
            .as_ref()
            .is_some_and(|turn| turn.doubtful && !turn.is_told);
        if doubtful {
            self.end_turn(End::default());
            self.next_input();
        }
    }

    /// Ends the open turn, if there is one.
    pub(super) fn end_turn(&mut self, end: End) {
        self.tell_calls();
        self.flush();
        let Some(turn) = self.state.turn.take() else {
            return;
        };
        if !turn.is_told {
            if !turn.doubtful {
                let (state, why) = match end.crashed {
                    true => (
                        InputState::Indeterminate,
                        "nobody can tell whether the agent got this",
                    ),
                    false => (InputState::Rejected, "the agent ended before it took this"),
                };
                self.input_changed(turn.input_id, state, why);
            }
            return;
        }
        self.withdraw_all("the turn has ended");
        let total = self.state.total.plus(end.usage);
        let has_usage = end.usage != domain::Usage::default();
        self.state.total = total;
        let since = self.record.time.saturating_since(turn.started);
        self.event(EventBody::TurnEnded {
            turn_id: turn.id,
            is_error: end.is_error,
            reason: end.reason,
            text: cut(&end.text.unwrap_or(turn.last_said), MAX_RESULT_BYTES),
            usage: end.usage,
            duration: Duration::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX)),
            input_ids: vec![turn.input_id],
            api_status: end.api_status,
        });
        if has_usage {
            self.event(EventBody::UsageUpdated { total });
        }
    }

    /// Refuses every input that waits.
    pub(super) fn reject_held(&mut self, why: &str) {
        for held in std::mem::take(&mut self.state.held) {
            self.input_changed(held.id, InputState::Rejected, why);
        }
    }
}

/// What a turn consumed, as far as the agent says it.
fn usage_of(answer: &Object<'_>) -> domain::Usage {
    let usage = answer
        .raw("usage")
        .and_then(|usage| value::<Usage>(usage).ok());
    usage.map_or_else(domain::Usage::default, |usage| domain::Usage {
        input_tokens: usage.input_tokens,
        output_tokens: usage.output_tokens,
        cache_read_tokens: usage.cached_read_tokens.unwrap_or(0),
        cache_write_tokens: usage.cached_write_tokens.unwrap_or(0),
        cost_micro_usd: 0,
    })
}
