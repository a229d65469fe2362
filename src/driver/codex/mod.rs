//! Codex, through `codex app-server`: lines of JSON-RPC on its standard input and output. Read by hand, as much of it
//! as is needed; `codex app-server generate-json-schema` says the whole for the installed version (written for
//! 0.169).
//!
//! Codex runs what its sandbox allows without asking, and asks before it leaves it: so that it asks about every change,
//! it gets a sandbox that can only read. Not here: answers by rule or mode (the server decides over prompts).

mod interpreter;
mod state;
mod step;

mod asks;
mod items;
mod session;
mod turns;

#[cfg(test)]
mod tests;

pub use interpreter::CodexDriver;
