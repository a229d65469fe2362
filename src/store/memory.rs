//! The provider in memory: the same promises, for tests and simulations. It has no threads and never
//! waits by itself, so what happens is decided by its callers alone.
//!
//! Commits are answered at once, or, with [`Sync::Manual`], when the test calls [`MemoryStore::sync`];
//! until then nobody sees them, and [`MemoryStore::crash`] loses them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, ready};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{oneshot, watch};

use super::rules::{self, MAX_TOMBSTONES, Overlay, View};
use super::{
    Chunk, Commit, Committed, Contents, Error, Head, Journal, Lease, Leases, Outbox, Record,
    RecordChange, RecordOp, Records, Result, Store, Stream, contents, keys, lease, outbox,
};
use crate::base::SharedClock;

/// When what is committed counts as synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// At once.
    #[default]
    Immediate,
    /// When [`MemoryStore::sync`] is called.
    Manual,
}

/// A store in memory.
pub struct MemoryStore {
    clock: SharedClock,
    state: Mutex<State>,
    revision: watch::Sender<u64>,
    records_read: AtomicU64,
}

struct State {
    sync: Sync,
    /// What is synced.
    data: Data,
    /// What waits for a sync.
    waiting: VecDeque<(Commit, oneshot::Sender<Result<Committed>>)>,
    staging: HashMap<String, BytesMut>,
    watches: HashMap<Stream, watch::Sender<u64>>,
    is_closed: bool,
}

/// What survives a crash.
#[derive(Clone, Default)]
struct Data {
    lsn: u64,
    streams: BTreeMap<Stream, StreamData>,
    records: BTreeMap<String, (u64, Bytes)>,
    /// Live and deleted records by revision.
    by_revision: BTreeSet<(u64, String)>,
    deleted: BTreeMap<String, u64>,
    /// Deletions up to this revision may be forgotten.
    forgotten: u64,
    contents: BTreeMap<String, Bytes>,
}

#[derive(Clone)]
struct StreamData {
    head: Head,
    runs: VecDeque<Chunk>,
}

impl View for Data {
    fn head(&self, stream: &Stream) -> Result<Option<Head>> {
        Ok(self.streams.get(stream).map(|stream| stream.head))
    }

    fn revision(&self, key: &str) -> Result<Option<u64>> {
        Ok(self.records.get(key).map(|(revision, _)| *revision))
    }

    fn references(&self, stream: &Stream) -> Result<Vec<String>> {
        let refers = |key: &&String| keys::content_stream(key) == Some(stream.as_str());
        Ok(self.records.keys().filter(refers).cloned().collect())
    }
}

impl Data {
    fn commit(&mut self, mut commit: Commit) -> Result<Committed> {
        let committed = rules::stage(&mut commit, self, &mut Overlay::default(), self.lsn + 1)?;
        self.lsn += 1;
        for (append, head) in commit.appends.into_iter().zip(&committed.heads) {
            let data = self
                .streams
                .entry(append.stream)
                .or_insert_with(|| StreamData {
                    head: *head,
                    runs: VecDeque::new(),
                });
            data.head = *head;
            if !append.entries.is_empty() {
                data.runs.push_back(Chunk {
                    first_seq: append.expected_last + 1,
                    last_seq: append.expected_last + append.entries.count(),
                    bytes: Bytes::copy_from_slice(append.entries.encoded()),
                });
            }
        }
        for op in commit.ops {
            self.change(op);
        }
        for trim in commit.trims {
            if trim.drop {
                self.streams.remove(&trim.stream);
            } else if let Some(data) = self.streams.get_mut(&trim.stream) {
                data.head.first_seq = data.head.first_seq.max(trim.first_seq);
                let first_seq = data.head.first_seq;
                data.runs.retain(|run| run.last_seq >= first_seq);
            }
        }
        Ok(committed)
    }

    fn change(&mut self, op: RecordOp) {
        let revision = self.lsn;
        match op.value {
            Some(value) => {
                if let Some((old, _)) = self.records.insert(op.key.clone(), (revision, value)) {
                    self.by_revision.remove(&(old, op.key.clone()));
                }
                if let Some(old) = self.deleted.remove(&op.key) {
                    self.by_revision.remove(&(old, op.key.clone()));
                }
                self.by_revision.insert((revision, op.key));
            }
            None => {
                if let Some((old, _)) = self.records.remove(&op.key) {
                    self.by_revision.remove(&(old, op.key.clone()));
                    self.deleted.insert(op.key.clone(), revision);
                    self.by_revision.insert((revision, op.key));
                }
            }
        }
        while self.deleted.len() > MAX_TOMBSTONES {
            let oldest = self
                .by_revision
                .iter()
                .find(|(_, key)| self.deleted.contains_key(key))
                .cloned();
            if let Some((revision, key)) = oldest {
                self.forgotten = self.forgotten.max(revision);
                self.deleted.remove(&key);
                self.by_revision.remove(&(revision, key));
            }
        }
    }
}

/// The part of a chunk from `seq` on.
fn cut(chunk: &Chunk, seq: u64) -> Chunk {
    let mut bytes = chunk.bytes.clone();
    for _ in chunk.first_seq..seq {
        // These bytes were encoded here, so they can be read.
        let _ = prost::encoding::decode_key(&mut bytes);
        let len = prost::encoding::decode_varint(&mut bytes).unwrap_or(0) as usize;
        let _ = bytes.split_to(len.min(bytes.len()));
    }
    Chunk {
        first_seq: chunk.first_seq.max(seq),
        last_seq: chunk.last_seq,
        bytes,
    }
}

impl MemoryStore {
    /// An empty store whose leases go by `clock`.
    pub fn new(clock: SharedClock, sync: Sync) -> Self {
        Self::with(clock, sync, Data::default())
    }

    fn with(clock: SharedClock, sync: Sync, data: Data) -> Self {
        MemoryStore {
            clock,
            revision: watch::Sender::new(data.lsn),
            records_read: AtomicU64::new(0),
            state: Mutex::new(State {
                sync,
                data,
                waiting: VecDeque::new(),
                staging: HashMap::new(),
                watches: HashMap::new(),
                is_closed: false,
            }),
        }
    }

    /// Changes when commits count as synced; what waits goes on waiting.
    pub fn set_sync(&self, sync: Sync) {
        self.state.lock().sync = sync;
    }

    /// How many records were handed out so far: what a reader costs.
    pub fn records_read(&self) -> u64 {
        self.records_read.load(Ordering::Relaxed)
    }

    fn count(&self, records: usize) {
        self.records_read
            .fetch_add(records as u64, Ordering::Relaxed);
    }

    /// How many commits wait for a sync.
    pub fn unsynced(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Syncs everything that waits: it is applied in order, readers are woken, callers answered.
    pub fn sync(&self) {
        self.sync_some(usize::MAX);
    }

    /// Syncs at most `count` of the commits that wait, oldest first.
    pub fn sync_some(&self, count: usize) {
        for _ in 0..count {
            let (outcome, answer) = {
                let mut state = self.state.lock();
                let Some((commit, answer)) = state.waiting.pop_front() else {
                    return;
                };
                (self.apply(&mut state, commit), answer)
            };
            let _ = answer.send(outcome);
        }
    }

    /// Loses what was not synced, as a power failure does. This store is closed from now on; the answer is
    /// the store after the restart.
    pub fn crash(&self) -> MemoryStore {
        let mut state = self.state.lock();
        state.is_closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        let (sync, data) = (state.sync, state.data.clone());
        drop(state);
        for (_, answer) in waiting {
            let _ = answer.send(Err(Error::Io("the store crashed".into())));
        }
        Self::with(self.clock.clone(), sync, data)
    }

    /// Removes contents that no stream refers to.
    pub fn sweep_contents(&self) {
        let mut state = self.state.lock();
        let Data {
            contents, records, ..
        } = &mut state.data;
        contents.retain(|sha256, _| {
            let prefix = keys::content_prefix(sha256);
            records
                .range(prefix.clone()..)
                .next()
                .is_some_and(|(key, _)| key.starts_with(&prefix))
        });
    }

    fn apply(&self, state: &mut State, commit: Commit) -> Result<Committed> {
        let changes_records = !commit.ops.is_empty();
        let appended: Vec<Stream> = commit
            .appends
            .iter()
            .map(|append| append.stream.clone())
            .collect();
        let dropped: Vec<Stream> = commit
            .trims
            .iter()
            .filter(|trim| trim.drop)
            .map(|trim| trim.stream.clone())
            .collect();
        let committed = state.data.commit(commit)?;
        let changes = appended
            .iter()
            .zip(committed.heads.iter().map(|head| head.last_seq))
            .chain(dropped.iter().map(|stream| (stream, 0)));
        for (stream, last_seq) in changes {
            if let Some(wake) = state.watches.get(stream) {
                if wake.receiver_count() == 0 {
                    state.watches.remove(stream);
                } else {
                    wake.send_replace(last_seq);
                }
            }
        }
        if changes_records {
            self.revision.send_replace(committed.revision);
        }
        Ok(committed)
    }

    /// Does something with the state, unless the store is closed.
    fn with_state<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T>,
    ) -> BoxFuture<'_, Result<T>> {
        let mut state = self.state.lock();
        let outcome = if state.is_closed {
            Err(Error::Closed)
        } else {
            work(&mut state)
        };
        ready(outcome).boxed()
    }
}

impl Journal for MemoryStore {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed>> {
        async move {
            let answered = {
                let mut state = self.state.lock();
                if state.is_closed {
                    return Err(Error::Closed);
                }
                if state.sync == Sync::Immediate {
                    return self.apply(&mut state, commit);
                }
                let (answer, answered) = oneshot::channel();
                state.waiting.push_back((commit, answer));
                answered
            };
            answered.await.unwrap_or(Err(Error::Closed))
        }
        .boxed()
    }

    fn head(&self, stream: &Stream) -> BoxFuture<'_, Result<Option<Head>>> {
        self.with_state(|state| state.data.head(stream))
    }

    fn read(
        &self,
        stream: &Stream,
        after_seq: u64,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Chunk>>> {
        self.with_state(|state| {
            let data = state.data.streams.get(stream);
            rules::readable(stream, data.map(|data| data.head), after_seq)?;
            let mut chunks: Vec<Chunk> = Vec::new();
            let mut bytes = 0;
            let runs = data.into_iter().flat_map(|data| &data.runs);
            for run in runs.skip_while(|run| run.last_seq <= after_seq) {
                if bytes >= max_bytes && !chunks.is_empty() {
                    break;
                }
                let chunk = cut(run, after_seq + 1);
                bytes += chunk.bytes.len();
                chunks.push(chunk);
            }
            Ok(chunks)
        })
    }

    fn watch(&self, stream: &Stream) -> watch::Receiver<u64> {
        let mut state = self.state.lock();
        let last_seq = state
            .data
            .streams
            .get(stream)
            .map_or(0, |data| data.head.last_seq);
        if let Some(wake) = state.watches.get(stream) {
            return wake.subscribe();
        }
        state.watches.retain(|_, wake| wake.receiver_count() > 0);
        let (wake, receiver) = watch::channel(last_seq);
        state.watches.insert(stream.clone(), wake);
        receiver
    }

    fn readers(&self, stream: &Stream) -> usize {
        let state = self.state.lock();
        let wake = state.watches.get(stream);
        wake.map_or(0, watch::Sender::receiver_count)
    }

    fn seq_within(&self, stream: &Stream, max_bytes: u64) -> BoxFuture<'_, Result<u64>> {
        self.with_state(|state| {
            let Some(data) = state.data.streams.get(stream) else {
                return Err(Error::NoStream {
                    stream: stream.clone(),
                });
            };
            let mut first_seq = data.head.last_seq + 1;
            let mut bytes = 0;
            for run in data.runs.iter().rev() {
                bytes += run.bytes.len() as u64;
                if bytes > max_bytes && first_seq <= data.head.last_seq {
                    break;
                }
                first_seq = run.first_seq;
            }
            Ok(first_seq.max(data.head.first_seq))
        })
    }

    fn streams(&self, after: Option<&Stream>, limit: usize) -> BoxFuture<'_, Result<Vec<Stream>>> {
        self.with_state(|state| {
            let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
            let streams = state.data.streams.range((from, Bound::Unbounded));
            Ok(streams
                .take(limit)
                .map(|(stream, _)| stream.clone())
                .collect())
        })
    }
}

fn record((key, (revision, value)): (&String, &(u64, Bytes))) -> Record {
    Record {
        key: key.clone(),
        revision: *revision,
        value: value.clone(),
    }
}

impl Records for MemoryStore {
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Record>>> {
        self.count(1);
        self.with_state(|state| Ok(state.data.records.get_key_value(key).map(record)))
    }

    fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>> {
        self.with_state(|state| {
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded(after),
                _ => Bound::Included(prefix),
            };
            let range = state.data.records.range::<str, _>((from, Bound::Unbounded));
            let found: Vec<Record> = range
                .take_while(|(key, _)| key.starts_with(prefix))
                .take(limit)
                .map(record)
                .collect();
            self.count(found.len());
            Ok(found)
        })
    }

    fn scan_back(
        &self,
        prefix: &str,
        before: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>>> {
        self.with_state(|state| {
            let to = before.map_or(Bound::Unbounded, Bound::Excluded);
            // Keys after the prefix's are passed over one by one: this provider is for tests.
            let range = state
                .data
                .records
                .range::<str, _>((Bound::Unbounded, to))
                .rev();
            let found: Vec<Record> = range
                .skip_while(|(key, _)| key.as_str() > prefix && !key.starts_with(prefix))
                .take_while(|(key, _)| key.starts_with(prefix))
                .take(limit)
                .map(record)
                .collect();
            self.count(found.len());
            Ok(found)
        })
    }

    fn changes(
        &self,
        prefix: &str,
        revision: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<RecordChange>>> {
        self.with_state(|state| {
            let mut changes: Vec<RecordChange> = Vec::new();
            let through = state.data.forgotten;
            if revision > 0 && revision < through {
                return Err(Error::Forgotten { through });
            }
            let from = Bound::Included((revision.saturating_add(1), String::new()));
            for (at, key) in state.data.by_revision.range((from, Bound::Unbounded)) {
                if !key.starts_with(prefix) {
                    continue;
                }
                if changes.len() >= limit && changes.last().is_none_or(|last| last.revision != *at)
                {
                    break;
                }
                changes.push(RecordChange {
                    key: key.clone(),
                    revision: *at,
                    value: state.data.records.get(key).map(|(_, value)| value.clone()),
                });
            }
            Ok(changes)
        })
    }

    fn watch_revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

impl Leases for MemoryStore {
    fn acquire(
        &self,
        name: &str,
        owner: &str,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<Option<Lease>>> {
        let (name, owner) = (name.to_owned(), owner.to_owned());
        async move { lease::acquire(self, &*self.clock, &name, &owner, ttl).await }.boxed()
    }

    fn renew(&self, lease: &Lease, ttl: Duration) -> BoxFuture<'_, Result<Option<Lease>>> {
        let lease = lease.clone();
        async move { lease::renew(self, &*self.clock, &lease, ttl).await }.boxed()
    }

    fn release(&self, lease: &Lease) -> BoxFuture<'_, Result<()>> {
        let lease = lease.clone();
        async move { lease::release(self, &lease).await }.boxed()
    }
}

impl Outbox for MemoryStore {
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
        let (daemon, after) = (daemon.to_owned(), after.map(str::to_owned));
        async move { outbox::pending(self, &daemon, after.as_deref(), limit).await }.boxed()
    }
}

impl Contents for MemoryStore {
    fn stage(
        &self,
        sha256: &str,
        size: u64,
        offset: u64,
        data: Bytes,
    ) -> BoxFuture<'_, Result<bool>> {
        self.with_state(|state| {
            contents::check_name(sha256)?;
            if let Some(whole) = state.data.contents.get(sha256) {
                contents::check_size(sha256, whole.len() as u64, size)?;
                return Ok(true);
            }
            let mut staged = state.staging.remove(sha256).unwrap_or_default();
            let known = contents::known(sha256, size, staged.len() as u64, offset, &data)?;
            staged.put_slice(&data[known..]);
            if (staged.len() as u64) < size {
                state.staging.insert(sha256.to_owned(), staged);
                return Ok(false);
            }
            let hash: String = Sha256::digest(&staged)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            if hash != sha256 {
                return Err(contents::wrong_hash(sha256));
            }
            state
                .data
                .contents
                .insert(sha256.to_owned(), staged.freeze());
            Ok(true)
        })
    }

    fn size(&self, sha256: &str) -> BoxFuture<'_, Result<Option<u64>>> {
        self.with_state(|state| {
            contents::check_name(sha256)?;
            Ok(state
                .data
                .contents
                .get(sha256)
                .map(|whole| whole.len() as u64))
        })
    }

    fn read_content(&self, sha256: &str, offset: u64, max: usize) -> BoxFuture<'_, Result<Bytes>> {
        self.with_state(|state| {
            let Some(whole) = state.data.contents.get(sha256) else {
                return Err(contents::absent(sha256));
            };
            let from =
                usize::try_from(offset).map_or(whole.len(), |offset| offset.min(whole.len()));
            let to = from.saturating_add(max).min(whole.len());
            Ok(whole.slice(from..to))
        })
    }

    fn refer_op(&self, stream: &Stream, sha256: &str) -> RecordOp {
        contents::refer_op(stream, sha256)
    }

    fn refers(&self, stream: &Stream, sha256: &str) -> BoxFuture<'_, Result<bool>> {
        let key = keys::content(stream, sha256);
        self.with_state(move |state| Ok(state.data.records.contains_key(&key)))
    }
}

impl Store for MemoryStore {
    fn close(&self) -> BoxFuture<'_, Result<()>> {
        self.sync();
        self.state.lock().is_closed = true;
        ready(Ok(())).boxed()
    }
}

/// A store in memory that many owners hold, synced at once.
pub fn shared(clock: SharedClock) -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(clock, Sync::Immediate))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::base::Timestamp;
    use crate::base::clock::ManualClock;
    use crate::store::SharedStore;
    use crate::store::conformance::{self, Provider, Step, append, stream};

    struct Memory {
        clock: Arc<ManualClock>,
        store: Arc<MemoryStore>,
    }

    impl Memory {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_000)));
            let store = shared(clock.clone());
            Memory { clock, store }
        }
    }

    impl Provider for Memory {
        fn store(&self) -> SharedStore {
            self.store.clone()
        }

        fn clock(&self) -> Arc<ManualClock> {
            self.clock.clone()
        }

        fn reopen(&mut self) -> BoxFuture<'_, ()> {
            self.crash()
        }

        fn crash(&mut self) -> BoxFuture<'_, ()> {
            self.store = Arc::new(self.store.crash());
            ready(()).boxed()
        }
    }

    #[tokio::test]
    async fn the_memory_store_keeps_every_promise() {
        conformance::run(&|| Box::new(Memory::new()) as Box<dyn Provider>).await;
    }

    #[tokio::test]
    async fn a_random_walk_agrees_with_the_model() {
        for seed in 0..conformance::rounds(100).into() {
            let mut rng = SmallRng::seed_from_u64(seed);
            let steps: Vec<Step> = (0..100).map(|_| Step::random(&mut rng)).collect();
            conformance::walk(&mut Memory::new(), &steps).await;
        }
    }

    #[tokio::test]
    async fn what_is_not_synced_is_not_seen_and_a_crash_loses_it() {
        let store = MemoryStore::new(Arc::new(ManualClock::default()), Sync::Manual);
        let one = |last| Commit {
            appends: vec![append("a", last, &["x"])],
            ..Commit::default()
        };
        let mut first = store.commit(one(0));
        let mut second = store.commit(one(1));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        assert_eq!(store.head(&stream("a")).await, Ok(None));
        store.sync_some(1);
        assert!(first.await.is_ok());
        assert!((&mut second).now_or_never().is_none());
        let after = store.crash();
        assert!(matches!(second.await, Err(Error::Io(_))));
        assert_eq!(store.head(&stream("a")).await, Err(Error::Closed));
        let head = after
            .head(&stream("a"))
            .await
            .expect("readable")
            .expect("it was synced");
        assert_eq!(head.last_seq, 1);
    }
}
