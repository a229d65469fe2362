//! The nouns and their rules: plain types, and state machines that decide but do nothing themselves.
//!
//! Nothing here awaits, reads a clock, or knows protobuf, files, sockets or processes. Types that are
//! kept as records derive serde; fields added later carry a default, so that old records still read.

pub mod actor;
pub mod agent;
pub mod budget;
pub mod content;
pub mod field;
pub mod price;
pub mod spending;
pub mod usage;
pub mod visible;

pub mod harness;

pub mod session;

pub mod input;

pub mod prompt;

pub mod event;

pub mod live;

pub mod policy;

pub mod command;

pub mod daemon;

pub mod link;

pub mod dispatch;
pub mod task;
pub mod terminal;
pub mod trigger;

pub mod narrowing;

pub mod token;

pub mod worktree;

#[cfg(test)]
mod fuzz;

pub use actor::{Actor, ActorKind};
pub use agent::{Agent, AgentRole, AgentRun, AgentSettings, SessionAgent, WorkerMode};
pub use budget::{Budget, BudgetPeriod, BudgetScope, BudgetState};
pub use command::{Command, CommandBody, CommandOutcome, CommandResult};
pub use content::{Block, ContentRef};
pub use daemon::Daemon;
pub use event::{Event, EventBody, EventKind, Transient};
pub use harness::{Capabilities, Harness, PermissionMode};
pub use input::{Delivery, Input, InputState};
pub use live::LiveText;
pub use narrowing::Narrowing;
pub use prompt::{Prompt, PromptAnswer, PromptRule};
pub use session::{Activity, EndInfo, EndReason, Lifecycle, Session};
pub use task::Task;
pub use token::{Scope, SignInCode, Token, TokenKind, TokenUse};
pub use usage::Usage;
pub use worktree::Worktree;
