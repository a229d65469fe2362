//! A refusal in the form its protocol expects.

use axum::body::Body;
use axum::response::Response;
use http::Request;
use http::header::CONTENT_TYPE;

use crate::base::{Code, Error};
use crate::gateway::{Dialect, fail};
use crate::wire::status::status_from_error;

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// gRPC: HTTP 200, and the status in headers. So it is for gRPC-Web, which was made gRPC before.
    Grpc,
    /// Anything else: an HTTP status and JSON, as its dialect has it.
    Json(Dialect),
}

impl Shape {
    /// The protocol of a request.
    pub fn of<B>(request: &Request<B>) -> Self {
        let is_grpc = request
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if is_grpc {
            Shape::Grpc
        } else {
            Shape::Json(Dialect::of(request.uri().path()))
        }
    }
}

/// The answer to a request that is refused.
pub fn reject(shape: Shape, error: &Error) -> Response {
    match shape {
        Shape::Grpc => {
            if error.code() == Code::InternalError {
                tracing::error!(?error, "request failed within");
            } else {
                tracing::debug!(%error, "request refused");
            }
            status_from_error(error).into_http::<Body>()
        }
        Shape::Json(dialect) => fail::respond(dialect, error),
    }
}
