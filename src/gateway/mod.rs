//! Plain HTTP: signing in, the console, and the dialects of older front ends.
//!
//! Beside `rpc`, and like it a translation only: read, call `app`, write. Absent by design: rules, and
//! whatever `rpc` does; who may call is decided in the server's layers before anything here runs.

pub mod fail;

pub mod routes;

pub mod auth;

pub mod console;

mod rendering;

pub mod views;

pub mod sse;

pub mod ws;

pub mod rest;

#[cfg(test)]
mod fuzz;

pub use fail::Dialect;
pub use routes::{Route, Routes};
