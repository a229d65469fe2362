//! The refusal of a message that cannot be read, in Baton's own words: the transport below finds it and
//! says `INTERNAL` without details, though it is the caller's doing.

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tonic::{Code, Status};

use super::reject::{Shape, reject};
use crate::base::Error;

/// Puts a typed error in the place of the transport's. Baton's own errors have details and pass.
pub(super) async fn unread(request: Request, next: Next) -> Response {
    let shape = Shape::of(&request);
    let response: Response<Body> = next.run(request).await;
    let problem = match Status::from_header_map(response.headers()) {
        Some(status) if status.details().is_empty() => match status.code() {
            Code::Internal => "is not one that this method takes",
            Code::OutOfRange => "is larger than this method takes",
            _ => return response,
        },
        _ => return response,
    };
    reject(shape, &Error::invalid("message", problem))
}
