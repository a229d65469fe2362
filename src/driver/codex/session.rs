//! The conversation's beginning: a greeting and a thread; and the answers to requests of ours.

use serde_json::{Value, json};

use super::state::{Note, Phase};
use super::step::{Step, cut};
use crate::domain::EventBody;
use crate::domain::visible::visible_line;
use crate::driver::line::Object;
use crate::driver::rpc::{self, Failure};

/// The id of the first request.
pub(super) const INITIALIZE: &str = "drv-initialize";
/// What the ids of other requests of ours start with.
const SESSION: &str = "drv-session-";
pub(super) const TURN: &str = "drv-turn-";
pub(super) const INTERRUPT: &str = "drv-interrupt-";
/// The longest id and name that is kept, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// The parameters of the first request.
pub(super) fn greeting() -> Value {
    let version = env!("CARGO_PKG_VERSION");
    json!({"clientInfo": {"name": "baton", "title": "Baton", "version": version}})
}

impl Step<'_> {
    /// An answer to a request of ours.
    pub(super) fn response(&mut self, id: &str, result: Result<&str, Failure>, text: &str) {
        if id == INITIALIZE {
            self.initialized(result);
        } else if let Some(attempt) = id.strip_prefix(SESSION) {
            if self.state.phase == Phase::Opening && attempt == self.state.attempts.to_string() {
                self.opened(result);
            }
        } else if id.starts_with(TURN) {
            self.turn_answered(id, result, text);
        } else if let Err(failure) = result {
            // An interruption that came too late, for instance.
            self.notice("response", &failure.message, text);
        }
    }

    fn initialized(&mut self, result: Result<&str, Failure>) {
        if self.state.phase != Phase::Starting {
            return;
        }
        match result {
            Ok(result) => {
                let answer = Object::parse(result).unwrap_or_default();
                // `baton/0.169.0 (…)`: the client's name with the server's version.
                let agent = answer.text_or_empty("userAgent");
                let version = agent.split_whitespace().next().unwrap_or_default();
                let version = version.split_once('/').map_or("", |(_, version)| version);
                self.state.version = cut(version, 64);
                self.state.is_known = true;
                self.write(rpc::notification("initialized", &json!({})));
                self.open_thread();
            }
            Err(failure) => self.fail(&format!("Codex did not begin: {}", failure.message)),
        }
    }

    /// Asks for a thread: a new one, or the one to go on with.
    pub(super) fn open_thread(&mut self) {
        self.state.attempts += 1;
        self.state.phase = Phase::Opening;
        let id = format!("{SESSION}{}", self.state.attempts);
        let mut params = json!({
            "cwd": self.state.cwd,
            "approvalPolicy": "on-request",
            "approvalsReviewer": "user",
            "sandbox": "read-only",
        });
        if !self.state.wanted_model.is_empty() {
            params["model"] = Value::from(self.state.wanted_model.clone());
        }
        let method = match self.state.resumes.as_str() {
            "" => "thread/start",
            thread => {
                params["threadId"] = Value::from(thread);
                // The session before this one has them in its log.
                params["excludeTurns"] = Value::from(true);
                "thread/resume"
            }
        };
        let data = rpc::request(&id, method, &params);
        self.write_as(id, data, Note::Own.encode());
    }

    fn opened(&mut self, result: Result<&str, Failure>) {
        let result = match result {
            Ok(result) => result,
            Err(failure) if self.state.resumes.is_empty() => {
                return self.fail(&format!("Codex began no thread: {}", failure.message));
            }
            Err(failure) => {
                return self.fail(&format!(
                    "Codex did not take the thread up again: {}",
                    failure.message
                ));
            }
        };
        let answer = Object::parse(result).unwrap_or_default();
        let thread = answer.object("thread").unwrap_or_default();
        let id = thread.text_or_empty("id");
        if id.is_empty() || id.len() > MAX_NAME_BYTES {
            return self.fail("Codex gave its thread no usable id");
        }
        self.state.thread = id;
        let model = answer
            .text("model")
            .or_else(|| thread.text("model"))
            .unwrap_or_default();
        self.state.model = cut(&model, MAX_NAME_BYTES);
        self.announce();
        self.state.phase = Phase::Ready;
        self.next_input();
    }

    /// The agent cannot be talked to. Inputs are refused with the reason; the next one tries again.
    pub(super) fn fail(&mut self, why: &str) {
        let why = cut(&visible_line(why, 4_000), 8_000);
        self.event(EventBody::Notice {
            kind: "agent_failed".to_owned(),
            text: why.clone(),
        });
        self.reject_held(&why);
        self.state.phase = Phase::Failed { why };
    }
}
