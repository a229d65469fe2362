//! Exit codes, and errors as people read them.

use serde_json::json;

use super::output::style::{Style, Tone, safe};
use crate::base::{Code, Effect, Error};
use crate::domain::session::{EndInfo, EndReason};

/// Done.
pub const DONE: u8 = 0;
/// It failed.
pub const FAILED: u8 = 1;
/// The command line or a value in it was wrong.
pub const USAGE: u8 = 2;
/// There is no such thing.
pub const NOT_FOUND: u8 = 3;
/// The server refused.
pub const REFUSED: u8 = 4;
/// The server, or the machine it needs, cannot be reached.
pub const UNREACHABLE: u8 = 5;

/// A mistake of whoever called: exit code 2.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    Error::new(Code::InvalidInput, message).into()
}

/// The exit code of an error.
pub fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Error>() {
        Some(error) => code_for(error.code()),
        None => FAILED,
    }
}

/// The exit code of an error code.
pub const fn code_for(code: Code) -> u8 {
    match code {
        Code::InvalidInput | Code::OutOfRange => USAGE,
        Code::NotFound | Code::NoSession | Code::NoResumableSession => NOT_FOUND,
        Code::Unauthenticated
        | Code::Forbidden
        | Code::SessionExists
        | Code::AlreadyExists
        | Code::InvalidState
        | Code::AgentDisabled
        | Code::PromptAnswered
        | Code::Cycle
        | Code::NotInteractive
        | Code::Stale
        | Code::RateLimited
        | Code::LimitExceeded
        | Code::BudgetExceeded
        | Code::AtCapacity
        | Code::NoDaemon
        | Code::HarnessUnavailable
        | Code::WorktreesDisabled => REFUSED,
        Code::Unavailable | Code::Timeout | Code::DaemonDisconnected => UNREACHABLE,
        Code::UnknownMethod | Code::GitError | Code::InternalError => FAILED,
    }
}

/// The exit code of a session that was followed to its end.
pub const fn code_of_end(end: &EndInfo) -> u8 {
    match end.reason {
        EndReason::Completed | EndReason::Stopped | EndReason::Resumed => DONE,
        EndReason::Failed
        | EndReason::Crashed
        | EndReason::Timeout
        | EndReason::Limit
        | EndReason::RateLimited
        | EndReason::Lost
        | EndReason::Canceled => FAILED,
    }
}

/// Whether an error only says that nobody reads our output any more.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// An error as it is shown: a sentence, or an object with `--json`.
pub fn describe(error: &anyhow::Error, as_json: bool, color: bool) -> String {
    let known = error.downcast_ref::<Error>();
    if as_json {
        let value = match known {
            Some(error) => json!({ "error": {
                "code": error.code().as_str(),
                "message": error.message(),
                "details": error.details(),
                "fields": error.fields().iter()
                    .map(|f| json!({ "field": f.field, "problem": f.problem }))
                    .collect::<Vec<_>>(),
                "effect": match error.effect() {
                    Effect::NotDone => "not_done",
                    Effect::MaybeDone => "maybe_done",
                },
                "retry_after_s": error.retry_delay().map(|delay| delay.as_secs_f64()),
            }}),
            None => json!({ "error": { "code": "FAILED", "message": format!("{error:#}") }}),
        };
        return value.to_string();
    }
    let style = Style::new(color);
    let mut text = style.paint(Tone::Bad, "error:");
    text.push(' ');
    match known {
        None => text.push_str(&safe(&format!("{error:#}"))),
        Some(error) => {
            text.push_str(&safe(error.message()));
            for field in error.fields().iter().skip(1) {
                text.push_str(&safe(&format!("\n  {} {}", field.field, field.problem)));
            }
            if let Some(delay) = error.retry_delay() {
                text.push_str(&format!("\n  try again in {} s", delay.as_secs().max(1)));
            }
            if error.effect() == Effect::MaybeDone && error.code() != Code::Unavailable {
                text.push_str("\n  it may have been done all the same: look before repeating it");
            }
            if error.code() == Code::Unauthenticated {
                text.push_str(
                    "\n  give a token with BATON_TOKEN or --token-file, or use the machine where `baton up` runs",
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_exit_code() {
        let table = [
            (Code::InvalidInput, 2),
            (Code::NotFound, 3),
            (Code::NoResumableSession, 3),
            (Code::Unauthenticated, 4),
            (Code::Forbidden, 4),
            (Code::AgentDisabled, 4),
            (Code::PromptAnswered, 4),
            (Code::InvalidState, 4),
            (Code::NoDaemon, 4),
            (Code::Unavailable, 5),
            (Code::Timeout, 5),
            (Code::DaemonDisconnected, 5),
            (Code::InternalError, 1),
        ];
        for (code, exit) in table {
            assert_eq!(code_of(&Error::new(code, "x").into()), exit, "{code}");
        }
        assert_eq!(code_of(&anyhow::anyhow!("x")), FAILED);
        // Context around an error does not hide it.
        let wrapped =
            anyhow::Error::from(Error::not_found("session", "x")).context("while looking");
        assert_eq!(code_of(&wrapped), NOT_FOUND);
        for code in Code::ALL {
            assert!((1..=5).contains(&code_for(*code)));
        }
    }

    #[test]
    fn an_end_decides_the_exit_code() {
        assert_eq!(code_of_end(&EndInfo::because(EndReason::Completed, "")), 0);
        assert_eq!(code_of_end(&EndInfo::because(EndReason::Crashed, "")), 1);
    }

    #[test]
    fn errors_are_shown_without_escapes_and_as_objects() {
        let error: anyhow::Error = Error::invalid("cwd", "is\u{1b}[31m bad").into();
        assert_eq!(describe(&error, false, false), "error: cwd is⟨1B⟩[31m bad");
        let value: serde_json::Value =
            serde_json::from_str(&describe(&error, true, false)).unwrap();
        assert_eq!(value["error"]["code"], "INVALID_INPUT");
        assert_eq!(value["error"]["fields"][0]["field"], "cwd");
        assert_eq!(value["error"]["effect"], "not_done");
    }
}
