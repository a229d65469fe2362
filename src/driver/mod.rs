//! Drivers: what agent programs write becomes events, and commands become what they read.
//!
//! A [`Driver`] is the interpreter of one running session: a deterministic state machine over the records of
//! the session's spool. It does no IO and keeps no clock: the same records always give the same events with
//! the same ids, so that a daemon that restarts, or a newer one, can take over in mid-session from a snapshot.
//! How a program is found and started is its daemon's business and not here.

pub mod acp;
pub mod claude;
pub mod codex;
pub mod command;
pub mod terminal;

mod gathered;
mod line;
mod output;
mod pieces;
mod record;
mod rpc;
mod shown;
mod step;

#[cfg(test)]
mod fuzz;

use crate::base::Error;
use crate::domain::Command;

pub use gathered::{Gathered, link_record};
pub use output::{Action, Draft, Output, Write};
pub use record::{Place, Record, RecordBody, WriteOutcome};

/// The interpreter of one session.
pub trait Driver: Send {
    /// What to write first, right after the process was spawned. Repeating it is harmless: ids make it once.
    fn begin(&mut self) -> Vec<Write>;

    /// A daemon has taken over a running process (its own restart, or an upgrade): what to write so that
    /// open requests come again. `generation` differs between take-overs.
    fn resync(&mut self, generation: u64) -> Vec<Write>;

    /// Interprets one record. Never panics, whatever the bytes are; what it does not know becomes a
    /// `Notice` with the bytes in `raw`.
    fn record(&mut self, record: &Record) -> Vec<Output>;

    /// Turns a command (any but `Start`) into an action, or refuses it. It may read the driver's state
    /// but what it changes must come back through the `Written` record.
    fn command(&mut self, command: &Command) -> Result<Action, Error>;

    /// The state after the last record, to go on from in a later process.
    fn snapshot(&self) -> Vec<u8>;
}
