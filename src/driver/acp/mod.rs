//! Any agent that speaks the Agent Client Protocol (version 1): lines of JSON-RPC on its standard input and output.
//!
//! The types are those of the protocol's own crate; lines are read by a bounded codec of ours, since what an agent
//! writes is hostile until it is understood. Of what a client can offer, only questions about tools are offered
//! (`session/request_permission`): the agent runs on the daemon's machine and reads, writes and runs by itself, so
//! the client's files and terminals would be a second way to the same ones, past what the agent asks about.
//!
//! Not here: answers to permissions by rule or mode (the server decides over prompts, so the agent is put into a
//! mode that asks), how an agent is found and started.

mod interpreter;
mod state;
mod step;

mod calls;
mod diff;
mod said;
mod session;
mod updates;

mod answer;
mod permission;
mod tools;
mod turns;

#[cfg(test)]
mod tests;

pub use interpreter::AcpDriver;
