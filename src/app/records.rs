//! Where each noun's record lives, and how it is read and written.
//!
//! Records are the JSON of the domain's types: an operator can read them, and a field that is added
//! later has a default. A record is a projection; the journal's commit that carries it is the truth.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::app::dispatch::Switch;
use crate::app::failure;
use crate::app::tasks::GoneTask;
use crate::app::triggers::{Fired, Heard};
use crate::base::id::{
    AgentId, BudgetId, DaemonId, InputId, PromptId, RuleId, SessionId, TaskId, TokenId, WorktreeId,
};
use crate::base::{Error, Result};
use crate::domain::budget::{Answered, Asked};
use crate::domain::session::Gone;
use crate::domain::spending::{Day, SessionDay};
use crate::domain::trigger::TaskEvent;
use crate::domain::{
    Agent, AgentRun, Budget, BudgetPeriod, BudgetScope, Daemon, Input, Prompt, PromptRule, Session,
    SignInCode, Task, Token, TokenUse, Worktree,
};
use crate::store::{Expect, Record, RecordOp, Records};

/// Key of a session's record.
pub fn session_key(id: SessionId) -> String {
    format!("session/{id}")
}

/// What the keys of all sessions begin with.
pub const SESSIONS: &str = "session/";

/// Key of what is remembered of a deleted session.
pub fn gone_key(id: SessionId) -> String {
    format!("{GONE}{id}")
}

/// What the keys of all deleted sessions that are remembered begin with.
pub const GONE: &str = "gone/";

/// Key of the mark that a session was deleted and what it left is not all removed yet.
pub fn deleting_key(id: SessionId) -> String {
    format!("{DELETING}{id}")
}

/// What the marks of all sessions that are being removed begin with.
pub const DELETING: &str = "deleting/";

/// Key of the mark that a session may have a process, under its daemon.
pub fn living_key(daemon: DaemonId, session: SessionId) -> String {
    format!("living/{daemon}/{session}")
}

/// What the marks of a daemon's living sessions begin with.
pub fn living_prefix(daemon: DaemonId) -> String {
    format!("living/{daemon}/")
}

/// What the marks of all living sessions begin with.
pub const LIVING: &str = "living/";

/// Key of an input's record.
pub fn input_key(session: SessionId, id: InputId) -> String {
    format!("input/{session}/{id}")
}

/// What the keys of a session's inputs begin with.
pub fn input_prefix(session: SessionId) -> String {
    format!("input/{session}/")
}

/// Key of a prompt's record.
pub fn prompt_key(id: PromptId) -> String {
    format!("prompt/{id}")
}

/// What the keys of all prompts begin with.
pub const PROMPTS: &str = "prompt/";

/// Key of the mark that a session has a prompt.
pub fn session_prompt_key(session: SessionId, id: PromptId) -> String {
    format!("session-prompt/{session}/{id}")
}

/// What the marks of a session's prompts begin with.
pub fn session_prompt_prefix(session: SessionId) -> String {
    format!("session-prompt/{session}/")
}

/// Key of the mark that a prompt waits for an answer.
pub fn pending_prompt_key(id: PromptId) -> String {
    format!("pending-prompt/{id}")
}

/// What the marks of all waiting prompts begin with.
pub const PENDING_PROMPTS: &str = "pending-prompt/";

/// Key of a rule's record.
pub fn rule_key(id: RuleId) -> String {
    format!("rule/{id}")
}

/// What the keys of all rules begin with.
pub const RULES: &str = "rule/";

/// Key of a daemon's record.
pub fn daemon_key(id: DaemonId) -> String {
    format!("daemon/{id}")
}

/// What the keys of all daemons begin with.
pub const DAEMONS: &str = "daemon/";

/// Key of the record that keeps a daemon's name its own; its value is the daemon's id.
pub fn daemon_name_key(name: &str) -> String {
    format!("daemon-name/{name}")
}

/// Key of an agent's record.
pub fn agent_key(id: AgentId) -> String {
    format!("{AGENTS}{id}")
}

/// What the keys of all agents begin with.
pub const AGENTS: &str = "agent/";

/// Key of which session an agent ran last.
pub fn agent_run_key(id: AgentId) -> String {
    format!("{AGENT_RUNS}{id}")
}

/// What the keys of all agents' last sessions begin with.
pub const AGENT_RUNS: &str = "agent-run/";

/// Key of when the triggers of a steward have started it.
pub fn fired_key(id: AgentId) -> String {
    format!("fired/{id}")
}

/// Key of the mark that something happened to a task which a steward is to be told of.
pub fn heard_key(steward: AgentId, task: TaskId, event: TaskEvent) -> String {
    format!("{}{task}/{}", heard_prefix(steward), event.as_str())
}

/// What the marks of all that a steward is to be told of begin with.
pub fn heard_prefix(steward: AgentId) -> String {
    format!("{HEARD}{steward}/")
}

/// What the marks of all that stewards are to be told of begin with.
pub const HEARD: &str = "heard/";

/// Key of the record that keeps an agent's name its own; its value is the agent's id. Upper and lower case are the
/// same name.
pub fn agent_name_key(name: &str) -> String {
    format!("agent-name/{}", name.to_ascii_lowercase())
}

/// Key of a token's record.
pub fn token_key(id: TokenId) -> String {
    format!("token/{id}")
}

/// What the keys of all tokens begin with.
pub const TOKENS: &str = "token/";

/// Key of when a token was last used. Beside the token's record, so that a use never meets a change of it.
pub fn token_use_key(id: TokenId) -> String {
    format!("{TOKEN_USES}{id}")
}

/// What the keys of all uses of tokens begin with.
pub const TOKEN_USES: &str = "token-use/";

/// Key of a sign-in code, by the hash of the code.
pub fn sign_in_code_key(sha256: &str) -> String {
    format!("{SIGN_IN_CODES}{sha256}")
}

/// What the keys of all sign-in codes begin with.
pub const SIGN_IN_CODES: &str = "sign-in-code/";

/// Key of a budget's record.
pub fn budget_key(id: BudgetId) -> String {
    format!("{BUDGETS}{id}")
}

/// What the keys of all budgets begin with.
pub const BUDGETS: &str = "budget/";

/// Key of the record that makes a budget the only one of what it is of; its value is the budget's id.
pub fn budget_scope_key(scope: BudgetScope, period: BudgetPeriod) -> String {
    format!("budget-of/{}/{}", scope.key(), period.as_str())
}

/// Key of what a person was asked last about a budget.
pub fn budget_asked_key(id: BudgetId) -> String {
    format!("budget-asked/{id}")
}

/// Key of what a person answered last about a budget.
pub fn budget_answered_key(id: BudgetId) -> String {
    format!("budget-answered/{id}")
}

/// Key of what a session spent in a day.
pub fn usage_key(day: Day, session: SessionId) -> String {
    format!("{USAGE}{day}/{session}")
}

/// What the keys of a day's spending begin with.
pub fn usage_prefix(day: Day) -> String {
    format!("{USAGE}{day}/")
}

/// What the keys of all spending begin with.
pub const USAGE: &str = "usage/";

/// Key of a task's record.
pub fn task_key(id: TaskId) -> String {
    format!("{TASKS}{id}")
}

/// What the keys of all tasks begin with.
pub const TASKS: &str = "task/";

/// Key of the mark that is set anew when a task is closed or no longer: what waits for it may stand otherwise.
pub fn task_turned_key(id: TaskId) -> String {
    format!("task-turned/{id}")
}

/// Key of what is remembered of a deleted task.
pub fn gone_task_key(id: TaskId) -> String {
    format!("{GONE_TASKS}{id}")
}

/// What the keys of all deleted tasks that are remembered begin with.
pub const GONE_TASKS: &str = "task-gone/";

/// Key of the lock on a harness's conversation: its value is the session that may write to it.
pub fn conversation_key(harness: &str, provider_session_id: &str) -> String {
    use sha2::{Digest, Sha256};
    // A provider's id may be any text; its hash is a key of known length.
    let digest = Sha256::digest(format!("{harness}\0{provider_session_id}"));
    let mut key = String::from("conversation/");
    for byte in digest {
        key.push_str(&format!("{byte:02x}"));
    }
    key
}

/// Key of whether the scheduler works.
pub const SCHEDULER: &str = "scheduler";

/// Key of a worktree's record.
pub fn worktree_key(id: WorktreeId) -> String {
    format!("{WORKTREES}{id}")
}

/// What the keys of all worktrees begin with.
pub const WORKTREES: &str = "worktree/";

/// A type that is kept as a record.
pub trait Kept: Serialize + DeserializeOwned {
    /// What it is called in an error.
    const NOUN: &'static str;
}

impl Kept for Session {
    const NOUN: &'static str = "session";
}
impl Kept for Gone {
    const NOUN: &'static str = "deleted session";
}
impl Kept for Input {
    const NOUN: &'static str = "input";
}
impl Kept for Prompt {
    const NOUN: &'static str = "prompt";
}
impl Kept for PromptRule {
    const NOUN: &'static str = "rule";
}
impl Kept for Agent {
    const NOUN: &'static str = "agent";
}
impl Kept for AgentRun {
    const NOUN: &'static str = "run of an agent";
}
impl Kept for Fired {
    const NOUN: &'static str = "firing of a steward's triggers";
}
impl Kept for Heard {
    const NOUN: &'static str = "news for a steward";
}
impl Kept for Task {
    const NOUN: &'static str = "task";
}
impl Kept for GoneTask {
    const NOUN: &'static str = "deleted task";
}
impl Kept for Budget {
    const NOUN: &'static str = "budget";
}
impl Kept for Asked {
    const NOUN: &'static str = "question about a budget";
}
impl Kept for Answered {
    const NOUN: &'static str = "answer about a budget";
}
impl Kept for SessionDay {
    const NOUN: &'static str = "spending";
}
impl Kept for Switch {
    const NOUN: &'static str = "scheduler";
}
impl Kept for Daemon {
    const NOUN: &'static str = "daemon";
}
impl Kept for SignInCode {
    const NOUN: &'static str = "sign-in code";
}
impl Kept for TokenUse {
    const NOUN: &'static str = "use of a token";
}
impl Kept for Worktree {
    const NOUN: &'static str = "worktree";
}
impl Kept for Token {
    const NOUN: &'static str = "token";
}

/// Reads a record's value.
pub fn decode<T: Kept>(record: &Record) -> Result<T> {
    serde_json::from_slice(&record.value).map_err(|problem| {
        Error::internal(format!(
            "the {} record {} cannot be read: {problem}",
            T::NOUN,
            record.key
        ))
    })
}

/// A record's value.
pub fn encode<T: Kept>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(Error::internal)
}

/// The change that writes a record.
pub fn put<T: Kept>(key: String, value: &T, expect: Expect) -> Result<RecordOp> {
    Ok(RecordOp {
        key,
        expect,
        value: Some(encode(value)?),
    })
}

/// The change that sets a mark: a record whose value is an id or nothing.
pub fn mark(key: String, value: impl std::fmt::Display) -> RecordOp {
    RecordOp {
        key,
        expect: Expect::Any,
        value: Some(Bytes::from(value.to_string())),
    }
}

/// The change that removes a record or a mark.
pub fn remove(key: String) -> RecordOp {
    RecordOp {
        key,
        expect: Expect::Any,
        value: None,
    }
}

/// One record with its revision; `None` if there is none.
pub async fn get<T: Kept>(
    records: &(impl Records + ?Sized),
    key: &str,
) -> Result<Option<(T, u64)>> {
    match records.get(key).await.map_err(failure::from_store)? {
        Some(record) => Ok(Some((decode(&record)?, record.revision))),
        None => Ok(None),
    }
}
