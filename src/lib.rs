//! Baton: the control plane for coding agents.
//!
//! One binary is the server, the daemon that runs agents on a machine, the runner that holds one
//! agent process, and the command line. The rooms below are listed in reading order; an import may
//! only point to a room above its own (`tests/it/rooms.rs` names any that does not).

pub mod base;

pub mod domain;

pub mod wire;

pub mod driver;

pub mod store;

pub mod relay;

pub mod app;

pub mod rpc;

pub mod gateway;

pub mod server;

pub mod daemon;

pub mod client;

pub mod bench;

pub mod cli;
