//! One file a gRPC service: authenticate, convert in, one `app` call, convert out.

mod caller;
mod fail;

pub mod access;

pub mod agents;

pub mod budgets;

pub mod system;

pub mod sessions;

pub mod events;

pub mod prompts;

pub mod terminals;

pub mod daemons;

pub mod scheduler;
pub mod tasks;
pub mod worktrees;

pub mod link;

pub use caller::caller;
pub use fail::status;

/// Largest message that is taken or given, in bytes; set on every service, both ways.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
