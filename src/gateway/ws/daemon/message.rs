//! What daemons of the older relay say, one JSON object a message.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::base::id::SessionId;
use crate::base::{Code, Error, Result};
use crate::domain::daemon::Offer;
use crate::domain::{Capabilities, Harness, PermissionMode, field};

/// The most harnesses that a daemon may name.
const MAX_HARNESSES: usize = 64;
/// The longest id of a request or a tool's call, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// A message of a daemon.
#[derive(Debug)]
pub(super) enum Said {
    /// It introduces itself, or can run something else than before.
    Connected(Box<Connected>),
    /// A sign of life.
    Ping,
    /// Something of a session.
    Of(SessionId, SaidOf),
}

/// What a daemon says of a session.
#[derive(Debug)]
pub(super) enum SaidOf {
    /// Lines of its agent.
    Output(Vec<Box<RawValue>>),
    /// Its agent's process is gone.
    Ended(Ended),
    /// Its agent asks, in the agent's own form.
    Control {
        request_id: String,
        request: Box<RawValue>,
    },
    /// Its agent asks one question, in the form that came before control requests.
    Question(Question),
    /// Its agent asks for a permission, in the form that came before control requests.
    Permission(Permission),
    /// What its agent has changed, as the daemon's git says.
    Diff(Diff),
    /// More about it.
    Metadata(Metadata),
}

/// How a daemon introduces itself.
#[derive(Debug)]
pub(super) struct Connected {
    /// What it can run.
    pub offer: Offer,
    /// The sessions whose agents it still runs, if it says so.
    pub active: Option<Vec<SessionId>>,
}

/// How an agent's process ended.
#[derive(Debug, Deserialize)]
pub(super) struct Ended {
    #[serde(default)]
    pub exit_code: Option<i32>,
    #[serde(default)]
    pub error: Option<String>,
    #[serde(default)]
    pub reason: Option<String>,
}

/// One question with options.
#[derive(Debug, Deserialize)]
pub(super) struct Question {
    pub tool_use_id: String,
    pub question: String,
    #[serde(default)]
    pub options: Vec<String>,
}

/// A request for a permission.
#[derive(Debug, Deserialize)]
pub(super) struct Permission {
    pub request_id: String,
    pub tool: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub details: Option<BTreeMap<String, Box<RawValue>>>,
}

/// What was changed.
#[derive(Debug, Deserialize)]
pub(super) struct Diff {
    pub diff: String,
    #[serde(default)]
    pub modified_files: Vec<String>,
}

/// More about an agent.
#[derive(Debug, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub agent_session_id: Option<String>,
    #[serde(default)]
    pub repo_url: Option<String>,
    #[serde(default)]
    pub branch: Option<String>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    session_id: Option<String>,
}

#[derive(Deserialize)]
struct Hello {
    client_id: String,
    capabilities: Offered,
    #[serde(default)]
    active_sessions: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Offered {
    can_spawn_sessions: bool,
    #[serde(default)]
    spawnable_harnesses: Vec<OfferedHarness>,
}

#[derive(Deserialize)]
struct OfferedHarness {
    id: String,
    available: bool,
    #[serde(default)]
    supports_permission_relay: bool,
    #[serde(default)]
    default_model: Option<String>,
}

#[derive(Deserialize)]
struct Output {
    messages: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Control {
    request_id: String,
    request: Box<RawValue>,
}

/// Reads a message. An error names what is wrong with it; nothing was done.
pub(super) fn read(text: &str) -> Result<Said> {
    let Kind { kind, session_id } = parse(text)?;
    let said = match kind.as_str() {
        "daemon_connected" => return Ok(Said::Connected(Box::new(connected(parse(text)?)?))),
        "ping" => return Ok(Said::Ping),
        "session_output" => SaidOf::Output(parse::<Output>(text)?.messages),
        "session_ended" => SaidOf::Ended(parse(text)?),
        "control_request" => {
            let Control {
                request_id,
                request,
            } = parse(text)?;
            name("request_id", &request_id)?;
            SaidOf::Control {
                request_id,
                request,
            }
        }
        "question_prompt" => {
            let asked: Question = parse(text)?;
            name("tool_use_id", &asked.tool_use_id)?;
            SaidOf::Question(asked)
        }
        "permission_prompt" => {
            let asked: Permission = parse(text)?;
            name("request_id", &asked.request_id)?;
            name("tool", &asked.tool)?;
            SaidOf::Permission(asked)
        }
        "session_diff" => SaidOf::Diff(parse(text)?),
        "session_metadata" => SaidOf::Metadata(parse(text)?),
        other => {
            return Err(Error::new(
                Code::UnknownMethod,
                format!("there is no message of the type {other:?}"),
            ));
        }
    };
    let session = session_id
        .as_deref()
        .ok_or_else(|| Error::invalid("session_id", "is missing"))?;
    // What is no id of ours names no session.
    let session = SessionId::parse("session_id", session).map_err(|_| no_session())?;
    Ok(Said::Of(session, said))
}

/// The error for a session that is not the daemon's, or that there is not.
pub(super) fn no_session() -> Error {
    Error::new(Code::NoSession, "this daemon has no such session")
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|problem| Error::invalid("message", format!("is not what this takes: {problem}")))
}

fn name(field: &str, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(Error::invalid(field, "must not be empty"));
    }
    field::text(field, text, MAX_NAME_BYTES)
}

fn connected(hello: Hello) -> Result<Connected> {
    field::title("client_id", &hello.client_id)?;
    let offered = hello.capabilities;
    if offered.spawnable_harnesses.len() > MAX_HARNESSES {
        return Err(Error::invalid(
            "capabilities.spawnable_harnesses",
            format!("has more than {MAX_HARNESSES} entries"),
        ));
    }
    let mut harnesses = Vec::with_capacity(offered.spawnable_harnesses.len());
    for harness in offered.spawnable_harnesses {
        name("capabilities.spawnable_harnesses.id", &harness.id)?;
        field::word("capabilities.spawnable_harnesses.id", &harness.id)?;
        let models: Vec<String> = harness.default_model.into_iter().collect();
        for model in &models {
            field::word("capabilities.spawnable_harnesses.default_model", model)?;
        }
        let available = harness.available && offered.can_spawn_sessions;
        let unavailable_reason = match (harness.available, offered.can_spawn_sessions) {
            (true, true) => "",
            (true, false) => "the daemon starts no sessions",
            (false, _) => "the daemon says that it is not available",
        };
        let asks = harness.supports_permission_relay;
        harnesses.push(Harness {
            name: harness.id,
            available,
            unavailable_reason: unavailable_reason.to_owned(),
            capabilities: Capabilities {
                queue: true,
                permission: asks,
                question: asks,
                plan: asks,
                mode_switch: asks,
                resume: true,
                usage: true,
                quota: true,
                instructions: false,
                interrupt: true,
                terminal: false,
                ..Capabilities::default()
            },
            models,
            ..Harness::default()
        });
    }
    let active = hello.active_sessions.map(|ids| {
        // What is no id of ours is no session of ours.
        let ids = ids.iter().map(|id| SessionId::parse("session_id", id));
        ids.filter_map(Result::ok).collect()
    });
    Ok(Connected {
        offer: Offer {
            hostname: hello.client_id,
            harnesses,
            // It names no directories; which ones it takes is its own to decide when it starts a session.
            roots: vec!["/".to_owned()],
            max_permission_mode: PermissionMode::Auto,
            ..Offer::default()
        },
        active,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_says_what_is_wrong() {
        let id = SessionId::from_bits(7);
        for (text, code) in [
            ("".to_owned(), Code::InvalidInput),
            ("[]".to_owned(), Code::InvalidInput),
            (r#"{"type":1}"#.to_owned(), Code::InvalidInput),
            (r#"{"type":"sing"}"#.to_owned(), Code::UnknownMethod),
            (r#"{"type":"session_output","messages":[]}"#.to_owned(), Code::InvalidInput),
            (r#"{"type":"session_ended","session_id":"spawn_1"}"#.to_owned(), Code::NoSession),
            (format!(r#"{{"type":"session_output","session_id":"{id}","messages":{{}}}}"#), Code::InvalidInput),
            (format!(r#"{{"type":"control_request","session_id":"{id}","request_id":"","request":{{}}}}"#), Code::InvalidInput),
            (r#"{"type":"daemon_connected","client_id":"a\nb","capabilities":{"can_spawn_sessions":true}}"#.to_owned(), Code::InvalidInput),
            (r#"{"type":"daemon_connected","client_id":"a","capabilities":{"can_spawn_sessions":true,"spawnable_harnesses":[{"id":"--x","available":true}]}}"#.to_owned(), Code::InvalidInput),
        ] {
            assert_eq!(read(&text).unwrap_err().code(), code, "{text}");
        }
    }

    #[test]
    fn a_daemon_that_starts_nothing_offers_nothing() {
        let text = r#"{"type":"daemon_connected","client_id":"mac","capabilities":{"can_spawn_sessions":false,
            "spawnable_harnesses":[{"id":"claude-code","name":"Claude Code","available":true,
            "supports_permission_relay":true,"supports_streaming":true}]},"active_sessions":["old"]}"#;
        let Said::Connected(connected) = read(text).unwrap() else {
            panic!("not an introduction");
        };
        let harness = &connected.offer.harnesses[0];
        assert!(!harness.available && !harness.unavailable_reason.is_empty());
        assert!(harness.capabilities.permission && !harness.capabilities.fork);
        assert_eq!(connected.active, Some(Vec::new()));
    }
}
