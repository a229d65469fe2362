//! The integration tests: one binary, a module for each capability.

mod support;

mod access;
mod away;
mod browser;
mod canary;
mod claude_cli;
mod claude_modes;
mod commands;
mod coverage;
mod crash;
mod daemon;
mod daemon_server;
mod daemon_socket;
mod e2e_claude;
mod first_path;
mod gateway_limits;
mod hangup;
mod hygiene;
mod limits;
mod listener;
mod live;
mod narrowing;
mod odd_output;
mod ownership;
mod permissions;
mod relay_dialect;
mod retention;
mod rooms;
mod routes;
mod runner;
mod serving;
mod sim;
mod steering;
mod store_crash;
mod tls;
