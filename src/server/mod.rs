//! Options, the one-port accept loop, tower layers, background jobs, drain.

pub mod config;
pub mod options;

pub mod bind;
pub mod connection;
pub mod drain;
mod io;
pub mod listener;
pub mod tls;
