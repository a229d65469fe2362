//! An error as the status that is sent.

use tonic::Status;

use crate::base::{Code, Error};
use crate::wire::status::status_from_error;

/// The status for an error. What went wrong within is logged here, beneath the request's span, and not sent.
pub fn status(error: Error) -> Status {
    if error.code() == Code::InternalError {
        tracing::error!(?error, "request failed within");
    } else {
        tracing::debug!(?error, "request refused");
    }
    status_from_error(&error)
}
