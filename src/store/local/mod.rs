//! The embedded provider: a journal of segment files that is the truth, and sled beside it to look things
//! up in.
//!
//! ```text
//! LOCK                     held while a process has the store; names its pid
//! FORMAT                   version of the layout
//! INDEX                    whether `index/` may be trusted at the next start
//! journal/<id>-<gen>.seg   segments: frames of commits; sealed ones end with a footer (see `segment`)
//! snapshots/snapshot-<lsn> heads and records up to a commit
//! index/                   sled: heads, records, where a stream's entries are; can be thrown away
//! content/ab/<sha256>      large content; content/staging/ while it arrives
//! ```
//!
//! **Commit.** One writer thread takes all commits that wait, judges each, writes their frames with one
//! write and one `fdatasync`, applies them to the index, wakes readers and answers. Nobody sees a commit
//! before its sync (with [`Durability::Interval`]: before its write; the answer still waits for the sync).
//!
//! **Open.** Footers say what sealed segments hold; only the tail is scanned. A torn tail is cut off. The
//! index is caught up from the journal, or built anew from the newest snapshot and the journal when it is
//! missing, damaged, ahead of the journal, or may have suffered from a power failure.
//!
//! **Memory** does not grow with what is stored: heads and tails are bounded, and only the segments that
//! are not sealed yet have their runs in memory.
//!
//! Threads are the provider's own; reading from disk uses the blocking pool of the caller's tokio runtime.

pub mod check;
pub mod compact;
pub mod disk;
pub mod export;
pub mod fault;

mod content;
mod frame;
mod heads;
mod helper;
mod index;
mod items;
mod lock;
mod queue;
mod read;
mod recover;
mod runs;
mod segment;
mod segments;
mod snapshot;
mod table;
mod tail;
mod writer;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::{
    Chunk, Commit, Committed, Durability, Error, Head, Journal, Lease, Leases, Outbox, Record,
    RecordChange, RecordOp, Records, Result, Store, Stream, contents, keys, lease, outbox,
};
use crate::base::{SharedClock, SystemClock};
use disk::{SharedDisk, SystemDisk};
use heads::Heads;
use index::Index;
use queue::Queue;
use segments::Segments;
use tail::Tails;

pub use recover::Damage;

/// How to open a local store.
#[derive(Clone)]
pub struct Options {
    /// The store's directory; made if it is not there.
    pub dir: PathBuf,
    /// When a commit counts as done.
    pub durability: Durability,
    /// Size at which a segment is full, in bytes; at most 1 GiB.
    pub segment_bytes: u64,
    /// How far the active segment is filled with zeros ahead, in bytes.
    pub fill_bytes: u64,
    /// Bytes of commits at which a group is written.
    pub group_bytes: usize,
    /// Commits that may wait for the writer; beyond that, callers wait.
    pub queue: usize,
    /// Memory of the index's page cache, in bytes.
    pub cache_bytes: u64,
    /// Newest bytes of a watched stream that are kept in memory.
    pub tail_bytes: usize,
    /// The same over all watched streams.
    pub tails_bytes: usize,
    /// Heads that are kept in memory at least.
    pub heads: usize,
    /// Free bytes below which only commits are taken that let go of something; 0 takes all as long as they fit.
    pub reserve_bytes: u64,
    /// How long new content is kept although nobody refers to it.
    pub content_grace: Duration,
    /// What leases go by.
    pub clock: SharedClock,
    /// The disk beneath the journal; tests put another here.
    pub disk: SharedDisk,
}

impl Options {
    /// The defaults, for a directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Options {
            dir: dir.into(),
            durability: Durability::Fsync,
            segment_bytes: 64 << 20,
            fill_bytes: 4 << 20,
            group_bytes: 8 << 20,
            queue: 1024,
            cache_bytes: 64 << 20,
            tail_bytes: 128 << 10,
            tails_bytes: 64 << 20,
            heads: 16 << 10,
            reserve_bytes: 64 << 20,
            content_grace: Duration::from_secs(60 * 60),
            clock: SystemClock::shared(),
            disk: Arc::new(SystemDisk),
        }
    }
}

/// How far a long piece of work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, for people.
    pub phase: &'static str,
    /// Units done: bytes of segments, entries, or contents, as `phase` says.
    pub done: u64,
    /// Units in all, if known.
    pub total: Option<u64>,
}

/// A store in a directory of this machine.
pub struct LocalStore {
    core: Arc<Core>,
    running: Arc<Mutex<Option<Running>>>,
    damage: Vec<Damage>,
}

/// How long closing waits for readers.
const MAX_CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What ends when the store is closed.
struct Running {
    writer: JoinHandle<()>,
    helper: JoinHandle<()>,
    /// Disconnected when the last reader has let go of the index.
    index_gone: Receiver<()>,
    lock: lock::Lock,
}

/// What the threads and readers share.
struct Core {
    options: Options,
    index: RwLock<Option<Arc<Index>>>,
    segments: Segments,
    heads: Heads,
    tails: Tails,
    queue: Queue,
    revision: watch::Sender<u64>,
    /// Streams that are set apart, and why.
    apart: RwLock<HashMap<Stream, String>>,
    contents: content::Contents,
    /// Why nothing is written any more.
    failed: RwLock<Option<Error>>,
    /// Held by whoever compacts.
    maintenance: Mutex<()>,
}

impl Core {
    fn index(&self) -> Result<Arc<Index>> {
        self.index.read().clone().ok_or(Error::Closed)
    }

    fn writable(&self) -> Result<()> {
        match &*self.failed.read() {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// Takes no more commits. What readers see stays readable.
    fn fail(&self, problem: &str) -> Error {
        tracing::error!(problem, "the store takes no more writes");
        let error = Error::Io(problem.to_owned());
        self.failed.write().get_or_insert_with(|| error.clone());
        error
    }

    /// The index cannot be trusted any more; the next start builds it anew.
    fn fail_index(&self, error: &Error) {
        if matches!(error, Error::Closed) {
            return;
        }
        self.fail(&format!("{error}; it is rebuilt at the next start"));
        if let Err(error) = recover::mark_index(&self.options.dir, recover::Trust::Bad) {
            tracing::error!(%error, "the index could not be marked as bad");
        }
    }

    fn check_apart(&self, stream: &Stream) -> Result<()> {
        match self.apart.read().get(stream) {
            Some(problem) => Err(Error::Corrupt {
                stream: stream.clone(),
                problem: problem.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Sets a stream apart: its stored bytes are damaged.
    fn set_apart(&self, stream: &Stream, problem: String) -> Error {
        tracing::error!(%stream, problem, "a stream is damaged");
        self.apart.write().insert(stream.clone(), problem.clone());
        if let Ok(index) = self.index()
            && let Err(error) = index.set_apart(stream, &problem)
        {
            self.fail_index(&error);
        }
        Error::Corrupt {
            stream: stream.clone(),
            problem,
        }
    }

    /// The head as readers see it.
    fn head(&self, stream: &Stream) -> Result<Option<Head>> {
        self.check_apart(stream)?;
        let index = self.index()?;
        match self.heads.get(stream) {
            Some(head) => Ok(head),
            None => index
                .head(stream)
                .inspect_err(|error| self.fail_index(error)),
        }
    }

    /// The same for the writer, which alone may remember what it finds.
    fn head_for_writer(&self, index: &Index, stream: &Stream) -> Result<Option<Head>> {
        self.check_apart(stream)?;
        if let Some(head) = self.heads.get(stream) {
            return Ok(head);
        }
        let head = index.head(stream)?;
        self.heads.put(stream, head);
        Ok(head)
    }
}

impl LocalStore {
    /// Opens the store in `options.dir`, or makes it. Blocks while it recovers.
    ///
    /// [`Error::Unusable`]: another process has it, a newer version wrote it, or it is damaged beyond repair.
    pub fn open(options: Options) -> Result<Self> {
        Self::open_as(options, true)
    }

    /// Opens a store that exists; a directory without one is [`Error::Unusable`].
    pub fn open_existing(options: Options) -> Result<Self> {
        Self::open_as(options, false)
    }

    fn open_as(options: Options, create: bool) -> Result<Self> {
        if options.segment_bytes > 1 << 30 || options.fill_bytes > options.segment_bytes {
            return Err(Error::Unusable(
                "a segment has at most 1 GiB, and is filled ahead by at most its size".into(),
            ));
        }
        let lock = lock::take(&options.dir, create)?;
        let contents = content::Contents::open(options.dir.join("content"), options.clock.clone())?;
        let recovered = recover::recover(&options)?;
        for damage in &recovered.damage {
            tracing::error!(%damage, "the store is damaged");
        }

        let (index, index_gone) = recovered.index.watched();
        let core = Arc::new(Core {
            segments: recovered.segments,
            heads: Heads::new(options.heads),
            tails: Tails::new(options.tail_bytes, options.tails_bytes),
            queue: Queue::new(options.queue.max(1)),
            revision: watch::Sender::new(recovered.lsn),
            apart: RwLock::new(index.apart()?),
            index: RwLock::new(Some(Arc::new(index))),
            contents,
            failed: RwLock::default(),
            maintenance: Mutex::default(),
            options,
        });
        let (jobs, taken) = mpsc::sync_channel(helper::MAX_JOBS);
        let writer = writer::Writer::new(
            core.clone(),
            jobs,
            recovered.active,
            recovered.offset,
            recovered.lsn,
        );
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(|error| Error::Unusable(format!("no thread for the store: {error}")))
        };
        let helper_core = core.clone();
        let helper = spawn(
            "baton-seal",
            Box::new(move || helper::run(&helper_core, &taken)),
        )?;
        let writer = spawn("baton-journal", Box::new(move || writer.run()))?;
        Ok(LocalStore {
            core,
            running: Arc::new(Mutex::new(Some(Running {
                writer,
                helper,
                index_gone,
                lock,
            }))),
            damage: recovered.damage,
        })
    }

    /// What was found damaged when the store was opened; empty if nothing was.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Streams that are set apart since their stored bytes are damaged, and why.
    pub fn set_apart(&self) -> Vec<(Stream, String)> {
        let apart = self.core.apart.read();
        apart
            .iter()
            .map(|(stream, problem)| (stream.clone(), problem.clone()))
            .collect()
    }

    /// Why the store takes no more commits; `None` while it does.
    pub fn failure(&self) -> Option<Error> {
        self.core.failed.read().clone()
    }

    /// Closes, blocking; see [`Store::close`].
    pub fn close_blocking(&self) -> Result<()> {
        close(&self.core, &self.running)
    }

    /// Runs a piece of reading where it may block.
    fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Core) -> Result<T> + Send + 'static,
    ) -> BoxFuture<'static, Result<T>> {
        let core = self.core.clone();
        async move {
            tokio::task::spawn_blocking(move || work(&core))
                .await
                .unwrap_or_else(|_| Err(Error::Io("reading was ended".into())))
        }
        .boxed()
    }
}

fn close(core: &Core, running: &Mutex<Option<Running>>) -> Result<()> {
    let mut running = running.lock();
    let Some(Running {
        writer,
        helper,
        index_gone,
        lock,
    }) = running.take()
    else {
        return Ok(());
    };
    core.queue.close();
    let ended = writer.join().is_ok() & helper.join().is_ok();
    // Compaction ends before the index goes.
    let maintenance = core.maintenance.lock();
    let index = core.index.write().take();
    let mut closed = Ok(());
    if let Some(index) = index {
        closed = index.flush();
        drop(index);
        // Readers that are under way still have it; the directory is not free before they are done.
        let _ = index_gone.recv_timeout(MAX_CLOSE_WAIT);
        if ended && core.writable().is_ok() && closed.is_ok() {
            closed = recover::settle_index(&core.options.dir);
        }
    }
    drop(maintenance);
    drop(lock);
    if !ended {
        return Err(Error::Io("a thread of the store has panicked".into()));
    }
    closed
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        if let Err(error) = self.close_blocking() {
            tracing::warn!(%error, "closing the store failed");
        }
    }
}

impl Journal for LocalStore {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        let entries: u64 = commit
            .appends
            .iter()
            .map(|append| append.entries.count())
            .sum();
        async move {
            let asked = Instant::now();
            let committed = self.core.queue.commit(commit).await;
            match &committed {
                Ok(_) => {
                    metrics::counter!("baton_events_appended_total").increment(entries);
                    metrics::histogram!("baton_journal_commit_seconds")
                        .record(asked.elapsed().as_secs_f64());
                }
                Err(_) => metrics::counter!("baton_journal_commits_failed_total").increment(1),
            }
            committed
        }
        .boxed()
    }

    fn head(&self, stream: &Stream) -> BoxFuture<'_, Result<Option<Head>>> {
        std::future::ready(self.core.head(stream)).boxed()
    }

    fn read(
        &self,
        stream: &Stream,
        after_seq: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Chunk>>> {
        let stream = stream.clone();
        match self.core.read_memory(&stream, after_seq, max_bytes) {
            Ok(Some(chunks)) => std::future::ready(Ok(chunks)).boxed(),
            Ok(None) => self.blocking(move |core| core.read_disk(&stream, after_seq, max_bytes)),
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn watch(&self, stream: &Stream) -> watch::Receiver<u64> {
        self.core
            .tails
            .watch(stream, || match self.core.head(stream) {
                Ok(Some(head)) => head.last_seq,
                Ok(None) | Err(_) => 0,
            })
    }

    fn readers(&self, stream: &Stream) -> usize {
        self.core.tails.readers(stream)
    }

    fn seq_within(&self, stream: &Stream, max_bytes: u64) -> BoxFuture<'_, Result<u64>> {
        let stream = stream.clone();
        self.blocking(move |core| core.seq_within(&stream, max_bytes))
    }

    fn streams(&self, after: Option<&Stream>, limit: usize) -> BoxFuture<'_, Result<Vec<Stream>>> {
        let after = after.cloned();
        self.blocking(move |core| {
            let index = core.index()?;
            let heads = index
                .heads(after.as_ref(), limit)
                .inspect_err(|error| core.fail_index(error))?;
            Ok(heads.into_iter().map(|(stream, _)| stream).collect())
        })
    }
}

impl Records for LocalStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>> {
        match self.core.get_memory(key) {
            Ok(read::Got::Here(record)) => std::future::ready(Ok(record)).boxed(),
            Ok(read::Got::Journal) => {
                let key = key.to_owned();
                self.blocking(move |core| core.get(&key))
            }
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }

    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.blocking(move |core| {
            core.records(|index| index.scan(&prefix, after.as_deref(), limit))
        })
    }

    fn scan_back(
        &self,
        prefix: &str,
        before: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>> {
        let (prefix, before) = (prefix.to_owned(), before.map(str::to_owned));
        self.blocking(move |core| {
            core.records(|index| index.scan_back(&prefix, before.as_deref(), limit))
        })
    }

    fn changes(
        &self,
        prefix: &str,
        revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<RecordChange>>> {
        let prefix = prefix.to_owned();
        self.blocking(move |core| core.changes(&prefix, revision, limit))
    }

    fn watch_revision(&self) -> watch::Receiver<u64> {
        self.core.revision.subscribe()
    }
}

impl Leases for LocalStore {
    fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<Lease>>> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        async move { lease::acquire(self, &*self.core.options.clock, &name, &owner, ttl).await }
            .boxed()
    }

    fn renew(&self, lease: &Lease, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>>> {
        let lease = lease.clone();
        async move { lease::renew(self, &*self.core.options.clock, &lease, ttl).await }.boxed()
    }

    fn release(&self, lease: &Lease) -> BoxFuture<'_, Result<()>> {
        let lease = lease.clone();
        async move { lease::release(self, &lease).await }.boxed()
    }
}

impl Outbox for LocalStore {
    fn put_op(&self, daemon: &str, order: &str, value: Bytes) -> RecordOp {
        outbox::put_op(daemon, order, value)
    }

    fn remove_op(&self, daemon: &str, order: &str) -> RecordOp {
        outbox::remove_op(daemon, order)
    }

    fn pending(
        &self,
        daemon: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>> {
        let (prefix, next) = outbox::place(daemon, after);
        // A command is fetched right after it was stored: another thread would cost more than looking.
        let here = self
            .core
            .records_memory(|index| index.scan(&prefix, next.as_deref(), limit));
        match here {
            Ok(Some(records)) => std::future::ready(Ok(outbox::entries(&prefix, records))).boxed(),
            Ok(None) => {
                let (daemon, after) = (daemon.to_owned(), after.map(str::to_owned));
                async move { outbox::pending(self, &daemon, after.as_deref(), limit).await }.boxed()
            }
            Err(error) => std::future::ready(Err(error)).boxed(),
        }
    }
}

impl super::Contents for LocalStore {
    fn stage(
        &self,
        sha256: &str,
        size: u64,
        offset: u64,
        data: Bytes,
    ) -> BoxFuture<'_, Result<bool>> {
        let sha256 = sha256.to_owned();
        self.blocking(move |core| {
            core.index()?;
            core.contents.stage(&sha256, size, offset, &data)
        })
    }

    fn size(&self, sha256: &str) -> BoxFuture<'_, Result<Option<u64>>> {
        let sha256 = sha256.to_owned();
        self.blocking(move |core| core.index().and_then(|_| core.contents.size(&sha256)))
    }

    fn read_content(&self, sha256: &str, offset: u64, max: usize) -> BoxFuture<'_, Result<Bytes>> {
        let sha256 = sha256.to_owned();
        self.blocking(move |core| {
            core.index()
                .and_then(|_| core.contents.read(&sha256, offset, max))
        })
    }

    fn refer_op(&self, stream: &Stream, sha256: &str) -> RecordOp {
        contents::refer_op(stream, sha256)
    }

    fn refers(&self, stream: &Stream, sha256: &str) -> BoxFuture<'_, Result<bool>> {
        let key = keys::content(stream, sha256);
        async move { Ok(self.get(&key).await?.is_some()) }.boxed()
    }
}

impl Store for LocalStore {
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        let (core, running) = (self.core.clone(), self.running.clone());
        async move {
            tokio::task::spawn_blocking(move || close(&core, &running))
                .await
                .unwrap_or_else(|_| Err(Error::Io("closing was ended".into())))
        }
        .boxed()
    }
}
