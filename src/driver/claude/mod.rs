//! Claude Code, driven headless: lines of JSON on its standard input and output, with its control
//! protocol in them. Whatever else speaks like it is read by the same driver.
//!
//! Not here: answers to permissions by rule or mode (the server decides over prompts, so the agent is always
//! started in the mode that asks), files of the agent, hooks.

mod interpreter;
mod state;
mod step;

mod blocks;
mod deltas;
mod limits;
mod system;
mod turns;
mod usage;

mod answer;
mod control;
mod model;
mod prompts;
mod suggestions;

#[cfg(test)]
mod tests;

pub use interpreter::ClaudeDriver;
pub use model::check_model;
