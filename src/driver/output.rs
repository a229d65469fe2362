//! What a driver makes of what it reads, and of what it is told.

use bytes::Bytes;

use crate::base::Json;
use crate::domain::event::TransientBody;
use crate::domain::{Actor, CommandResult, ContentRef, EventBody};

/// An event that a driver made; the daemon adds session, time and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// What happened.
    pub body: EventBody,
    /// What the harness wrote, where the body does not say everything.
    pub raw: Option<Json>,
    /// The same, byte for byte, as content that goes with the record ([`Output::Content`]).
    pub raw_content: Option<ContentRef>,
    /// Who caused it, if it was not the harness.
    pub actor: Option<Actor>,
}

impl Draft {
    /// A draft of `body` alone.
    pub fn new(body: EventBody) -> Self {
        Draft {
            body,
            raw: None,
            raw_content: None,
            actor: None,
        }
    }
}

/// What a driver makes of a record. Drafts of one record are stored as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// An event.
    Event(Box<Draft>),
    /// Something live, never stored. Not repeated when a record is interpreted again after a restart.
    Transient(TransientBody),
    /// Large content that an event of this record refers to.
    Content(ContentRef, Bytes),
    /// Something to write to the harness by itself; the id makes it happen once.
    Write(Write),
    /// A command that was waiting for the harness's answer has ended.
    Done(CommandResult),
}

/// Bytes for the harness's standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The id it is written under, once: a command's, or one the driver makes (`drv-…`, deterministic).
    pub id: String,
    /// The bytes.
    pub data: Bytes,
    /// Whether to close standard input after them.
    pub close: bool,
    /// Comes back in the `Written` record.
    pub note: Bytes,
}

/// What a command asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write; the command is applied when the bytes are in the pipe.
    Write(Write),
    /// Write; the driver says with [`Output::Done`] how the command ended.
    WriteAndWait(Write),
    /// End the process: write these bytes, then the ladder (wait, close, SIGTERM, SIGKILL).
    /// Applied when the process has ended.
    Stop {
        /// What to write first; empty for a harness without a polite end.
        polite: Bytes,
        /// Whether to skip the polite steps.
        force: bool,
        /// Comes back in the `Written` record.
        note: Bytes,
    },
    /// There is nothing to do; the command is applied.
    Nothing,
}
