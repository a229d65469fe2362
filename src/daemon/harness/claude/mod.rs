//! Claude Code and the scripted agent within this binary that speaks like it: how they are found, probed and
//! launched. [`crate::driver::claude`] reads what both write.

mod kind;
mod probe;

#[cfg(test)]
mod tests;

pub use kind::{ClaudeCode, Demo};
pub use probe::ClaudeOptions;
