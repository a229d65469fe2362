//! The facts of a history.

use serde::{Deserialize, Serialize};

/// One fact, and who told it when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its place in the history: logical time.
    pub at: u64,
    /// Milliseconds since the history began: wall time, for people only.
    pub ms: u64,
    /// Who tells it.
    pub who: String,
    /// What.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What happened. A `log` is a session's log or a stream of the store, `hash` stands for an entry's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    // === writing ===
    /// A program wrote an item of a log; `may_miss`: what held it was damaged since.
    Wrote {
        log: String,
        item: String,
        may_miss: bool,
    },
    /// A commit with these entries was handed over, all or nothing.
    Sent { log: String, first: u64, last: u64 },
    /// Somebody was told that these entries are there for good.
    Acked {
        log: String,
        first: u64,
        hashes: Vec<u64>,
    },
    /// Somebody was told that an item is in a log for good.
    Promised { log: String, item: String },
    /// A log may let go of what is before `first`.
    Trimmed { log: String, first: u64 },
    /// The whole log as it was read when it was at rest.
    Stored {
        log: String,
        epoch: u64,
        first: u64,
        hashes: Vec<u64>,
    },
    /// The items of a log as they were read, in order; `gap` stands for a gap. `whole`: nothing more comes.
    Holds {
        log: String,
        items: Vec<String>,
        whole: bool,
    },

    // === reading; the reader is the one who tells ===
    /// A stream was opened behind `after`.
    Opened { log: String, after: u64 },
    /// An entry was seen.
    Saw { log: String, seq: u64, hash: u64 },
    /// Everything up to here is said to have been seen.
    Progress { log: String, seq: u64 },
    /// A read was over, here.
    ReadTo { log: String, seq: u64 },
    /// The reader was told that nothing before `oldest` is left.
    Truncated { log: String, oldest: u64 },
    /// The reader has all there is.
    CaughtUp { log: String, seq: u64 },
    /// The reader was cut, with this code.
    Cut { log: String, code: String },
    /// Somebody asked to go on behind `after` in the log's epoch `epoch` while the log went from `was` to `is`
    /// (epoch, first, head).
    Asked {
        log: String,
        epoch: u64,
        after: u64,
        was: (u64, u64, u64),
        is: (u64, u64, u64),
        told: Told,
    },

    // === commands and prompts ===
    /// A command was given.
    Given { command: String },
    /// A command has had its effect.
    Effect { command: String },
    /// It cannot be known whether a command had its effect: somebody died in the middle of it.
    Doubted { command: String },
    /// What is on record of a command at the end: `applied`, `rejected`, `indeterminate`, `withdrawn`.
    Outcome { command: String, outcome: String },
    /// Nothing on record of a command at the end.
    NoOutcome { command: String },
    /// Somebody answered a prompt in the name of `by` and was told `accepted` or a code.
    Answered {
        prompt: String,
        by: String,
        allow: bool,
        told: String,
    },
    /// What a prompt asks for was done.
    Acted { prompt: String },

    // === processes ===
    /// A process was killed: at a point, or anywhere.
    Killed {
        process: String,
        point: Option<String>,
    },
    /// A process is up again.
    Started { process: String },
    /// A session's program was seen to run in this process.
    Runs { session: String, pid: i32 },
    /// Processes that a session left after it was stopped.
    Left { session: String, pids: Vec<i32> },
    /// A machine is away with these sessions, longer than it may.
    Vanished { machine: String, logs: Vec<String> },
    /// A machine is back.
    Returned { machine: String },
    /// A session ended, for a reason.
    Ended { log: String, reason: String },
    /// A machine is linked.
    Linked { machine: String },

    // === load ===
    /// The way of a log into the store stands still.
    Stalled { log: String },
    /// It goes again.
    Unstalled { log: String },
    /// Something that is bounded was measured.
    Measured {
        what: String,
        value: u64,
        bound: u64,
    },
    /// A request was answered: `ok` or a code; and when to come again.
    Request {
        id: String,
        told: String,
        retry_ms: Option<u64>,
    },
    /// What an accepted request asked for is done.
    Done { id: String },
    /// Something malformed was refused with this code.
    Refused { what: String, code: String },
    /// A process panicked.
    Panicked { process: String, message: String },
}

/// What somebody was told who asked to go on somewhere in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It goes on, the next entry being this one.
    GoesOn(u64),
    /// What was asked for is gone; this is the oldest.
    Truncated(u64),
    /// Refused with a code, and with what there is: epoch, first, head.
    Refused(String, (u64, u64, u64)),
}

impl Fact {
    /// A process was killed anywhere.
    pub fn killed(process: &str) -> Self {
        Fact::Killed {
            process: process.to_owned(),
            point: None,
        }
    }

    /// A process was killed at a point.
    pub fn killed_at(process: &str, point: &str) -> Self {
        Fact::Killed {
            process: process.to_owned(),
            point: Some(point.to_owned()),
        }
    }

    /// A process is up again.
    pub fn started(process: &str) -> Self {
        Fact::Started {
            process: process.to_owned(),
        }
    }
}
