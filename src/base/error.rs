//! The one error of Baton, free of any transport.
//!
//! Every surface renders the same value: gRPC as a status with `google.rpc.ErrorInfo`, HTTP as its
//! dialect's JSON, the command line as a sentence and an exit code. An error says what was wrong,
//! where, what to do about it, and whether the action was not done or may have been. The cause within
//! is for the log and never leaves the process.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as a closed list that clients may match on. The text form is the `reason` of
/// `google.rpc.ErrorInfo` and the `code` of the JSON dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Code {
    /// A field is missing, malformed or too large; `Error::fields` names it.
    InvalidInput,
    /// No token, or one that is not valid.
    Unauthenticated,
    /// The caller is known and may not do this.
    Forbidden,
    /// There is no such thing, or it is not the caller's to see.
    NotFound,
    /// The agent or command refers to a session that does not exist.
    NoSession,
    /// There is no session that could be resumed.
    NoResumableSession,
    /// The method does not exist.
    UnknownMethod,
    /// One is already running; `existing_session` names it.
    SessionExists,
    /// It exists already.
    AlreadyExists,
    /// The thing's state does not allow this now.
    InvalidState,
    /// The agent is not to be started.
    AgentDisabled,
    /// Somebody answered first; the details name who and how.
    PromptAnswered,
    /// It would wait for itself; `cycle` names what is in the circle.
    Cycle,
    /// The session takes no input of this kind.
    NotInteractive,
    /// The record changed since it was read; read it again.
    Stale,
    /// The position asked for was compacted away or does not exist yet; `first`, `head` and `epoch` say what does.
    OutOfRange,
    /// Too many calls; `Error::retry_after` says when to come back.
    RateLimited,
    /// A limit of the session, the caller or the server is reached.
    LimitExceeded,
    /// A budget is spent; the details say which, and `Error::retry_after` when its next day begins.
    BudgetExceeded,
    /// The machine or server has as many as it takes.
    AtCapacity,
    /// No daemon fits.
    NoDaemon,
    /// The daemon that owns this is not linked now.
    DaemonDisconnected,
    /// The harness cannot be used there; the message says why.
    HarnessUnavailable,
    /// There is no git repository there, or the daemon does not do worktrees; the message says which.
    WorktreesDisabled,
    /// Git failed; the message has what it said.
    GitError,
    /// It took longer than allowed.
    Timeout,
    /// The server is shutting down or cannot reach its store; try another time.
    Unavailable,
    /// A defect or a broken disk; the log has the cause under the request id.
    InternalError,
}

impl Code {
    /// Every code.
    pub const ALL: &'static [Code] = &[
        Code::InvalidInput,
        Code::Unauthenticated,
        Code::Forbidden,
        Code::NotFound,
        Code::NoSession,
        Code::NoResumableSession,
        Code::UnknownMethod,
        Code::SessionExists,
        Code::AlreadyExists,
        Code::InvalidState,
        Code::AgentDisabled,
        Code::PromptAnswered,
        Code::Cycle,
        Code::NotInteractive,
        Code::Stale,
        Code::OutOfRange,
        Code::RateLimited,
        Code::LimitExceeded,
        Code::BudgetExceeded,
        Code::AtCapacity,
        Code::NoDaemon,
        Code::DaemonDisconnected,
        Code::HarnessUnavailable,
        Code::WorktreesDisabled,
        Code::GitError,
        Code::Timeout,
        Code::Unavailable,
        Code::InternalError,
    ];

    /// The code as clients see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::InvalidInput => "INVALID_INPUT",
            Code::Unauthenticated => "UNAUTHENTICATED",
            Code::Forbidden => "FORBIDDEN",
            Code::NotFound => "NOT_FOUND",
            Code::NoSession => "NO_SESSION",
            Code::NoResumableSession => "NO_RESUMABLE_SESSION",
            Code::UnknownMethod => "UNKNOWN_METHOD",
            Code::SessionExists => "SESSION_EXISTS",
            Code::AlreadyExists => "ALREADY_EXISTS",
            Code::InvalidState => "INVALID_STATE",
            Code::AgentDisabled => "AGENT_DISABLED",
            Code::PromptAnswered => "PROMPT_ANSWERED",
            Code::Cycle => "CYCLE",
            Code::NotInteractive => "NOT_INTERACTIVE",
            Code::Stale => "STALE",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::RateLimited => "RATE_LIMITED",
            Code::LimitExceeded => "LIMIT_EXCEEDED",
            Code::BudgetExceeded => "BUDGET_EXCEEDED",
            Code::AtCapacity => "AT_CAPACITY",
            Code::NoDaemon => "NO_DAEMON",
            Code::DaemonDisconnected => "DAEMON_DISCONNECTED",
            Code::HarnessUnavailable => "HARNESS_UNAVAILABLE",
            Code::WorktreesDisabled => "WORKTREES_DISABLED",
            Code::GitError => "GIT_ERROR",
            Code::Timeout => "TIMEOUT",
            Code::Unavailable => "UNAVAILABLE",
            Code::InternalError => "INTERNAL_ERROR",
        }
    }

    /// The code that a client received as text.
    pub fn parse(text: &str) -> Option<Self> {
        Code::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether the action that failed had an effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing was changed; repeating it is safe.
    #[default]
    NotDone,
    /// It may have been done; look before repeating it, or repeat it with the same `request_id`.
    MaybeDone,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// Path of the field, in the request's own names (`limits.max_turns`).
    pub field: String,
    /// What is wrong with it, to be read after the field's name ("is missing").
    pub problem: String,
}

/// An error as it may be shown to a caller, with its inner cause for the log.
#[derive(Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    code: Code,
    message: String,
    details: BTreeMap<String, String>,
    fields: Vec<FieldViolation>,
    effect: Effect,
    retry_after: Option<Duration>,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a message that says what was wrong, where, and what to do.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error {
            inner: Box::new(Inner {
                code,
                message: message.into(),
                details: BTreeMap::new(),
                fields: Vec::new(),
                effect: Effect::NotDone,
                retry_after: None,
                cause: None,
            }),
        }
    }

    /// A field that is missing, malformed or too large. `problem` reads after the field's name.
    pub fn invalid(field: &str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        let mut error = Error::new(Code::InvalidInput, format!("{field} {problem}"));
        error.inner.fields.push(FieldViolation {
            field: field.to_owned(),
            problem,
        });
        error
    }

    /// There is no such thing, or the caller may not see it: both sound the same.
    pub fn not_found(noun: &str, id: impl fmt::Display) -> Self {
        Error::new(Code::NotFound, format!("there is no {noun} {id}"))
    }

    /// The thing's state does not allow this now.
    pub fn state(message: impl Into<String>) -> Self {
        Error::new(Code::InvalidState, message)
    }

    /// The server ends a connection or a stream that is otherwise in order.
    pub fn closing() -> Self {
        Error::new(
            Code::Unavailable,
            "the server closes this connection; reconnect and go on from where you are",
        )
    }

    /// A defect or a broken machine. The caller is told only that; `cause` goes to the log.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let mut error = Error::new(
            Code::InternalError,
            "the server failed within; its log has the cause under this request's id",
        );
        error.inner.effect = Effect::MaybeDone;
        error.inner.cause = Some(Arc::from(cause.into()));
        error
    }

    /// Adds a fact that a program may read (`existing_session`, `first`, `head` …).
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.inner.details.insert(key.to_owned(), value.to_string());
        self
    }

    /// Adds fields that were wrong.
    #[must_use]
    pub fn with_fields(mut self, fields: impl IntoIterator<Item = FieldViolation>) -> Self {
        self.inner.fields.extend(fields);
        self
    }

    /// Says when it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.inner.retry_after = Some(delay);
        self
    }

    /// Says that the action may have been done.
    #[must_use]
    pub fn maybe_done(mut self) -> Self {
        self.inner.effect = Effect::MaybeDone;
        self
    }

    /// Keeps the inner cause for the log.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.inner.cause = Some(Arc::from(cause.into()));
        self
    }

    /// What went wrong.
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Facts for programs.
    pub fn details(&self) -> &BTreeMap<String, String> {
        &self.inner.details
    }

    /// The fields that were wrong.
    pub fn fields(&self) -> &[FieldViolation] {
        &self.inner.fields
    }

    /// Whether the action had an effect.
    pub fn effect(&self) -> Effect {
        self.inner.effect
    }

    /// When it is worth trying again, if that is known.
    pub fn retry_delay(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// The inner cause with its own causes, for the log only.
    pub fn cause_chain(&self) -> Option<String> {
        let first: &(dyn std::error::Error + 'static) = self.inner.cause.as_deref()?;
        let mut text = first.to_string();
        let mut next = first.source();
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        Some(text)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.inner.message, self.inner.code)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        if let Some(cause) = self.cause_chain() {
            write!(f, " <- {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_text() {
        for code in Code::ALL {
            assert_eq!(Code::parse(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn the_cause_is_for_the_log_only() {
        let error = Error::internal(std::io::Error::other("disk sda1 is gone"));
        assert!(!error.to_string().contains("sda1"));
        assert!(error.cause_chain().unwrap().contains("sda1"));
    }
}
