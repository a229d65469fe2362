//! A mutation repeated with the same `request_id` gets its first answer, for a day.
//!
//! The answer is stored in the same commit as what it tells of: either both are there or neither. Two
//! repeats at once race for the record; the loser's commit is refused as stale, and it begins again.
//!
//! ```ignore
//! loop {
//!     let fresh = match idempotency.begin(caller, "CreateSession", request_id, digest).await? {
//!         Begin::Repeat(answer) => return decode(answer),
//!         Begin::Fresh(fresh) => fresh,
//!     };
//!     commit.ops.extend(fresh.op(encode(&answer)));
//!     match store.commit(commit).await {
//!         Err(error) if fresh.lost(&error) => continue,
//!         outcome => …
//!     }
//! }
//! ```

use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::access::Caller;
use super::fault;
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
}

/// Whether a request is new.
#[derive(Debug)]
pub enum Begin {
    /// It is: do it, and store the answer with it.
    Fresh(Fresh),
    /// It was done; this is the answer it got.
    Repeat(Bytes),
}

/// A new request.
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
}

impl Idempotency {
    /// The answers in `store`.
    pub fn new(store: SharedStore, clock: SharedClock) -> Self {
        Idempotency { store, clock }
    }

    /// Whether the caller has made this request before. `method` tells methods apart. An empty `request_id`
    /// is always new. `INVALID_INPUT`: the id was used for a different request, or is malformed.
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
        let now = self.clock.now();
        let found = self.store.get(&key).await.map_err(fault::from_store)?;
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
                .map_err(fault::from_store)?;
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
                Err(error) => return Err(fault::from_store(error)),
            }
        }
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

    /// Whether a commit failed because the same request was done at the same time: then begin again.
    pub fn lost(&self, error: &store::Error) -> bool {
        match (&self.slot, error) {
            (Some(slot), store::Error::Stale { key, .. }) => slot.key == *key,
            _ => false,
        }
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
