//! Claude Code, driven headless: lines of JSON on its standard input and output, with its control
//! protocol in them.
//!
//! [`ClaudeCode`] finds and launches the program, [`Demo`] launches the scripted agent within this binary,
//! and one driver reads both. Not here: answers to permissions by rule or mode (the server decides over
//! prompts, so the agent is always started in the mode that asks), files of the agent, hooks.

mod kind;
mod probe;

mod driver;
mod state;
mod step;

mod line;

mod blocks;
mod deltas;
mod limits;
mod system;
mod turns;
mod usage;

mod answer;
mod control;
mod prompts;
mod suggestions;

#[cfg(test)]
mod tests;

pub use kind::{ClaudeCode, Demo};
pub use probe::ClaudeOptions;
