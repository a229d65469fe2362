//! What every handler here takes and gives: who asks, what the path names, and an answer in this dialect's shape.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Orchestrator;
use crate::app::App;
use crate::app::access::Caller;
use crate::app::agents::ShownAgent;
use crate::app::pace::Pace;
use crate::app::tasks::ShownTask;
use crate::base::id::{AgentId, SessionId, TaskId};
use crate::base::{Code, Error, Result};
use crate::domain::Session;
use crate::gateway::fail::{self, Dialect};
use crate::gateway::sse::Lines;

/// Who asks, and what there is to answer with.
pub(super) struct Call {
    pub(super) app: App,
    pub(super) pace: Arc<Pace>,
    pub(super) lines: Arc<Lines>,
    pub(super) caller: Caller,
}

impl FromRequestParts<Orchestrator> for Call {
    type Rejection = Refused;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Orchestrator,
    ) -> std::result::Result<Self, Refused> {
        // The layers let nobody come here without.
        let caller = parts.extensions.get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Error::internal("a request without its caller"))?;
        Ok(Call {
            app: state.app.clone(),
            pace: state.pace.clone(),
            lines: state.lines.clone(),
            caller,
        })
    }
}

/// What the path names, its escapes read. What is no text is refused.
pub(super) struct Named<T = String>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Refused;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &S,
    ) -> std::result::Result<Self, Refused> {
        match Path::from_request_parts(parts, state).await {
            Ok(Path(name)) => Ok(Named(name)),
            Err(PathRejection::FailedToDeserializePathParams(_)) => {
                Err(Error::new(Code::InvalidInput, "the path is not a text").into())
            }
            Err(other) => Err(Error::internal(other).into()),
        }
    }
}

/// A task's id; one that cannot be an id names no task.
pub(super) fn task_id(text: &str) -> Result<TaskId> {
    TaskId::parse("id", text).map_err(|_| missing("Task"))
}

/// A session's id; one that cannot be an id names no session.
pub(super) fn session_id(text: &str) -> Result<SessionId> {
    SessionId::parse("id", text).map_err(|_| missing("Session"))
}

fn missing(noun: &str) -> Error {
    Error::new(Code::NotFound, format!("{noun} not found"))
}

/// What was looked for; that it is not there, in the words of this dialect.
pub(super) fn sought<T>(noun: &str, found: Result<T>) -> Result<T> {
    match found {
        Err(error) if error.code() == Code::NotFound => Err(missing(noun)),
        found => found,
    }
}

impl Call {
    /// The agent that a path names.
    pub(super) async fn agent(&self, path: &Named) -> Result<ShownAgent> {
        let id = AgentId::parse("id", &path.0).map_err(|_| missing("Agent"))?;
        sought("Agent", self.app.get_agent(&self.caller, id).await)
    }

    /// The session that a path names.
    pub(super) async fn session(&self, path: &Named) -> Result<Session> {
        let id = session_id(&path.0)?;
        let found = self.app.get_session(&self.caller, id).await;
        sought("Session", found).map(|(session, _)| session)
    }

    /// The task that a path names.
    pub(super) async fn task(&self, path: &Named) -> Result<ShownTask> {
        let id = task_id(&path.0)?;
        sought("Task", self.app.get_task(&self.caller, id).await)
    }
}

/// What a handler comes to.
pub(super) type Answer = std::result::Result<Said, Refused>;

/// An object, and with which status it is shown.
pub(super) struct Said(StatusCode, Value);

/// It was done, or is there.
pub(super) fn ok(value: Value) -> Answer {
    Ok(Said(StatusCode::OK, value))
}

/// It was made or begun.
pub(super) fn created(value: Value) -> Answer {
    Ok(Said(StatusCode::CREATED, value))
}

/// It was taken; what comes of it comes by another way.
pub(super) fn accepted(value: Value) -> Answer {
    Ok(Said(StatusCode::ACCEPTED, value))
}

/// It was done, and there is nothing to show.
pub(super) fn done() -> Answer {
    ok(json!({ "success": true }))
}

/// A word on how things are, with a status of its own.
pub(super) fn told(code: StatusCode, value: Value) -> Answer {
    Ok(Said(code, value))
}

impl IntoResponse for Said {
    fn into_response(self) -> Response {
        let mut response = (self.0, Json(self.1)).into_response();
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// Why it was not done; of an agent that runs already, with its session.
pub(super) struct Refused {
    error: Error,
    existing: Option<Value>,
}

impl Refused {
    /// The agent runs this session already.
    pub(super) fn running(error: Error, existing: Value) -> Self {
        Refused {
            error,
            existing: Some(existing),
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused {
            error,
            existing: None,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let Refused { error, existing } = self;
        if let Some(existing) = existing {
            let body = json!({
                "error": { "code": error.code().as_str(), "message": error.message() },
                "existingSession": existing,
            });
            return Said(fail::http_status(error.code()), body).into_response();
        }
        // An error of `app` names a field as the API does.
        match (error.code(), error.fields()) {
            (Code::InvalidInput, [field]) => {
                let renamed = Error::invalid(&field_name(&field.field), field.problem.as_str());
                fail::respond(Dialect::Own, &renamed)
            }
            _ => fail::respond(Dialect::Own, &error),
        }
    }
}

/// What a field of `app` is called here.
fn field_name(name: &str) -> String {
    match name {
        "settings.directory" | "cwd" => return "workingDirectory".to_owned(),
        "settings.argv" => return "command".to_owned(),
        "settings.harness" => return "provider".to_owned(),
        "settings.focus" => return "stewardFocus".to_owned(),
        "settings.definition.instructions" => return "roleDefinition.systemPrompt".to_owned(),
        _ => {}
    }
    let name = name.strip_prefix("settings.").unwrap_or(name);
    let name = match name.strip_prefix("definition.") {
        Some(rest) => format!("roleDefinition.{rest}"),
        None => name.to_owned(),
    };
    let mut camel = String::with_capacity(name.len());
    let mut up = false;
    for c in name.chars() {
        match c {
            '_' => up = true,
            c if up => {
                camel.extend(c.to_uppercase());
                up = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

/// An error about a field that is called otherwise in a request.
pub(super) fn renamed(error: Error, names: &[(&str, &str)]) -> Error {
    let (Code::InvalidInput, [field]) = (error.code(), error.fields()) else {
        return error;
    };
    match names.iter().find(|(ours, _)| *ours == field.field) {
        Some((_, here)) => Error::invalid(here, field.problem.as_str()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_their_names_of_this_dialect() {
        for (ours, here) in [
            ("settings.worker_mode", "workerMode"),
            ("settings.directory", "workingDirectory"),
            ("directory", "directory"),
            ("settings.definition.on_startup", "roleDefinition.onStartup"),
            ("required_capabilities[2]", "requiredCapabilities[2]"),
            ("title", "title"),
        ] {
            assert_eq!(field_name(ours), here);
        }
    }

    /// Of what goes wrong within, the text has a code, and nobody is told more.
    #[tokio::test]
    async fn what_fails_within_is_told_as_that_only() {
        let refused = Refused::from(Error::internal("disk sda1 is gone"));
        let response = refused.into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 1_000).await;
        let body: Value = serde_json::from_slice(&body.unwrap()).unwrap();
        assert_eq!(body["error"]["code"], "INTERNAL_ERROR");
        assert!(!body.to_string().contains("sda1"), "{body}");
    }
}
