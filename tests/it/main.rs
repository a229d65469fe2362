//! The integration tests: one binary, a module for each capability.

mod support;

mod access;
mod browser;
mod canary;
mod claude_cli;
mod coverage;
mod crash;
mod daemon;
mod daemon_server;
mod e2e_claude;
mod first_path;
mod hygiene;
mod limits;
mod listener;
mod rooms;
mod runner;
mod serving;
mod sim;
mod store_crash;
