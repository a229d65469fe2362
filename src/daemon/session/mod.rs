//! One session on this machine: its runner, its driver, and its way to the server.

pub mod ending;

pub mod fault;

pub mod state;

pub mod remains;

pub mod source;

pub mod interpreter;

pub mod pump;

#[cfg(test)]
mod fuzz;
