//! The integration tests: one binary, a module for each capability.

mod hygiene;
mod rooms;
mod claude_cli;
mod runner;
mod support;
//! The integration tests: one binary, one module a capability.
mod access;
mod listener;
mod serving;
