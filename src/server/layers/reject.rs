//! A refusal in the form its protocol expects.

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::base::{Code, Error};
use crate::wire::status::status_from_error;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// gRPC, gRPC-Web included: HTTP 200, and the status in headers.
    Grpc,
    /// Anything else: an HTTP status and JSON.
    Json,
}

impl Shape {
    /// The protocol that a request's headers tell.
    pub fn of(headers: &HeaderMap) -> Self {
        let is_grpc = headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if is_grpc { Shape::Grpc } else { Shape::Json }
    }
}

/// The answer to a request that is refused.
pub fn reject(shape: Shape, error: &Error) -> Response {
    if error.code() == Code::InternalError {
        tracing::error!(?error, "request failed within");
    } else {
        tracing::debug!(%error, "request refused");
    }
    match shape {
        Shape::Grpc => status_from_error(error).into_http::<Body>(),
        Shape::Json => json(error),
    }
}

fn json(error: &Error) -> Response {
    let body = serde_json::json!({
        "error": { "code": error.code().as_str(), "message": error.message() },
    });
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
        | Code::PromptAnswered
        | Code::NotInteractive => StatusCode::CONFLICT,
        Code::Stale => StatusCode::PRECONDITION_FAILED,
        Code::OutOfRange => StatusCode::RANGE_NOT_SATISFIABLE,
        Code::RateLimited | Code::LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
        Code::AtCapacity | Code::NoDaemon | Code::DaemonDisconnected | Code::Unavailable => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
