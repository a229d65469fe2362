//! Agents: lasting identities with a role. What runs is a session; an agent has one at a time.

mod follow;
mod hold;
mod keep;
mod look;
mod ready;
mod run;
mod talk;

pub use follow::{AgentItem, AgentReader, Begin};
pub use keep::MAX_AGENTS;
pub(in crate::app) use look::Triggered;
pub use look::{AgentFilter, AgentStatus, Agents, ShownAgent};
pub use ready::{ReadyCheck, Resumed};
pub use run::{ResumeAgent, StartAgent};
pub(in crate::app) use run::{new_session, title};
