//! The store: what must survive, behind traits that say only what every provider can do.
//!
//! **The journal is the commit.** A [`Commit`] holds everything that belongs together: events appended
//! to streams, changes of records, trims. It is applied whole or not at all, and when
//! [`Journal::commit`] returns, it is on disk for good (see [`Durability`]). Records are projections that
//! a provider can rebuild from the journal.
//!
//! Two providers: [`local`] (journal segments, with sled for records and indexes) and [`memory`] (for
//! tests; can lose what was not synced). [`conformance`] is one suite that both pass.

pub mod conformance;
pub mod local;
pub mod memory;
pub mod retention;

mod contents;
mod entries;
mod keys;
mod lease;
mod outbox;
mod rules;

pub use entries::Entries;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::base::Timestamp;

/// Name of a stream: 1 to 64 bytes of `[A-Za-z0-9_/.-]`. A session's stream has the session's id as its name.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stream(Arc<str>);

impl Stream {
    /// A stream's name; `None` if it has characters that a name may not have.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_/.-".contains(&b));
        fits.then(|| Stream(Arc::from(name)))
    }

    /// The stream of a session's events.
    pub fn session(id: crate::base::id::SessionId) -> Self {
        Stream(Arc::from(id.to_string()))
    }

    /// The stream of what a session's terminal shows.
    pub fn terminal(id: crate::base::id::SessionId) -> Self {
        Stream(Arc::from(format!("term/{id}")))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How far a spool has been stored: which spool, and its last stored record. The default (0, 0) says
/// that nothing came from a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Identifies the spool.
    pub epoch: u64,
    /// Its last record that is stored.
    pub seq: u64,
}

/// The head of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Changes only when the log is made anew.
    pub log_epoch: u64,
    /// The oldest seq there is; `last_seq + 1` when there is none.
    pub first_seq: u64,
    /// The newest seq; 0 before the first.
    pub last_seq: u64,
    /// The highest fence an append carried.
    pub fence: u64,
    /// How far the spool has been stored.
    pub origin: Origin,
    /// When the newest entry was written.
    pub last_time: Timestamp,
}

/// Entries to add to one stream.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream; it is made when `expected_last` is 0 and it does not exist.
    pub stream: Stream,
    /// The seq after which they come: if the stream's last is another, the commit is refused.
    pub expected_last: u64,
    /// At least the highest fence the stream has seen, or the commit is refused.
    pub fence: u64,
    /// The entries, each an encoded `baton.v1.Event` (of a terminal: `baton.v1.TerminalOutput`); may be empty when only `origin` moves.
    pub entries: Entries,
    /// How far the spool is stored with this append; `None` leaves it.
    pub origin: Option<Origin>,
    /// When.
    pub time: Timestamp,
}

/// What a record must be for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Anything.
    Any,
    /// It must not exist.
    Absent,
    /// It must be at this revision.
    Revision(u64),
}

/// A change of one record.
#[derive(Clone, Debug)]
pub struct RecordOp {
    /// Key: 1 to 512 bytes of UTF-8. The part before the first `/` is its table.
    pub key: String,
    /// What it must be now.
    pub expect: Expect,
    /// The new value, at most 4 MiB; `None` deletes it.
    pub value: Option<Bytes>,
}

/// A stream loses its beginning, or all of it.
#[derive(Clone, Debug)]
pub struct Trim {
    /// The stream.
    pub stream: Stream,
    /// The oldest seq that is kept; ignored with `drop`.
    pub first_seq: u64,
    /// Whether the stream is dropped whole, with its content.
    pub drop: bool,
}

/// What belongs together: applied whole, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Appends, at most one a stream.
    pub appends: Vec<Append>,
    /// Changes of records, at most one a key.
    pub ops: Vec<RecordOp>,
    /// Trims.
    pub trims: Vec<Trim>,
}

/// What a commit led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Number of the commit, growing; the revision of every record it changed.
    pub revision: u64,
    /// The head of each appended stream, in the order of `Commit::appends`.
    pub heads: Vec<Head>,
}

/// A run of a stream's entries as they go over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Seq of the first entry.
    pub first_seq: u64,
    /// Seq of the last entry.
    pub last_seq: u64,
    /// The entries, encoded as a `baton.v1.EventBatch` (each entry as its field 1).
    pub bytes: Bytes,
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Key.
    pub key: String,
    /// The commit that wrote it.
    pub revision: u64,
    /// Value.
    pub value: Bytes,
}

/// A record that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordChange {
    /// Key.
    pub key: String,
    /// The commit that changed it.
    pub revision: u64,
    /// Its value now; `None` when it was deleted.
    pub value: Option<Bytes>,
}

/// Why the store refused or failed.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The stream's last seq is not the expected one; nothing was written.
    #[error("stream {stream} is at seq {last}")]
    Conflict {
        /// The stream.
        stream: Stream,
        /// Its last seq.
        last: u64,
    },
    /// A newer owner has written; nothing was written.
    #[error("stream {stream} is fenced at {fence}")]
    Fenced {
        /// The stream.
        stream: Stream,
        /// The fence to have at least.
        fence: u64,
    },
    /// A record is not as expected; nothing was written.
    #[error("record {key} is at revision {revision:?}")]
    Stale {
        /// The record.
        key: String,
        /// Its revision; `None` if it does not exist.
        revision: Option<u64>,
    },
    /// There is no such stream.
    #[error("there is no stream {stream}")]
    NoStream {
        /// The stream.
        stream: Stream,
    },
    /// The position lies before the oldest entry.
    #[error("stream {stream} begins at {}", head.first_seq)]
    Truncated {
        /// The stream.
        stream: Stream,
        /// Its head.
        head: Head,
    },
    /// The position lies after the newest entry.
    #[error("stream {stream} ends at {}", head.last_seq)]
    Future {
        /// The stream.
        stream: Stream,
        /// Its head.
        head: Head,
    },
    /// Deletions of records up to this revision may be forgotten: changes since an older one are not whole.
    #[error("deletions up to revision {through} may be forgotten")]
    Forgotten {
        /// That revision.
        through: u64,
    },
    /// Stored bytes are damaged. The stream is set apart; the others go on.
    #[error("stream {stream} is damaged: {problem}")]
    Corrupt {
        /// The stream.
        stream: Stream,
        /// What is wrong.
        problem: String,
    },
    /// The change itself is malformed (two appends to one stream, a value too large …).
    #[error("malformed change: {0}")]
    Malformed(String),
    /// The disk is full. Nothing was written; it may work later.
    #[error("the disk is full")]
    Full,
    /// The directory cannot be used: locked by another process, of a newer version, or damaged beyond
    /// repair. It was left as it is.
    #[error("{0}")]
    Unusable(String),
    /// Reading or writing failed. After a failed sync the store takes no more writes.
    #[error("the disk failed: {0}")]
    Io(String),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// When a commit counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Durability {
    /// After `fdatasync`; nobody sees it before. The default.
    #[default]
    Fsync,
    /// Synced at this interval. Readers see it after the write; `commit` still returns only after the sync.
    Interval(Duration),
}

/// Appending and reading.
pub trait Journal: Send + Sync + 'static {
    /// Applies a commit. When this returns, it survives a crash, and readers see it. Dropping the
    /// future does not undo it.
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>>;

    /// The head of a stream; `None` if there is none.
    fn head(&self, stream: &Stream) -> BoxFuture<'_, Result<Option<Head>>>;

    /// Entries after `after_seq`, oldest first, in whole runs: at least one if there is one, and no more
    /// once `max_bytes` is reached. Empty at the end.
    /// [`Error::Truncated`] if `after_seq + 1` was trimmed, [`Error::Future`] if `after_seq` is beyond the end.
    fn read(
        &self,
        stream: &Stream,
        after_seq: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Chunk>>>;

    /// Wakes when the stream grows, with its last seq: `read` has the entries. 0 when it was dropped, or before its first.
    fn watch(&self, stream: &Stream) -> watch::Receiver<u64>;

    /// How many wake when the stream grows.
    fn readers(&self, stream: &Stream) -> usize;

    /// The oldest seq of the newest runs of a stream that together have about `max_bytes` (at least the
    /// newest run, not counting what was trimmed); for retention by size. [`Error::NoStream`] if there is none.
    fn seq_within(&self, stream: &Stream, max_bytes: u64) -> BoxFuture<'_, Result<u64>>;

    /// Names of streams in order, after `after`, at most `limit`.
    fn streams(&self, after: Option<&Stream>, limit: usize) -> BoxFuture<'_, Result<Vec<Stream>>>;
}

/// Reading records.
pub trait Records: Send + Sync + 'static {
    /// One record.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>>;

    /// Records whose key starts with `prefix`, in key order, after `after`, at most `limit`.
    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>>;

    /// The same, in descending key order, before `before`.
    fn scan_back(
        &self,
        prefix: &str,
        before: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>>;

    /// Changes after `revision` of keys that start with `prefix`, each key's newest only, oldest first, at
    /// most `limit` keys (a commit's changes are not split); nothing says that there are no more. The last
    /// 10,000 deletions are remembered; after an older revision (but 0, whose reader has nothing that could
    /// be gone) it is [`Error::Forgotten`].
    fn changes(
        &self,
        prefix: &str,
        revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<RecordChange>>>;

    /// Wakes with the revision of the newest commit that changed records.
    fn watch_revision(&self) -> watch::Receiver<u64>;
}

/// A lease that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub name: String,
    /// Who has it.
    pub owner: String,
    /// Grows with every new owner; what the owner writes carries it.
    pub fence: u64,
    /// When it ends unless renewed.
    pub expires: Timestamp,
}

/// Leases: who may act for a time.
pub trait Leases: Send + Sync + 'static {
    /// Takes a lease, or takes it over when it has expired or is `owner`'s own; a fence higher than any
    /// before. `Ok(None)`: somebody else has it.
    fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<Lease>>>;
    /// Renews a lease. `Ok(None)`: it is no longer held under that fence.
    fn renew(&self, lease: &Lease, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>>>;
    /// Gives a lease back; nothing happens if it is no longer held.
    fn release(&self, lease: &Lease) -> BoxFuture<'_, Result<()>>;
}

/// Commands on their way to a daemon: put in the same [`Commit`] as their cause, removed with their result.
pub trait Outbox: Send + Sync + 'static {
    /// The change that puts an entry in; `order` sorts the entries of a daemon (a command id does).
    fn put_op(&self, daemon: &str, order: &str, value: Bytes) -> RecordOp;
    /// The change that removes an entry.
    fn remove_op(&self, daemon: &str, order: &str) -> RecordOp;
    /// A daemon's entries in order after `after`, at most `limit`; each `Record::key` is reduced to its order.
    fn pending(
        &self,
        daemon: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>>;
}

/// Large content beside the log, named by its SHA-256 (lower-case hex).
pub trait Contents: Send + Sync + 'static {
    /// Adds a piece at `offset`. Pieces come in order; one that is there already is ignored. With the last
    /// piece the hash is checked and the content synced: `Ok(true)` = it is whole and safe.
    /// [`Error::Malformed`]: wrong hash, or a piece out of order (what was staged is dropped).
    fn stage(
        &self,
        sha256: &str,
        size: u64,
        offset: u64,
        data: Bytes,
    ) -> BoxFuture<'_, Result<bool>>;
    /// Size of whole content; `None` if it is not there.
    fn size(&self, sha256: &str) -> BoxFuture<'_, Result<Option<u64>>>;
    /// Bytes from `offset`, at most `max`; empty at the end.
    fn read_content(&self, sha256: &str, offset: u64, max: usize) -> BoxFuture<'_, Result<Bytes>>;
    /// The change that says that a stream refers to content; content nobody refers to is removed by compaction.
    /// Removing the record takes it back; a stream that is dropped takes all of its own along.
    fn refer_op(&self, stream: &Stream, sha256: &str) -> RecordOp;
    /// Whether a stream refers to content.
    fn refers(&self, stream: &Stream, sha256: &str) -> BoxFuture<'_, Result<bool>>;
}

/// What a provider is: all of the traits at once.
pub trait Store: Journal + Records + Leases + Outbox + Contents {
    /// Finishes what is under way, syncs and closes. Later calls answer [`Error::Closed`].
    fn close(&self) -> BoxFuture<'_, Result<()>>;
}

/// A store that many owners hold.
pub type SharedStore = Arc<dyn Store>;
