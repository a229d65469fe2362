//! Worktrees on this machine, by the real `git` program.
//!
//! Repositories are not trusted: an agent may have written to their configuration, their hooks and their
//! attributes. Every call of git is therefore an argument list with an environment of its own
//! ([`program`]), in which hooks, fsmonitor, filters, drivers, prompts, signing and submodules are off
//! ([`guard`]), with bounded output and a deadline ([`process`]). What git should find out by itself
//! (which directory is whose) is told to it instead ([`repository`]).
//!
//! The rooms's ledger ([`ledger`]) has one file a worktree in the daemon's state directory: what it is,
//! what is being done to it, step by step, and what came of it. A step is written down before it is taken,
//! so that a daemon that was killed knows what to finish or to undo ([`reconcile`]). Nothing is removed
//! that is not in the ledger and does not carry our mark in its git directory.

pub mod fault;

pub mod process;

pub mod program;

pub mod guard;

pub mod lock;

pub mod repository;

pub mod refs;

pub mod tree;

pub mod ledger;

pub mod create;

pub mod look;

pub mod diff;

pub mod snapshot;

pub mod remove;

pub mod merge;

pub mod reconcile;

pub mod room;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use room::{Options, Room};
