//! Errors on the wire: [`crate::base::Error`] to a gRPC status with details, and back.

use std::collections::HashMap;

use tonic::Status;
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::base::{Code, Effect, Error};

/// The `domain` of every `google.rpc.ErrorInfo` of this program.
pub const DOMAIN: &str = "baton";
/// The metadata entry that says whether the action was done.
const EFFECT: &str = "effect";
const NOT_DONE: &str = "not_done";
const MAYBE_DONE: &str = "maybe_done";

// A status travels in HTTP/2 trailers, which peers bound (16 KiB and less): what an error quotes must
// never make the answer itself undeliverable.
const MAX_MESSAGE_BYTES: usize = 2_048;
const MAX_VALUE_BYTES: usize = 512;
const MAX_DETAILS: usize = 8;
const MAX_FIELDS: usize = 8;

/// The gRPC code of an error code.
pub const fn grpc_code(code: Code) -> tonic::Code {
    match code {
        Code::InvalidInput => tonic::Code::InvalidArgument,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::Forbidden => tonic::Code::PermissionDenied,
        Code::NotFound | Code::NoSession | Code::NoResumableSession => tonic::Code::NotFound,
        Code::UnknownMethod => tonic::Code::Unimplemented,
        Code::SessionExists | Code::AlreadyExists => tonic::Code::AlreadyExists,
        Code::InvalidState
        | Code::AgentDisabled
        | Code::PromptAnswered
        | Code::Cycle
        | Code::NotInteractive
        | Code::HarnessUnavailable
        | Code::WorktreesDisabled => tonic::Code::FailedPrecondition,
        Code::Stale => tonic::Code::Aborted,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::RateLimited | Code::LimitExceeded | Code::BudgetExceeded | Code::AtCapacity => {
            tonic::Code::ResourceExhausted
        }
        Code::NoDaemon | Code::DaemonDisconnected | Code::Unavailable => tonic::Code::Unavailable,
        Code::Timeout => tonic::Code::DeadlineExceeded,
        Code::InternalError | Code::GitError => tonic::Code::Internal,
    }
}

/// The status that a caller is sent. The inner cause stays here.
pub fn status_from_error(error: &Error) -> Status {
    let mut metadata: HashMap<String, String> = error
        .details()
        .iter()
        .take(MAX_DETAILS)
        .map(|(key, value)| (cut(key, 64), cut(value, MAX_VALUE_BYTES)))
        .collect();
    let effect = match error.effect() {
        Effect::NotDone => NOT_DONE,
        Effect::MaybeDone => MAYBE_DONE,
    };
    metadata.insert(EFFECT.to_owned(), effect.to_owned());
    let mut details =
        ErrorDetails::with_error_info(error.code().as_str(), DOMAIN.to_owned(), metadata);
    if !error.fields().is_empty() {
        let violations: Vec<FieldViolation> = error
            .fields()
            .iter()
            .take(MAX_FIELDS)
            .map(|violation| {
                FieldViolation::new(
                    cut(&violation.field, 128),
                    cut(&violation.problem, MAX_VALUE_BYTES),
                )
            })
            .collect();
        details.set_bad_request(violations);
    }
    if let Some(delay) = error.retry_delay() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(
        grpc_code(error.code()),
        cut(error.message(), MAX_MESSAGE_BYTES),
        details,
    )
}

/// The error that a status stands for, also where the status comes from a proxy, from tonic itself or
/// from a newer server.
pub fn error_from_status(status: &Status) -> Error {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let code = info
        .and_then(|info| Code::parse(&info.reason))
        .unwrap_or_else(|| code_of(status.code()));
    let fields = details
        .bad_request()
        .map(|bad| bad.field_violations.as_slice())
        .unwrap_or_default();
    let message = match status.message() {
        "" => format!("the server answered {:?} without a message", status.code()),
        message => message.to_owned(),
    };
    let mut error = Error::new(code, message).with_fields(fields.iter().map(|violation| {
        crate::base::error::FieldViolation {
            field: violation.field.clone(),
            problem: violation.description.clone(),
        }
    }));
    let mut effect = None;
    if let Some(info) = info {
        for (key, value) in &info.metadata {
            if key == EFFECT {
                effect = Some(value.as_str());
            } else {
                error = error.with(key, value);
            }
        }
    }
    if let Some(delay) = details.retry_info().and_then(|info| info.retry_delay) {
        error = error.retry_after(delay);
    }
    let maybe_done = match effect {
        Some(effect) => effect != NOT_DONE,
        None => may_be_done(status.code()),
    };
    if maybe_done {
        error.maybe_done()
    } else {
        error
    }
}

fn code_of(code: tonic::Code) -> Code {
    match code {
        tonic::Code::InvalidArgument => Code::InvalidInput,
        tonic::Code::Unauthenticated => Code::Unauthenticated,
        tonic::Code::PermissionDenied => Code::Forbidden,
        tonic::Code::NotFound => Code::NotFound,
        tonic::Code::Unimplemented => Code::UnknownMethod,
        tonic::Code::AlreadyExists => Code::AlreadyExists,
        tonic::Code::FailedPrecondition => Code::InvalidState,
        tonic::Code::Aborted => Code::Stale,
        tonic::Code::OutOfRange => Code::OutOfRange,
        tonic::Code::ResourceExhausted => Code::LimitExceeded,
        tonic::Code::Unavailable | tonic::Code::Cancelled => Code::Unavailable,
        tonic::Code::DeadlineExceeded => Code::Timeout,
        tonic::Code::Ok | tonic::Code::Unknown | tonic::Code::Internal | tonic::Code::DataLoss => {
            Code::InternalError
        }
    }
}

/// Whether a status that does not say may stand for an action that was done.
fn may_be_done(code: tonic::Code) -> bool {
    matches!(
        code,
        tonic::Code::Ok
            | tonic::Code::Unknown
            | tonic::Code::Internal
            | tonic::Code::DataLoss
            | tonic::Code::Unavailable
            | tonic::Code::Cancelled
            | tonic::Code::DeadlineExceeded
    )
}

fn cut(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let end = crate::domain::content::floor_char(text, max_bytes - '…'.len_utf8());
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn round(error: &Error) -> Error {
        error_from_status(&status_from_error(error))
    }

    #[test]
    fn every_code_comes_back() {
        for code in Code::ALL {
            let error = round(&Error::new(*code, "it went wrong"));
            assert_eq!(error.code(), *code);
            assert_eq!(error.message(), "it went wrong");
            assert_eq!(error.effect(), Effect::NotDone);
        }
    }

    #[test]
    fn details_fields_effect_and_delay_come_back() {
        let error = Error::invalid("cwd", "is not an absolute path")
            .with("existing_session", "ses_1")
            .retry_after(Duration::from_millis(1_500))
            .maybe_done();
        let back = round(&error);
        assert_eq!(back.details(), error.details());
        assert_eq!(back.fields(), error.fields());
        assert_eq!(back.effect(), Effect::MaybeDone);
        assert_eq!(back.retry_delay(), error.retry_delay());
    }

    #[test]
    fn the_cause_stays_here() {
        let status = status_from_error(&Error::internal(std::io::Error::other("canary")));
        assert!(!format!("{status:?}").contains("canary"));
        assert!(!String::from_utf8_lossy(status.details()).contains("canary"));
    }

    #[test]
    fn an_error_always_fits_the_trailers() {
        let mut error = Error::invalid(&"é".repeat(9_999), "x".repeat(99_999));
        for n in 0..99 {
            error = error.with(&format!("{n}"), "y".repeat(9_999));
        }
        let status = status_from_error(&error);
        assert!(status.message().len() + status.details().len() < 12 * 1024);
    }

    #[test]
    fn a_status_of_somebody_else_is_understood() {
        let error = error_from_status(&Status::unavailable("upstream connect error"));
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(error.effect(), Effect::MaybeDone);
        let error = error_from_status(&Status::with_details(
            tonic::Code::NotFound,
            "gone",
            bytes::Bytes::from_static(b"\xff\xff\xff"),
        ));
        assert_eq!(error.code(), Code::NotFound);
        let foreign = Status::with_error_details(
            tonic::Code::Internal,
            "x",
            ErrorDetails::with_error_info("NOT_FOUND", "other", HashMap::new()),
        );
        assert_eq!(error_from_status(&foreign).code(), Code::InternalError);
    }
}
