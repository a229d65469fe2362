//! Turns: one input, one request, one end. The agent gets the next input when the turn before has ended.

use std::time::Duration;

use serde_json::{Value, json};

use super::session::{INTERRUPT, TURN};
use super::state::{Held, Note, OpenTurn, Phase};
use super::step::{Step, cut};
use crate::base::id::InputId;
use crate::domain::{EventBody, InputState, Usage};
use crate::driver::WriteOutcome;
use crate::driver::line::Object;
use crate::driver::rpc::{self, Failure};

/// The most of a turn's last text that its end repeats, in bytes; the message has the whole.
pub(super) const MAX_RESULT_BYTES: usize = 16 * 1024;
/// What to do when nobody is signed in.
const SIGN_IN: &str = "run `codex login` as the daemon's user, or let the daemon pass OPENAI_API_KEY on, and send the input again";

/// How a turn ended.
#[derive(Debug, Default)]
pub(super) struct End {
    pub(super) is_error: bool,
    pub(super) reason: String,
    /// What to say instead of the agent's last words.
    pub(super) text: Option<String>,
    pub(super) duration: Option<Duration>,
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
            // What was wrong may have been set right meanwhile.
            Phase::Failed { .. } if self.state.is_known => self.open_thread(),
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
        let request = format!("{TURN}{}", held.id);
        let mut params = json!({
            "threadId": self.state.thread,
            "input": [{"type": "text", "text": held.text}],
            "clientUserMessageId": held.id.to_uuid(),
        });
        if !self.state.wanted_model.is_empty() {
            params["model"] = Value::from(std::mem::take(&mut self.state.wanted_model));
        }
        let id = self.next_turn_id();
        self.state.turn = Some(OpenTurn {
            id,
            input_id: held.id,
            request: request.clone(),
            theirs: String::new(),
            started: self.record.time,
            is_told: false,
            doubtful: false,
            interrupt: false,
            last_said: String::new(),
            usage: Usage::default(),
        });
        let data = rpc::request(&request, "turn/start", &params);
        let note = Note::Turn { input_id: held.id };
        self.write_as(request, data, note.encode());
    }

    /// What became of giving the agent an input.
    pub(super) fn begun(&mut self, id: InputId, outcome: WriteOutcome, reason: &str) {
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

    /// The answer to the request that begins a turn: the agent's id of it.
    pub(super) fn turn_answered(&mut self, id: &str, result: Result<&str, Failure>, text: &str) {
        if self
            .state
            .turn
            .as_ref()
            .is_none_or(|turn| turn.request != id)
        {
            return self.notice("turn/start", "an answer that nobody waits for", text);
        }
        self.tell_turn();
        match result {
            Ok(result) => {
                let answer = Object::parse(result).unwrap_or_default();
                let turn = answer.object("turn").unwrap_or_default();
                self.named(&turn.text_or_empty("id"));
            }
            Err(failure) => {
                self.end_turn(End {
                    is_error: true,
                    reason: "agent_error".to_owned(),
                    text: Some(failure.message),
                    ..End::default()
                });
                self.next_input();
            }
        }
    }

    /// The agent's id of the running turn.
    pub(super) fn named(&mut self, id: &str) {
        let Some(turn) = self
            .state
            .turn
            .as_mut()
            .filter(|turn| turn.theirs.is_empty())
        else {
            return;
        };
        turn.theirs = cut(id, 256);
        if turn.interrupt {
            self.interrupt();
        }
    }

    /// Interrupts the running turn, as soon as it has a name.
    pub(super) fn interrupt(&mut self) {
        let Some(turn) = &mut self.state.turn else {
            return;
        };
        turn.interrupt = true;
        if turn.doubtful && !turn.is_told {
            // It may never have arrived; then no end of it will come.
            self.end_turn(End::default());
            return self.next_input();
        }
        if turn.theirs.is_empty() {
            return;
        }
        let id = format!("{INTERRUPT}{}", turn.id);
        let params = json!({"threadId": self.state.thread, "turnId": turn.theirs});
        let data = rpc::request(&id, "turn/interrupt", &params);
        self.write_as(id, data, Note::Own.encode());
    }

    /// A `turn/completed` notification.
    pub(super) fn turn_completed(&mut self, params: &Object<'_>, text: &str) {
        let theirs = params.object("turn").unwrap_or_default();
        let id = theirs.text_or_empty("id");
        let is_ours = self
            .state
            .turn
            .as_ref()
            .is_some_and(|turn| turn.theirs == id);
        if !is_ours {
            return self.notice("turn/completed", "a turn that nobody asked for", text);
        }
        self.tell_turn();
        let status = theirs.text_or_empty("status");
        let error = theirs.object("error");
        let info = error.as_ref().and_then(|error| error.raw("codexErrorInfo"));
        let info = info.and_then(|info| serde_json::from_str::<Value>(info).ok());
        let info = info.unwrap_or_default();
        let said = error.as_ref().map(|error| error.text_or_empty("message"));
        let is_signed_out = info == "unauthorized";
        let is_limited = info == "usageLimitExceeded" || info == "rateLimitExceeded";
        let message = said.clone().unwrap_or_default();
        let api_status = info
            .as_object()
            .and_then(|info| info.values().find_map(|it| it["httpStatusCode"].as_u64()))
            .and_then(|status| u32::try_from(status).ok())
            .unwrap_or(0);
        self.end_turn(End {
            is_error: status != "completed",
            reason: cut(&status, 128),
            text: match is_signed_out {
                true => Some(format!(
                    "nobody is signed in with Codex ({message}): {SIGN_IN}"
                )),
                false => said,
            },
            duration: theirs.number("durationMs").map(Duration::from_millis),
            api_status,
            crashed: false,
        });
        if is_limited {
            self.event(EventBody::RateLimited {
                until: None,
                message: cut(&message, 2_000),
            });
        }
        self.next_input();
    }

    /// Ends the open turn, if there is one.
    pub(super) fn end_turn(&mut self, end: End) {
        self.state.items.clear();
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
        let took = self.record.time.saturating_since(turn.started);
        self.event(EventBody::TurnEnded {
            turn_id: turn.id,
            is_error: end.is_error,
            reason: end.reason,
            text: cut(&end.text.unwrap_or(turn.last_said), MAX_RESULT_BYTES),
            usage: turn.usage,
            duration: end.duration.unwrap_or(took),
            input_ids: vec![turn.input_id],
            api_status: end.api_status,
        });
    }

    /// Refuses every input that waits.
    pub(super) fn reject_held(&mut self, why: &str) {
        for held in std::mem::take(&mut self.state.held) {
            self.input_changed(held.id, InputState::Rejected, why);
        }
    }

    /// A `thread/tokenUsage/updated` notification.
    pub(super) fn consumed(&mut self, params: &Object<'_>) {
        let usage = params.object("tokenUsage").unwrap_or_default();
        let now = tokens(&usage.object("total").unwrap_or_default());
        let last = tokens(&usage.object("last").unwrap_or_default());
        // Totals of a thread that is gone on with began in another session.
        let added = match self.state.reported {
            Some(before) => now.since(before).unwrap_or(last),
            None if self.state.resumes.is_empty() => now,
            None => last,
        };
        self.state.reported = Some(now);
        if let Some(turn) = &mut self.state.turn {
            turn.usage = turn.usage.plus(added);
        }
        self.state.total = self.state.total.plus(added);
        let total = self.state.total;
        self.event(EventBody::UsageUpdated { total });
    }
}

/// Tokens as Codex counts them: what was cached is among the input.
fn tokens(usage: &Object<'_>) -> Usage {
    let number = |name: &str| usage.number(name).unwrap_or(0);
    let (read, write) = (number("cachedInputTokens"), number("cacheWriteInputTokens"));
    let input = number("inputTokens");
    Usage {
        input_tokens: input.saturating_sub(read).saturating_sub(write),
        output_tokens: number("outputTokens"),
        cache_read_tokens: read,
        cache_write_tokens: write,
        cost_micro_usd: 0,
    }
}
