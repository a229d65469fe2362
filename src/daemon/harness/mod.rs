//! The kinds of agent program a daemon can run, behind one trait.
//!
//! A [`HarnessKind`] knows how to find, probe and launch a program. A [`Driver`] is the interpreter of
//! one running session: a deterministic state machine over the records of the session's spool. It does
//! no IO and keeps no clock: the same records always give the same events with the same ids, so that a
//! daemon that restarts, or a newer one, can take over in mid-session from a snapshot.

pub mod claude;
pub mod command;
pub mod demo;
pub mod registry;

use bytes::Bytes;

use crate::base::id::{InputId, PromptId, SessionId, TurnId};
use crate::base::{Error, Json, Timestamp};
use crate::domain::command::StartCommand;
use crate::domain::event::TransientBody;
use crate::domain::{Actor, Capabilities, Command, CommandResult, ContentRef, EventBody, Harness};

/// One raw thing that a runner recorded, as a driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number in the spool, from 1 without gaps.
    pub seq: u64,
    /// When the runner read it.
    pub time: Timestamp,
    /// What it is.
    pub body: RecordBody,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordBody {
    /// The harness runs.
    Spawned {
        /// Its process id.
        pid: u32,
    },
    /// A line of standard output without its end, or a part of one.
    Stdout {
        /// The bytes.
        data: Bytes,
        /// Whether the line goes on in the next stdout record.
        continues: bool,
    },
    /// A line of standard error, or a part of one.
    Stderr {
        /// The bytes.
        data: Bytes,
        /// Whether the line goes on in the next stderr record.
        continues: bool,
    },
    /// Something was written to the harness's standard input, or a stop was begun.
    Written {
        /// The id it was written under: a command's, or one that a driver made.
        id: String,
        /// The note that came with it.
        note: Bytes,
        /// How it ended.
        outcome: WriteOutcome,
        /// Why it failed.
        reason: String,
    },
    /// The harness ended.
    Exited {
        /// Exit code, if it exited.
        code: Option<i32>,
        /// Signal that ended it; 0 if none did.
        signal: i32,
        /// The step of a stop that ended it: none, polite, close, term, kill.
        step: String,
        /// A sentence for people, when it could not even start or its runner died.
        message: String,
    },
    /// Records are missing.
    Missing {
        /// The first one.
        from: u64,
        /// The last one.
        to: u64,
        /// Why.
        reason: String,
    },
}

/// How a write to a harness ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// All bytes are in the pipe.
    Done,
    /// None are.
    Failed,
    /// Some may be: a crash fell between the intent and the result.
    Unknown,
}

/// Where a driver stands while it interprets: the source of its ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The session.
    pub session_id: SessionId,
    /// Identifies the spool.
    pub origin_epoch: u64,
}

impl Place {
    /// The id of the `n`th prompt of a record: the same for ever.
    pub fn prompt_id(&self, record: &Record, n: u32) -> PromptId {
        PromptId::new(record.time, self.entropy(record, n, b"prompt"))
    }

    /// The id of the `n`th turn of a record.
    pub fn turn_id(&self, record: &Record, n: u32) -> TurnId {
        TurnId::new(record.time, self.entropy(record, n, b"turn"))
    }

    /// The id of the `n`th input that a record brought by itself.
    pub fn input_id(&self, record: &Record, n: u32) -> InputId {
        InputId::new(record.time, self.entropy(record, n, b"input"))
    }

    fn entropy(&self, record: &Record, n: u32, kind: &[u8]) -> u128 {
        use sha2::{Digest, Sha256};
        let digest = Sha256::new()
            .chain_update(self.session_id.bits().to_be_bytes())
            .chain_update(self.origin_epoch.to_be_bytes())
            .chain_update(record.seq.to_be_bytes())
            .chain_update(n.to_be_bytes())
            .chain_update(kind)
            .finalize();
        let mut bits = [0; 16];
        bits.copy_from_slice(&digest[..16]);
        u128::from_be_bytes(bits)
    }
}

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

    /// The state after the last record, to be given to [`HarnessKind::driver`] by a later daemon.
    fn snapshot(&self) -> Vec<u8>;
}

/// How to start a harness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Program (absolute path) and arguments; options as `--flag=value`, never text from people.
    pub argv: Vec<String>,
    /// Environment variables the harness needs beside the session's own.
    pub env: Vec<(String, String)>,
}

/// A kind of agent program.
pub trait HarnessKind: Send + Sync {
    /// Its name: claude-code, command, demo.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Looks whether it can be used on this machine: version, login, and why not. May start the program
    /// for a moment; called at the daemon's start and now and then.
    fn probe(&self) -> Harness;

    /// How to start it for this command. Refuses what it cannot do.
    fn launch(&self, session_id: SessionId, start: &StartCommand) -> Result<Launch, Error>;

    /// The interpreter of a session, new or from a snapshot.
    fn driver(
        &self,
        place: Place,
        start: &StartCommand,
        snapshot: Option<&[u8]>,
    ) -> Result<Box<dyn Driver>, Error>;
}
