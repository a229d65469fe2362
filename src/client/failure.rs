//! Failures as a person can act on them.

use std::error::Error as _;
use std::io::ErrorKind;

use tonic::Status;

use crate::base::{Code, Error};
use crate::wire::status::error_from_status;
use crate::wire::unreachable::{is_tls, reason};

/// The error of a call that failed. A server that cannot be reached is told apart from one that refuses.
pub(super) fn error_of(url: &str, status: &Status) -> Error {
    let Some(io) = io_kind(status) else {
        let error = error_from_status(status);
        // tonic names a connection that could not be made, but not always with an io error within.
        if error.code() == Code::Unavailable
            && let Some(source) = status.source()
        {
            return made_unreachable(url, source).maybe_done();
        }
        return error;
    };
    if is_tls(status) {
        return made_unreachable(url, status);
    }
    match io {
        ErrorKind::ConnectionRefused => unreachable(url, "the connection was refused"),
        ErrorKind::TimedOut => unreachable(url, "it does not answer"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            unreachable(url, "there is no way to it")
        }
        _ => unreachable(url, &causes(status)).maybe_done(),
    }
}

/// The error of a connection that could not be made.
pub(super) fn connect_error(url: &str, error: &tonic::transport::Error) -> Error {
    made_unreachable(url, error)
}

fn made_unreachable(url: &str, error: &(dyn std::error::Error + 'static)) -> Error {
    let why = reason(error);
    if is_tls(error) {
        // Somebody answers there: the hint about a server that does not run would mislead.
        return Error::new(
            Code::Unavailable,
            format!("the server at {url} cannot be reached safely: {why}"),
        );
    }
    unreachable(url, &why)
}

fn unreachable(url: &str, why: &str) -> Error {
    Error::new(
        Code::Unavailable,
        format!("the server at {url} cannot be reached ({why}); is `baton up` running?"),
    )
}

fn io_kind(status: &Status) -> Option<ErrorKind> {
    let mut next = status.source();
    while let Some(cause) = next {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return Some(io.kind());
        }
        next = cause.source();
    }
    None
}

/// The innermost cause: the outer ones only say that there is one.
fn causes(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = status.source();
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    text
}

/// Whether calling again in the same way cannot help.
pub fn is_lasting(code: Code) -> bool {
    !matches!(
        code,
        Code::Unavailable
            | Code::Timeout
            | Code::RateLimited
            | Code::AtCapacity
            | Code::DaemonDisconnected
            | Code::InternalError
    )
}
