//! The messages of the link, as `proto/baton/link/v1/link.proto` tells them.

use std::time::Duration;

use bytes::Bytes;

use super::credit::Credit;
use crate::base::id::{CommandId, DaemonId, SessionId};
use crate::base::{Error, Timestamp};
use crate::domain::daemon::{Directory, DirectoryQuery, Offer};
use crate::domain::terminal::{Act, Output};
use crate::domain::{Command, CommandResult, Event, EventBody, Transient, worktree};

/// A place in a session's spool. The order is that of time: a higher epoch is a younger spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Identifies the spool; grows when the numbering begins anew. 0 before there is one.
    pub origin_epoch: u64,
    /// A record's number, from 1; 0 is before the first.
    pub origin_seq: u64,
}

impl Position {
    /// The place of a record.
    pub const fn new(origin_epoch: u64, origin_seq: u64) -> Self {
        Position {
            origin_epoch,
            origin_seq,
        }
    }
}

/// Records that are missing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first missing record.
    pub from_origin_seq: u64,
    /// The last missing record.
    pub to_origin_seq: u64,
    /// Why it is missing.
    pub reason: String,
}

/// An event of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordEvent {
    /// One that was made here, or that is looked at on its way.
    Whole {
        /// The event.
        event: Box<Event>,
        /// Its own encoding as it came, where it says what the event says and may be stored as it is; else empty.
        came: Bytes,
    },
    /// One that was found to be of the record's session and [only kept](Event::is_only_kept): its encoding as it came.
    /// Most events are such, and what nobody looks at is not carried along.
    Kept(Bytes),
}

impl RecordEvent {
    /// The event, unless it is only kept.
    pub fn whole(&self) -> Option<&Event> {
        match self {
            RecordEvent::Whole { event, .. } => Some(event),
            RecordEvent::Kept(_) => None,
        }
    }
}

impl From<Event> for RecordEvent {
    fn from(event: Event) -> Self {
        RecordEvent::Whole {
            event: Box::new(event),
            came: Bytes::new(),
        }
    }
}

/// One record of a runner, with what a driver made of it. It is stored whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1.
    pub origin_seq: u64,
    /// The events, without seq; none if there was nothing to say.
    pub events: Vec<RecordEvent>,
    /// What is missing before this one. It must name every missing record: `to_origin_seq + 1` is this
    /// record's number.
    pub gap: Option<Gap>,
    /// When the runner read it.
    pub time: Timestamp,
    /// What it brought for the session's terminal.
    pub output: Option<Output>,
    /// About how many bytes its events take on the wire; what credit counts.
    pub size_bytes: u64,
}

impl Record {
    /// Whether it says that the session has ended.
    pub fn is_end(&self) -> bool {
        let mut said = self.events.iter().filter_map(RecordEvent::whole);
        said.any(|event| matches!(event.body, EventBody::Ended { .. }))
    }

    /// What the record costs of a credit.
    pub fn cost(&self) -> Credit {
        Credit {
            events: self.events.len().max(1) as u64,
            bytes: self.size_bytes.max(1),
        }
    }
}

/// Records of one session, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records {
    /// The session.
    pub session_id: SessionId,
    /// The spool the numbers belong to.
    pub origin_epoch: u64,
    /// The record sent before the first of these, or the place where a reset said to go on: what is left of
    /// an older spool is not skipped unnoticed.
    pub previous: Position,
    /// The records.
    pub records: Vec<Record>,
}

/// A piece of large content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentChunk {
    /// The session that will refer to it.
    pub session_id: SessionId,
    /// SHA-256 of the whole, lower-case hex.
    pub sha256: String,
    /// Size of the whole in bytes.
    pub size_bytes: u64,
    /// Where this piece starts.
    pub offset: u64,
    /// The piece.
    pub data: Bytes,
}

/// How far large content is staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentAck {
    /// The session.
    pub session_id: SessionId,
    /// The content.
    pub sha256: String,
    /// Every byte before this one is staged; the size of the whole when it is stored for good.
    pub next_offset: u64,
    /// Whether pieces after it were dropped and are to be sent again.
    pub resend: bool,
}

/// Where a session is on the daemon's machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// The session.
    pub session_id: SessionId,
    /// Identifies its spool.
    pub origin_epoch: u64,
    /// The last record the runner has.
    pub last_origin_seq: u64,
    /// The last record the daemon knows to be stored.
    pub acked_origin_seq: u64,
    /// Whether the process lives.
    pub alive: bool,
}

/// The daemon introduces itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest protocol it speaks.
    pub protocol_min: u32,
    /// The newest protocol it speaks.
    pub protocol_max: u32,
    /// Its id.
    pub daemon_id: DaemonId,
    /// Grows with every start of the daemon.
    pub boot_generation: u64,
    /// Grows with every connection that this start of the daemon makes.
    pub attempt: u64,
    /// What it can run.
    pub offer: Offer,
    /// Every session it has a runner or unsent records for.
    pub sessions: Vec<SessionReport>,
}

/// What the server has of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionState {
    /// The session.
    pub session_id: SessionId,
    /// The last record that is stored.
    pub stored: Position,
    /// What may be unacknowledged.
    pub credit: Credit,
}

/// The server's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol chosen.
    pub protocol: u32,
    /// The epoch of this link.
    pub link_epoch: u64,
    /// Silence that makes a link lost.
    pub lease: Duration,
    /// How often to send a heartbeat.
    pub heartbeat_interval: Duration,
    /// The daemon's own sessions.
    pub sessions: Vec<SessionState>,
    /// Sessions that are not the daemon's to run.
    pub foreign: Vec<SessionId>,
    /// What may be unacknowledged on the whole link.
    pub link_credit: Credit,
    /// Version of the server.
    pub server_version: String,
}

/// Alive, and how far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Counts up from 1 in each direction.
    pub count: u64,
    /// The sender's time.
    pub time: Timestamp,
    /// Records waiting to be acknowledged, from the daemon.
    pub backlog_records: u64,
    /// Bytes waiting to be acknowledged, from the daemon.
    pub backlog_bytes: u64,
}

/// The link ends on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goodbye {
    /// Why.
    pub reason: String,
    /// Whether the daemon's machine goes away too, with all its agents.
    pub sessions_end: bool,
}

/// Something to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryBody {
    /// A directory's entries.
    ListDirectory(DirectoryQuery),
    /// Something for a session's terminal.
    Terminal {
        /// The session.
        session_id: SessionId,
        /// What to do.
        act: Act,
    },
    /// Something about worktrees, to do or to look up.
    Worktree(Box<worktree::Order>),
}

impl Query {
    /// Whether it is for a session's process, and not for the machine.
    pub fn is_for_a_session(&self) -> bool {
        matches!(self.body, QueryBody::Terminal { .. })
    }
}

/// What a query has found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A directory's entries.
    Directory(Directory),
    /// What came of an order about worktrees.
    Worktree(Box<worktree::Answer>),
    /// A terminal did what was asked.
    Terminal,
}

/// A query, lost with the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Id, unique within the link.
    pub id: u64,
    /// What to look up.
    pub body: QueryBody,
}

/// The answer to a query.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The query.
    pub id: u64,
    /// What was found, or why there is no answer.
    pub result: Result<Found, Error>,
}

/// A message up the link.
#[derive(Clone, Debug)]
pub enum Up {
    /// First, and only then.
    Hello(Box<Hello>),
    /// Records of one session.
    Records(Records),
    /// Something live.
    Transient(Transient),
    /// How a command ended.
    CommandResult(CommandResult),
    /// Alive.
    Heartbeat(Heartbeat),
    /// The link ends on purpose.
    Goodbye(Goodbye),
    /// A piece of large content.
    ContentChunk(ContentChunk),
    /// What the daemon can run has changed.
    Offer(Box<Offer>),
    /// The answer to a query.
    QueryResult(QueryResult),
    /// A session appeared, or its process is gone.
    SessionReport(SessionReport),
}

/// A message down the link.
#[derive(Clone, Debug)]
pub enum Down {
    /// First, and only then.
    Welcome(Box<Welcome>),
    /// Something to do.
    Command(Box<Command>),
    /// What is stored, and what may be unacknowledged from now on.
    Ack(SessionState),
    /// A result is known for good.
    ResultAck {
        /// The command.
        command_id: CommandId,
        /// The session.
        session_id: SessionId,
    },
    /// Alive.
    Heartbeat(Heartbeat),
    /// The server goes away; come back.
    Drain {
        /// Not before this.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// Send a session's records again.
    Reset {
        /// The session.
        session_id: SessionId,
        /// Start after this record.
        after: Position,
        /// Why.
        reason: String,
    },
    /// Something to look up.
    Query(Query),
    /// A session is not this daemon's to run.
    Foreign {
        /// The session.
        session_id: SessionId,
        /// Why.
        reason: String,
    },
    /// How far large content is staged.
    ContentAck(ContentAck),
}
