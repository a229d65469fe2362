//! The integration tests: one binary, a module for each capability.

mod claude_cli;
mod runner;
mod support;
