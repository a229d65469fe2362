//! The link between a daemon and the server as two state machines without IO.
//!
//! Each side is told what arrived and what time it is, and is asked what to send and what happened.
//! Both are driven by real streams in `rpc` and `daemon`, and by a seeded simulation in the tests: the
//! code that decides is the same. Nothing here panics on what a peer sends; what a peer may not send
//! ends the link with a typed error, or touches one session only where that is possible.
//!
//! Absent by design: who may connect, what an event means, how a record is stored.

pub mod frame;

pub mod limits;

pub mod backoff;
pub mod credit;
pub mod lease;

mod outgoing;

pub mod daemon_link;

mod incoming;

pub mod server_link;

pub use backoff::Backoff;
pub use credit::Credit;
pub use daemon_link::{DaemonEvent, DaemonLink, Refused};
pub use frame::{
    ContentAck, ContentChunk, Down, Found, Gap, Goodbye, Heartbeat, Hello, Position, Query,
    QueryBody, QueryResult, Record, RecordEvent, Records, SessionReport, SessionState, Up, Welcome,
};
pub use lease::Lease;
pub use limits::{DaemonLimits, ServerLimits};
pub use server_link::{ServerEvent, ServerLink};

/// The oldest protocol this program speaks.
pub const PROTOCOL_MIN: u32 = 1;
/// The newest protocol this program speaks.
pub const PROTOCOL_MAX: u32 = 1;
