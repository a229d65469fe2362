//! The integration tests: one binary, a module for each capability.

mod support;

mod access;
mod claude_cli;
mod daemon;
mod daemon_server;
mod first_path;
mod hygiene;
mod listener;
mod rooms;
mod runner;
mod serving;
mod sim;
