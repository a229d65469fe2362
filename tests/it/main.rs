//! The integration tests: one binary, a module for each capability.

mod support;

mod access;
mod canary;
mod claude_cli;
mod crash;
mod coverage;
mod e2e_claude;
mod daemon;
mod daemon_server;
mod first_path;
mod hygiene;
mod limits;
mod listener;
mod rooms;
mod runner;
mod serving;
mod sim;
