//! The conversation's beginning: what the agent can do, a conversation, its mode and model; and the answers to
//! requests of ours.

use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    AuthMethod, InitializeResponse, LoadSessionRequest, NewSessionRequest, ResumeSessionRequest,
    SessionConfigId, SessionConfigKind, SessionConfigOption, SessionConfigOptionCategory,
    SessionConfigOptionValue, SessionConfigSelectOptions, SessionConfigValueId, SessionId,
    SessionModeId, SessionModeState, SetSessionConfigOptionRequest, SetSessionModeRequest,
};

use super::state::{Mode, Models, Note, Phase};
use super::step::{Step, cut};
use crate::base::Code;
use crate::domain::visible::visible_line;
use crate::domain::{CommandOutcome, EventBody};
use crate::driver::line::{Object, value};
use crate::driver::rpc::{self, AUTH_REQUIRED, Failure};

/// The id of the first request.
pub(super) const INITIALIZE: &str = "drv-initialize";
/// What the ids of other requests of ours start with.
const SESSION: &str = "drv-session-";
const MODE: &str = "drv-mode-";
const MODEL: &str = "drv-model-";
/// What the ids of prompts start with.
pub(super) const PROMPT: &str = "drv-prompt-";
/// Modes in which agents ask before they act, by the names that they are known to go by; the first that an agent
/// has is taken.
const ASKING_MODES: [&str; 6] = [
    "default",
    "ask",
    "manual",
    "read-only",
    "read_only",
    "normal",
];
/// Modes in which agents plan only, which are narrower still.
const PLAN_MODES: [&str; 2] = ["plan", "architect"];
/// How often an agent that leaves the mode that asks is put back.
const MAX_CORRECTIONS: u32 = 32;
/// The most modes, models and ways to sign in that are remembered, and the longest name, in bytes.
const MAX_NAMES: usize = 200;
const MAX_NAME_BYTES: usize = 512;

impl Step<'_> {
    /// An answer to a request of ours.
    pub(super) fn response(&mut self, id: &str, result: Result<&str, Failure>, text: &str) {
        if id == INITIALIZE {
            self.initialized(result);
        } else if let Some(attempt) = id.strip_prefix(SESSION) {
            if self.state.phase == Phase::Opening && attempt == self.state.attempts.to_string() {
                self.opened(result);
            }
        } else if id.starts_with(PROMPT) {
            self.answered(id, result, text);
        } else if id.starts_with(MODE) {
            if let Err(failure) = &result {
                let mode = visible_line(&self.state.mode, 100);
                let why = format!(
                    "the agent stays in its mode {mode:?}, and may act without asking: {}",
                    failure.message
                );
                self.notice("mode", &why, text);
            }
            self.chosen(id);
        } else if id.starts_with(MODEL) {
            match result {
                Ok(result) => {
                    self.options_of(result);
                    self.chosen(id);
                }
                Err(failure) => {
                    let model = self.state.wanted_model.clone();
                    let why = format!(
                        "the agent does not take the model {model:?}: {}",
                        failure.message
                    );
                    self.fail(&why);
                }
            }
        } else {
            // A command's.
            match result {
                Ok(result) => {
                    self.options_of(result);
                    self.applied(id);
                }
                Err(failure) => {
                    let code = Code::InvalidState.as_str();
                    self.done(id, CommandOutcome::Rejected, code, &failure.message);
                }
            }
        }
    }

    fn initialized(&mut self, result: Result<&str, Failure>) {
        if self.state.phase != Phase::Starting {
            return;
        }
        let result = match result {
            Ok(result) => result,
            Err(failure) => {
                return self.fail(&format!("the agent did not begin: {}", failure.message));
            }
        };
        let answer: InitializeResponse = match value(result) {
            Ok(answer) => answer,
            Err(problem) => {
                return self.fail(&format!("the agent's first answer is odd: {problem}"));
            }
        };
        if answer.protocol_version != ProtocolVersion::V1 {
            return self.fail(&format!(
                "the agent speaks version {} of the protocol, Baton version 1",
                answer.protocol_version.as_u16()
            ));
        }
        let agent = &mut self.state.agent;
        agent.is_known = true;
        agent.can_load = answer.agent_capabilities.load_session;
        let session = &answer.agent_capabilities.session_capabilities;
        agent.can_resume = session.resume.is_some();
        if let Some(info) = answer.agent_info {
            agent.name = cut(&info.title.unwrap_or(info.name), MAX_NAME_BYTES);
            agent.version = cut(&info.version, 64);
        }
        let ways = answer.auth_methods.iter().take(MAX_NAMES).map(|method| {
            let (name, description) = match method {
                AuthMethod::Terminal(method) => (&method.name, &method.description),
                AuthMethod::Agent(method) => (&method.name, &method.description),
                _ => return String::new(),
            };
            match description {
                Some(description) => format!("{name} ({description})"),
                None => name.clone(),
            }
        });
        agent.sign_in = ways.map(|way| cut(&way, MAX_NAME_BYTES)).collect();
        self.open_conversation();
    }

    /// Asks for a conversation: a new one, or the one to go on with.
    pub(super) fn open_conversation(&mut self) {
        self.state.attempts += 1;
        let id = format!("{SESSION}{}", self.state.attempts);
        let cwd = self.state.cwd.clone();
        let old = self.state.resumes.clone();
        let data = if old.is_empty() {
            rpc::request(&id, "session/new", &NewSessionRequest::new(cwd))
        } else if self.state.agent.can_resume {
            let params = ResumeSessionRequest::new(SessionId::new(old), cwd);
            rpc::request(&id, "session/resume", &params)
        } else if self.state.agent.can_load {
            self.state.is_replaying = true;
            let params = LoadSessionRequest::new(SessionId::new(old), cwd);
            rpc::request(&id, "session/load", &params)
        } else {
            return self.fail("this agent cannot continue a conversation; start a new session");
        };
        self.state.phase = Phase::Opening;
        self.write_as(id, data, Note::Own.encode());
    }

    fn opened(&mut self, result: Result<&str, Failure>) {
        self.state.is_replaying = false;
        let result = match result {
            Ok(result) => result,
            Err(failure) => {
                let why = match failure.code {
                    AUTH_REQUIRED => self.sign_in(&failure.message),
                    _ if self.state.resumes.is_empty() => {
                        format!("the agent began no conversation: {}", failure.message)
                    }
                    _ => format!(
                        "the agent did not take the conversation up again: {}",
                        failure.message
                    ),
                };
                return self.fail(&why);
            }
        };
        let answer = Object::parse(result).unwrap_or_default();
        if self.state.resumes.is_empty() {
            let id = answer.text_or_empty("sessionId");
            if id.is_empty() || id.len() > MAX_NAME_BYTES {
                return self.fail("the agent gave its conversation no usable id");
            }
            self.state.conversation = id;
        }
        if let Some(modes) = answer.raw("modes")
            && let Ok(modes) = value::<SessionModeState>(modes)
        {
            self.state.mode = cut(&modes.current_mode_id.0, MAX_NAME_BYTES);
            let offered = modes.available_modes.iter().take(MAX_NAMES);
            self.state.modes = offered
                .map(|mode| Mode {
                    id: cut(&mode.id.0, MAX_NAME_BYTES),
                    name: cut(&mode.name, MAX_NAME_BYTES),
                })
                .collect();
        }
        self.state.models = models_of(&answer).unwrap_or_default();
        self.announce();
        self.choose();
    }

    /// Puts the agent into a mode that asks, and lets it use the model that was wanted.
    fn choose(&mut self) {
        let mut requests = Vec::new();
        if let Some(id) = self.ask_first() {
            requests.push(id);
        }
        let wanted = self.state.wanted_model.clone();
        if !wanted.is_empty() && wanted != self.state.models.current {
            let models = &self.state.models;
            if models.option.is_empty() {
                return self
                    .fail("a model was asked for, but the agent offers no choice of models");
            }
            if !models.offered.contains(&wanted) {
                let why = not_offered(models, &wanted);
                return self.fail(&format!("the model {wanted} {why}"));
            }
            let id = format!("{MODEL}{}", self.state.attempts);
            let params = SetSessionConfigOptionRequest::new(
                SessionId::new(self.state.conversation.clone()),
                SessionConfigId::new(models.option.clone()),
                SessionConfigOptionValue::value_id(SessionConfigValueId::new(wanted)),
            );
            let data = rpc::request(&id, "session/set_config_option", &params);
            self.write_as(id.clone(), data, Note::Own.encode());
            requests.push(id);
        }
        self.state.phase = Phase::Choosing { requests };
        self.chosen("");
    }

    /// Asks the agent to ask, if it is in a mode of which that is not known; gives the request's id.
    pub(super) fn ask_first(&mut self) -> Option<String> {
        let state = &*self.state;
        let is_narrow = |id: &str| ASKING_MODES.contains(&id) || PLAN_MODES.contains(&id);
        if state.modes.is_empty() || is_narrow(&state.mode) {
            return None;
        }
        let asks = ASKING_MODES
            .iter()
            .find(|asks| state.modes.iter().any(|mode| mode.id == **asks));
        let Some(asks) = asks.filter(|_| state.corrections < MAX_CORRECTIONS) else {
            let mode = visible_line(&state.mode, 100);
            let why = format!(
                "the agent is in its mode {mode:?}: it cannot be told whether it asks before it acts there"
            );
            self.event(EventBody::Notice {
                kind: "mode".to_owned(),
                text: why,
            });
            return None;
        };
        let id = format!("{MODE}{}-{}", state.attempts, state.corrections);
        let params = SetSessionModeRequest::new(
            SessionId::new(state.conversation.clone()),
            SessionModeId::new(*asks),
        );
        let data = rpc::request(&id, "session/set_mode", &params);
        self.state.corrections += 1;
        self.write_as(id.clone(), data, Note::Own.encode());
        Some(id)
    }

    /// A choice was answered; after the last one the agent takes inputs.
    fn chosen(&mut self, id: &str) {
        if let Phase::Choosing { requests } = &mut self.state.phase {
            requests.retain(|request| request != id);
            if requests.is_empty() {
                self.state.phase = Phase::Ready;
                self.next_input();
            }
        }
    }

    /// What an answer or an update says of the agent's options.
    pub(super) fn options_of(&mut self, result: &str) {
        let answer = Object::parse(result).unwrap_or_default();
        let Some(models) = models_of(&answer) else {
            return;
        };
        if models.current != self.state.models.current {
            self.event(EventBody::OptionsChanged {
                model: Some(models.current.clone()),
                permission_mode: None,
            });
        }
        self.state.models = models;
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

    /// What to do about an agent that nobody is signed in with.
    pub(super) fn sign_in(&self, said: &str) -> String {
        let ways = &self.state.agent.sign_in;
        let how = match ways.is_empty() {
            true => String::new(),
            false => format!("; it offers: {}", ways.join(", ")),
        };
        format!(
            "nobody is signed in with the agent ({said}): sign in with its own program as the daemon's user, or let \
             the daemon pass its key on, and send the input again{how}"
        )
    }
}

/// Why a model is not to be had.
pub(super) fn not_offered(models: &Models, model: &str) -> String {
    let offered = models.offered.join(", ");
    match model.is_empty() {
        true => "is missing".to_owned(),
        false => format!(
            "is none that the agent offers; it offers {}",
            cut(&offered, 2_000)
        ),
    }
}

/// The models among the agent's options.
fn models_of(answer: &Object<'_>) -> Option<Models> {
    let options = answer.array("configOptions")?;
    let options = options
        .into_iter()
        .filter_map(|option| value::<SessionConfigOption>(option).ok());
    for option in options {
        let (Some(SessionConfigOptionCategory::Model), SessionConfigKind::Select(select)) =
            (&option.category, &option.kind)
        else {
            continue;
        };
        let values: Vec<&SessionConfigValueId> = match &select.options {
            SessionConfigSelectOptions::Ungrouped(options) => {
                options.iter().map(|option| &option.value).collect()
            }
            SessionConfigSelectOptions::Grouped(groups) => groups
                .iter()
                .flat_map(|group| group.options.iter().map(|option| &option.value))
                .collect(),
            _ => Vec::new(),
        };
        return Some(Models {
            option: cut(&option.id.0, MAX_NAME_BYTES),
            offered: values
                .iter()
                .take(MAX_NAMES)
                .map(|value| cut(&value.0, MAX_NAME_BYTES))
                .collect(),
            current: cut(&select.current_value.0, MAX_NAME_BYTES),
        });
    }
    None
}
