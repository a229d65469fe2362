//! What every provider must do, as one suite: a provider runs it by handing over a [`Factory`].
//!
//! Two parts: [`CASES`], each a promise by name, and [`walk`], which takes random [`Step`]s on a provider
//! and on a simple model and compares them. All of it panics when a promise is broken.

mod commits;
mod contents;
mod journal;
mod leases;
mod records;
mod restart;
mod retention;
mod walk;

pub use self::contents::sha256;
pub use self::walk::{Dump, Step, dump, walk};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use prost::Message;
use rand::Rng;
use sha2::{Digest as _, Sha256};

use self::commits::{
    a_dropped_future_does_not_undo_its_commit, malformed_commits_are_refused,
    racing_appends_leave_no_gap,
};
use self::contents::content_is_checked_and_referred_to;
use self::journal::{
    a_commit_is_whole_or_nothing, a_dropped_stream_comes_back_with_another_epoch,
    a_read_takes_whole_runs_up_to_its_limit, a_spool_moves_without_entries,
    a_watch_wakes_when_the_stream_grows, an_older_fence_is_refused, appended_entries_are_read_back,
    positions_outside_the_log_are_refused_with_the_head, streams_are_listed_in_pages,
    trims_of_what_is_not_there,
};
use self::leases::{
    leases_have_one_owner_and_a_growing_fence, the_outbox_is_in_order_and_per_daemon,
};
use self::records::{
    changes_tell_the_newest_of_each_key, forgotten_deletions_are_said, large_values_are_kept,
    records_are_scanned_both_ways_in_pages, records_compare_and_set,
};
use self::restart::{a_closed_store_says_so, everything_survives_a_restart};
use self::retention::retention_proposes_what_is_old_or_too_much;
use super::{
    Append, Chunk, Commit, Committed, Error, Expect, Head, Origin, RecordOp, Result, SharedStore,
    Stream, Trim,
};
use crate::base::clock::ManualClock;
use crate::base::{Clock as _, Timestamp};

/// A store under test that can be taken down and up again.
pub trait Provider: Send {
    /// The store as it runs now.
    fn store(&self) -> SharedStore;
    /// The clock that its leases go by.
    fn clock(&self) -> Arc<ManualClock>;
    /// Closes the store properly and opens it again.
    fn reopen(&mut self) -> BoxFuture<'_, ()>;
    /// Opens what a killed process would have left behind.
    fn crash(&mut self) -> BoxFuture<'_, ()>;
}

/// Makes a provider with an empty store.
pub type Factory<'a> = &'a (dyn Fn() -> Box<dyn Provider> + Sync);

/// A promise.
pub type Case = fn(Box<dyn Provider>) -> BoxFuture<'static, ()>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every promise: its name and what checks it.
        pub const CASES: &[(&str, Case)] = &[$((stringify!($name), |provider| $name(provider).boxed())),*];
    };
}

cases![
    appended_entries_are_read_back,
    a_commit_is_whole_or_nothing,
    an_older_fence_is_refused,
    a_spool_moves_without_entries,
    positions_outside_the_log_are_refused_with_the_head,
    a_read_takes_whole_runs_up_to_its_limit,
    a_dropped_stream_comes_back_with_another_epoch,
    trims_of_what_is_not_there,
    a_watch_wakes_when_the_stream_grows,
    streams_are_listed_in_pages,
    records_compare_and_set,
    records_are_scanned_both_ways_in_pages,
    changes_tell_the_newest_of_each_key,
    forgotten_deletions_are_said,
    large_values_are_kept,
    malformed_commits_are_refused,
    racing_appends_leave_no_gap,
    a_dropped_future_does_not_undo_its_commit,
    leases_have_one_owner_and_a_growing_fence,
    the_outbox_is_in_order_and_per_daemon,
    content_is_checked_and_referred_to,
    retention_proposes_what_is_old_or_too_much,
    everything_survives_a_restart,
    a_closed_store_says_so,
];

/// Runs every case on a fresh provider.
pub async fn run(factory: Factory<'_>) {
    for (name, case) in CASES {
        tracing::debug!(name, "conformance");
        let outcome = std::panic::AssertUnwindSafe(case(factory()))
            .catch_unwind()
            .await;
        if let Err(panic) = outcome {
            eprintln!("the promise that failed: {name}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Batch {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    entries: Vec<Bytes>,
}

/// A stream by its name.
pub fn stream(name: &str) -> Stream {
    Stream::new(name).expect("a valid name")
}

/// The entries of chunks that follow each other from `after_seq` on.
pub fn entries(after_seq: u64, chunks: &[Chunk]) -> Vec<Bytes> {
    let mut all = Vec::new();
    for chunk in chunks {
        assert_eq!(
            chunk.first_seq,
            after_seq + all.len() as u64 + 1,
            "chunks follow each other"
        );
        let batch = Batch::decode(chunk.bytes.clone()).expect("a chunk is an event batch");
        assert_eq!(
            chunk.last_seq,
            chunk.first_seq + batch.entries.len() as u64 - 1
        );
        all.extend(batch.entries);
    }
    all
}

/// Reads a stream to its end, `max_bytes` at a time.
pub async fn read_all(
    store: &SharedStore,
    stream: &Stream,
    after_seq: u64,
    max_bytes: usize,
) -> Result<Vec<Bytes>> {
    let mut all = Vec::new();
    loop {
        let at = after_seq + all.len() as u64;
        let chunks = store.read(stream, at, max_bytes).await?;
        if chunks.is_empty() {
            return Ok(all);
        }
        all.extend(entries(at, &chunks));
    }
}

/// An append of these entries.
pub fn append(name: &str, expected_last: u64, texts: &[&str]) -> Append {
    Append {
        stream: stream(name),
        expected_last,
        fence: 0,
        entries: texts
            .iter()
            .map(|text| Bytes::copy_from_slice(text.as_bytes()))
            .collect(),
        origin: None,
        time: Timestamp::from_millis(expected_last as i64 + 1),
    }
}

/// A change of a record.
pub fn op(key: &str, expect: Expect, value: Option<&str>) -> RecordOp {
    RecordOp {
        key: key.to_owned(),
        expect,
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
    }
}

fn appends(appends: Vec<Append>) -> Commit {
    Commit {
        appends,
        ..Commit::default()
    }
}

fn ops(ops: Vec<RecordOp>) -> Commit {
    Commit {
        ops,
        ..Commit::default()
    }
}

fn trim(name: &str, first_seq: u64) -> Commit {
    let trim = Trim {
        stream: stream(name),
        first_seq,
        drop: false,
    };
    Commit {
        trims: vec![trim],
        ..Commit::default()
    }
}

fn drop_stream(name: &str) -> Commit {
    let trim = Trim {
        stream: stream(name),
        first_seq: 0,
        drop: true,
    };
    Commit {
        trims: vec![trim],
        ..Commit::default()
    }
}

async fn commit(store: &SharedStore, commit: Commit) -> Committed {
    store.commit(commit).await.expect("committed")
}

async fn head(store: &SharedStore, name: &str) -> Head {
    store
        .head(&stream(name))
        .await
        .expect("readable")
        .expect("there is such a stream")
}

async fn value(store: &SharedStore, key: &str) -> Option<(u64, Bytes)> {
    let record = store.get(key).await.expect("readable")?;
    assert_eq!(record.key, key);
    Some((record.revision, record.value))
}

/// How many rounds a randomized test takes: `BATON_TEST_ROUNDS` (default 20) as a share of 20, of `usual`.
pub fn rounds(usual: u32) -> u32 {
    let share = std::env::var("BATON_TEST_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse::<u32>().ok())
        .unwrap_or(20);
    (usual * share / 20).max(1)
}
