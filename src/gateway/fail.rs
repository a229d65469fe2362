//! An error as plain HTTP sends it, in the shape of whoever asked.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::base::{Code, Error};

/// Whose shapes an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: `{"error": {"code", "message"}}`.
    Own,
    /// The relay's: `{"error": message, "code"}`.
    Relay,
}

impl Dialect {
    /// The dialect that is spoken at a path.
    pub fn of(path: &str) -> Self {
        let beneath = |parent: &str| {
            path.strip_prefix(parent)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if [
            "/api/sessions/spawn",
            "/api/sessions/spawned",
            "/api/daemon",
        ]
        .into_iter()
        .any(beneath)
        {
            return Dialect::Relay;
        }
        let of_session = path
            .strip_prefix("/api/sessions/")
            .and_then(|rest| rest.split_once('/'));
        match of_session {
            Some((_, "info" | "resume" | "ws")) => Dialect::Relay,
            _ => Dialect::Own,
        }
    }
}

/// The answer to a request that failed. What went wrong within is logged here and not sent.
pub fn respond(dialect: Dialect, error: &Error) -> Response {
    if error.code() == Code::InternalError {
        tracing::error!(?error, "request failed within");
    } else {
        tracing::debug!(%error, "request refused");
    }
    let (code, message) = (error.code().as_str(), error.message());
    let body = match dialect {
        Dialect::Own => json!({ "error": { "code": code, "message": message } }),
        Dialect::Relay => json!({ "error": message, "code": code }),
    };
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = http_status(error.code());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if error.code() == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(delay) = error.retry_delay() {
        // In whole seconds, rounded up: coming back too early would be refused again.
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// The HTTP status of an error.
pub const fn http_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidInput | Code::HarnessUnavailable => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound | Code::NoSession | Code::NoResumableSession | Code::UnknownMethod => {
            StatusCode::NOT_FOUND
        }
        Code::SessionExists
        | Code::AlreadyExists
        | Code::InvalidState
        | Code::AgentDisabled
        | Code::PromptAnswered
        | Code::Cycle
        | Code::NotInteractive => StatusCode::CONFLICT,
        Code::Stale => StatusCode::PRECONDITION_FAILED,
        Code::OutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
        Code::RateLimited | Code::LimitExceeded | Code::BudgetExceeded => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Code::AtCapacity
        | Code::NoDaemon
        | Code::DaemonDisconnected
        | Code::WorktreesDisabled
        | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::InternalError | Code::GitError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
