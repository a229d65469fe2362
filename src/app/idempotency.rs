//! A mutation repeated with the same `request_id` gets its first answer, for a day.
//!
//! The answer is stored in the same commit as what it tells of: either both are there or neither. Of two
//! repeats at once, the second waits in `begin` until the first has its answer, which is then its own; if
//! the first failed, the second does it. A [`Fresh`] is therefore held until the commit is through.
//!
//! ```ignore
//! let fresh = match idempotency.begin(caller, "CreateSession", request_id, digest).await? {
//!     Begin::Repeat(answer) => return decode(answer),
//!     Begin::Fresh(fresh) => fresh,
//! };
//! commit.ops.extend(fresh.op(encode(&answer)));
//! store.commit(commit).await?;
//! drop(fresh);
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::App;
use super::access::Caller;
use super::failure;
use crate::base::{Error, Result, SharedClock, Timestamp};
use crate::store::{self, Commit, Expect, RecordOp, SharedStore};

/// How long an answer is kept.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Longest `request_id`, in bytes.
const MAX_ID_BYTES: usize = 128;
/// Largest answer that is kept.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// The table.
const TABLE: &str = "idem/";
/// Bytes before the answer: the time and the request's digest.
const HEAD_BYTES: usize = 8 + 32;
/// Records looked at in one step of a sweep.
const SWEEP_PAGE: usize = 500;

/// SHA-256 of a request; of its encoding, or of whatever tells two requests apart.
pub type RequestDigest = [u8; 32];

/// The digest of these bytes.
pub fn digest(request: &[u8]) -> RequestDigest {
    Sha256::digest(request).into()
}

/// The answers that were given. Cheap to clone.
#[derive(Clone)]
pub struct Idempotency {
    store: SharedStore,
    clock: SharedClock,
    running: Running,
}

/// The requests that are being done, by key. As many as there are calls, which the server bounds.
type Running = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

/// The turn of one request: others with its key wait until it is dropped.
#[derive(Debug)]
struct Turn {
    key: String,
    running: Running,
    /// `None` only while it is waited for or given back.
    held: Option<OwnedMutexGuard<()>>,
}

impl Turn {
    async fn take(running: Running, key: String) -> Self {
        let lock = running.lock().entry(key.clone()).or_default().clone();
        // Made before the wait, so that a caller that goes away while it waits leaves nothing behind.
        let mut turn = Turn {
            key,
            running,
            held: None,
        };
        turn.held = Some(lock.lock_owned().await);
        turn
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut running = self.running.lock();
        drop(self.held.take());
        // New holders are made under this lock only: the map's own is the last one, nobody waits.
        if running
            .get(&self.key)
            .is_some_and(|lock| Arc::strong_count(lock) == 1)
        {
            running.remove(&self.key);
        }
    }
}

/// Whether a request is new.
#[derive(Debug)]
pub enum Begin {
    /// It is: do it, and store the answer with it.
    Fresh(Fresh),
    /// It was done; this is the answer it got.
    Repeat(Bytes),
}

/// A new request. Repeats of it wait until this is dropped.
#[derive(Debug)]
pub struct Fresh {
    /// `None` when the caller gave no `request_id`.
    slot: Option<Slot>,
}

#[derive(Debug)]
struct Slot {
    key: String,
    expect: Expect,
    digest: RequestDigest,
    now: Timestamp,
    _turn: Turn,
}

impl Idempotency {
    /// The answers in `store`.
    pub fn new(store: SharedStore, clock: SharedClock) -> Self {
        Idempotency {
            store,
            clock,
            running: Running::default(),
        }
    }

    /// Whether the caller has made this request before. `method` tells methods apart. An empty `request_id`
    /// is always new. Waits while the same request is being done. `INVALID_INPUT`: the id was used for a different request, or is malformed.
    pub async fn begin(
        &self,
        caller: &Caller,
        method: &str,
        request_id: &str,
        request: RequestDigest,
    ) -> Result<Begin> {
        if request_id.is_empty() {
            return Ok(Begin::Fresh(Fresh { slot: None }));
        }
        if request_id.len() > MAX_ID_BYTES || !request_id.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::invalid(
                "request_id",
                "must be 1 to 128 visible ASCII characters",
            ));
        }
        let key = format!("{TABLE}{}/{method}/{request_id}", caller.token_id);
        let turn = Turn::take(self.running.clone(), key.clone()).await;
        let now = self.clock.now();
        let found = self.store.get(&key).await.map_err(failure::from_store)?;
        let expect = match found {
            None => Expect::Absent,
            Some(record) => {
                let (made, digest, answer) = split(&record.value)
                    .ok_or_else(|| Error::internal(format!("the record {key} is damaged")))?;
                if now.saturating_since(made) >= KEPT_FOR {
                    Expect::Revision(record.revision)
                } else if digest == request {
                    return Ok(Begin::Repeat(answer));
                } else {
                    return Err(Error::invalid(
                        "request_id",
                        "was used for a different request; use a new one",
                    ));
                }
            }
        };
        let slot = Slot {
            key,
            expect,
            digest: request,
            now,
            _turn: turn,
        };
        Ok(Begin::Fresh(Fresh { slot: Some(slot) }))
    }

    /// Removes the answers that are older than a day; returns how many. To be called from time to time.
    pub async fn sweep(&self) -> Result<usize> {
        let now = self.clock.now();
        let mut after: Option<String> = None;
        let mut removed = 0;
        loop {
            let found = self
                .store
                .scan(TABLE, after.as_deref(), SWEEP_PAGE)
                .await
                .map_err(failure::from_store)?;
            let Some(last) = found.last() else {
                return Ok(removed);
            };
            after = Some(last.key.clone());
            let ops: Vec<RecordOp> = found
                .into_iter()
                .filter(|record| match split(&record.value) {
                    Some((made, _, _)) => now.saturating_since(made) >= KEPT_FOR,
                    None => true,
                })
                .map(|record| RecordOp {
                    expect: Expect::Revision(record.revision),
                    key: record.key,
                    value: None,
                })
                .collect();
            if ops.is_empty() {
                continue;
            }
            let count = ops.len();
            match self
                .store
                .commit(Commit {
                    ops,
                    ..Commit::default()
                })
                .await
            {
                Ok(_) => removed += count,
                // Somebody has used one of the ids anew; the next sweep sees to the rest.
                Err(store::Error::Stale { .. }) => {}
                Err(error) => return Err(failure::from_store(error)),
            }
        }
    }
}

impl App {
    /// Stores an answer by itself, where what was done had no commit that it could be in.
    pub(in crate::app) async fn remember(&self, fresh: Fresh, answer: &[u8]) -> Result<()> {
        let Some(op) = fresh.op(answer) else {
            return Ok(());
        };
        let commit = Commit {
            ops: vec![op],
            ..Commit::default()
        };
        let done = self.store().commit(commit).await;
        done.map(drop).map_err(failure::from_store)
    }
}

impl Fresh {
    /// The change that stores the answer, for the same commit; `None` when there is no `request_id`.
    /// An answer above 1 MiB is not stored: a repeat would then be done again, so no rule makes one.
    pub fn op(&self, answer: &[u8]) -> Option<RecordOp> {
        let slot = self.slot.as_ref()?;
        if answer.len() > MAX_ANSWER_BYTES {
            tracing::warn!(
                bytes = answer.len(),
                "an answer is too large to be repeated"
            );
            return None;
        }
        let mut value = BytesMut::with_capacity(HEAD_BYTES + answer.len());
        value.put_i64(slot.now.as_micros());
        value.put_slice(&slot.digest);
        value.put_slice(answer);
        Some(RecordOp {
            key: slot.key.clone(),
            expect: slot.expect,
            value: Some(value.freeze()),
        })
    }
}

fn split(value: &Bytes) -> Option<(Timestamp, RequestDigest, Bytes)> {
    let (time, rest) = value.split_first_chunk::<8>()?;
    let (digest, _) = rest.split_first_chunk::<32>()?;
    Some((
        Timestamp::from_micros(i64::from_be_bytes(*time)),
        *digest,
        value.slice(HEAD_BYTES..),
    ))
}
