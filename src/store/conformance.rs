//! What every provider must do, as one suite: a provider runs it by handing over a [`Factory`].
//!
//! Two parts: [`CASES`], each a promise by name, and [`walk`], which takes random [`Step`]s on a provider
//! and on a simple model and compares them. All of it panics when a promise is broken.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use prost::Message;
use rand::Rng;
use sha2::{Digest as _, Sha256};

use super::retention::{self, Policy};
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

async fn appended_entries_are_read_back(provider: Box<dyn Provider>) {
    let store = provider.store();
    assert_eq!(store.head(&stream("a")).await, Ok(None));
    let done = commit(&store, appends(vec![append("a", 0, &["one", "", "three"])])).await;
    let expected = Head {
        log_epoch: done.heads[0].log_epoch,
        first_seq: 1,
        last_seq: 3,
        fence: 0,
        origin: Origin::default(),
        last_time: Timestamp::from_millis(1),
    };
    assert_eq!(done.heads, [expected]);
    assert_eq!(head(&store, "a").await, expected);
    let both = commit(
        &store,
        appends(vec![
            append("b/x", 0, &["other"]),
            append("a", 3, &["four"]),
        ]),
    )
    .await;
    assert!(both.revision > done.revision);
    assert_eq!(both.heads[1].last_seq, 4);
    assert_eq!(both.heads[1].log_epoch, expected.log_epoch);
    for (after, left) in [(0, 4), (1, 3), (2, 2), (3, 1), (4, 0)] {
        let all = read_all(&store, &stream("a"), after, 1 << 20)
            .await
            .expect("readable");
        assert_eq!(all, ["one", "", "three", "four"][4 - left..]);
    }
    let all = read_all(&store, &stream("b/x"), 0, 1)
        .await
        .expect("readable");
    assert_eq!(all, ["other"]);
}

async fn a_commit_is_whole_or_nothing(provider: Box<dyn Provider>) {
    let store = provider.store();
    commit(&store, appends(vec![append("a", 0, &["one"])])).await;
    let first = commit(&store, ops(vec![op("t/x", Expect::Absent, Some("old"))])).await;
    let before = head(&store, "a").await;

    let good = || {
        (
            append("a", 1, &["two"]),
            op("t/x", Expect::Revision(first.revision), Some("new")),
        )
    };
    let (append_good, op_good) = good();
    let refused = Commit {
        appends: vec![append_good, append("b", 5, &["x"])],
        ops: vec![op_good],
        trims: vec![],
    };
    let conflict = Error::Conflict {
        stream: stream("b"),
        last: 0,
    };
    assert_eq!(store.commit(refused).await, Err(conflict));
    let (append_good, _) = good();
    let refused = Commit {
        appends: vec![append_good],
        ops: vec![
            op("t/y", Expect::Any, Some("y")),
            op("t/x", Expect::Absent, None),
        ],
        trims: vec![],
    };
    let stale = Error::Stale {
        key: "t/x".into(),
        revision: Some(first.revision),
    };
    assert_eq!(store.commit(refused).await, Err(stale));
    let (append_good, op_good) = good();
    let refused = Commit {
        appends: vec![append_good],
        ops: vec![op_good],
        trims: vec![Trim {
            stream: stream("nowhere"),
            first_seq: 1,
            drop: false,
        }],
    };
    let missing = Error::NoStream {
        stream: stream("nowhere"),
    };
    assert_eq!(store.commit(refused).await, Err(missing));

    assert_eq!(head(&store, "a").await, before);
    assert_eq!(store.head(&stream("b")).await, Ok(None));
    assert_eq!(
        value(&store, "t/x").await,
        Some((first.revision, "old".into()))
    );
    assert_eq!(value(&store, "t/y").await, None);

    let (append_good, op_good) = good();
    let done = commit(
        &store,
        Commit {
            appends: vec![append_good],
            ops: vec![op_good],
            trims: vec![Trim {
                stream: stream("a"),
                first_seq: 2,
                drop: false,
            }],
        },
    )
    .await;
    assert_eq!(done.heads[0], head(&store, "a").await);
    assert_eq!((done.heads[0].first_seq, done.heads[0].last_seq), (2, 2));
    assert_eq!(
        value(&store, "t/x").await,
        Some((done.revision, "new".into()))
    );
}

async fn an_older_fence_is_refused(provider: Box<dyn Provider>) {
    let store = provider.store();
    let fenced = |fence, last| Append {
        fence,
        ..append("a", last, &["x"])
    };
    commit(&store, appends(vec![fenced(5, 0)])).await;
    let refused = Error::Fenced {
        stream: stream("a"),
        fence: 5,
    };
    // Also when it does not know the end either: the fence tells more.
    assert_eq!(
        store.commit(appends(vec![fenced(4, 1)])).await,
        Err(refused.clone())
    );
    assert_eq!(
        store.commit(appends(vec![fenced(4, 7)])).await,
        Err(refused)
    );
    commit(&store, appends(vec![fenced(5, 1)])).await;
    commit(&store, appends(vec![fenced(9, 2)])).await;
    assert_eq!(head(&store, "a").await.fence, 9);
    // A new owner may raise the fence before it writes.
    let raised = Append {
        fence: 10,
        ..append("a", 3, &[])
    };
    commit(&store, appends(vec![raised])).await;
    assert_eq!(
        (
            head(&store, "a").await.fence,
            head(&store, "a").await.last_seq
        ),
        (10, 3)
    );
    assert!(matches!(
        store.commit(appends(vec![fenced(9, 3)])).await,
        Err(Error::Fenced { fence: 10, .. })
    ));
}

async fn a_spool_moves_without_entries(provider: Box<dyn Provider>) {
    let store = provider.store();
    let origin = |seq| Some(Origin { epoch: 7, seq });
    let with = |origin, append: Append| Append { origin, ..append };
    commit(
        &store,
        appends(vec![with(origin(3), append("a", 0, &["x"]))]),
    )
    .await;
    let time = head(&store, "a").await.last_time;
    commit(&store, appends(vec![with(origin(8), append("a", 1, &[]))])).await;
    let now = head(&store, "a").await;
    assert_eq!(now.origin, Origin { epoch: 7, seq: 8 });
    assert_eq!((now.last_seq, now.last_time), (1, time));
    // What the server appends itself leaves it.
    commit(&store, appends(vec![append("a", 1, &["y"])])).await;
    assert_eq!(head(&store, "a").await.origin, Origin { epoch: 7, seq: 8 });
    assert_eq!(head(&store, "a").await.last_time, Timestamp::from_millis(2));
    // A stream may begin without any entry.
    commit(
        &store,
        appends(vec![with(origin(1), append("empty", 0, &[]))]),
    )
    .await;
    let empty = head(&store, "empty").await;
    assert_eq!((empty.first_seq, empty.last_seq), (1, 0));
    assert_eq!(store.read(&stream("empty"), 0, 100).await, Ok(vec![]));
}

async fn positions_outside_the_log_are_refused_with_the_head(provider: Box<dyn Provider>) {
    let store = provider.store();
    for seq in 0..10 {
        commit(
            &store,
            appends(vec![append("a", seq, &[&format!("entry {}", seq + 1)])]),
        )
        .await;
    }
    commit(&store, trim("a", 4)).await;
    let head = head(&store, "a").await;
    assert_eq!((head.first_seq, head.last_seq), (4, 10));
    let a = stream("a");
    let truncated = Err(Error::Truncated {
        stream: a.clone(),
        head,
    });
    let future = Err(Error::Future {
        stream: a.clone(),
        head,
    });
    assert_eq!(store.read(&a, 0, 100).await, truncated);
    assert_eq!(store.read(&a, 2, 100).await, truncated);
    assert_eq!(
        read_all(&store, &a, 3, 100).await.expect("readable").len(),
        7
    );
    assert_eq!(
        read_all(&store, &a, 9, 100).await.expect("readable"),
        ["entry 10"]
    );
    assert_eq!(store.read(&a, 10, 100).await, Ok(vec![]));
    assert_eq!(store.read(&a, 11, 100).await, future);
    assert_eq!(store.read(&a, u64::MAX, 100).await, future);
    // Trimmed to nothing it still knows where it is.
    commit(&store, trim("a", 11)).await;
    assert_eq!(store.read(&a, 10, 100).await, Ok(vec![]));
    assert!(
        matches!(store.read(&a, 9, 100).await, Err(Error::Truncated { head, .. }) if head.first_seq == 11)
    );
    commit(&store, appends(vec![append("a", 10, &["entry 11"])])).await;
    assert_eq!(
        read_all(&store, &a, 10, 100).await.expect("readable"),
        ["entry 11"]
    );
    let nowhere = stream("nowhere");
    let missing = Err(Error::NoStream {
        stream: nowhere.clone(),
    });
    assert_eq!(store.read(&nowhere, 0, 100).await, missing);
}

async fn a_read_takes_whole_runs_up_to_its_limit(provider: Box<dyn Provider>) {
    let store = provider.store();
    let text = "x".repeat(20_000);
    for run in 0..10 {
        commit(&store, appends(vec![append("a", run * 2, &[&text, &text])])).await;
    }
    let a = stream("a");
    let one = store.read(&a, 0, 1).await.expect("readable");
    assert_eq!(entries(0, &one).len(), 2, "at least one run");
    let some = store.read(&a, 1, 100_000).await.expect("readable");
    let bytes: usize = some.iter().map(|chunk| chunk.bytes.len()).sum();
    assert!((100_000..200_000).contains(&bytes), "{bytes}");
    assert_eq!(some[0].first_seq, 2, "it begins within a run");
    assert_eq!(
        read_all(&store, &a, 0, 1).await.expect("readable").len(),
        20
    );
    assert_eq!(store.seq_within(&a, 90_000).await, Ok(17));
    assert_eq!(store.seq_within(&a, 1).await, Ok(19));
    assert_eq!(store.seq_within(&a, u64::MAX).await, Ok(1));
}

async fn a_dropped_stream_comes_back_with_another_epoch(provider: Box<dyn Provider>) {
    let store = provider.store();
    let old = commit(&store, appends(vec![append("a", 0, &["old 1", "old 2"])])).await;
    commit(&store, drop_stream("a")).await;
    assert_eq!(store.head(&stream("a")).await, Ok(None));
    assert!(matches!(
        store.read(&stream("a"), 0, 9).await,
        Err(Error::NoStream { .. })
    ));
    assert_eq!(store.streams(None, 9).await, Ok(vec![]));
    let new = commit(&store, appends(vec![append("a", 0, &["new"])])).await;
    assert_ne!(new.heads[0].log_epoch, old.heads[0].log_epoch);
    assert_eq!((new.heads[0].first_seq, new.heads[0].last_seq), (1, 1));
    assert_eq!(
        read_all(&store, &stream("a"), 0, 9)
            .await
            .expect("readable"),
        ["new"]
    );
}

async fn trims_of_what_is_not_there(provider: Box<dyn Provider>) {
    let store = provider.store();
    assert!(matches!(
        store.commit(trim("a", 1)).await,
        Err(Error::NoStream { .. })
    ));
    // Dropping twice is dropping once.
    commit(&store, drop_stream("a")).await;
    commit(&store, appends(vec![append("a", 0, &["1", "2", "3"])])).await;
    assert!(
        matches!(store.commit(trim("a", 5)).await, Err(Error::Future { head, .. }) if head.last_seq == 3)
    );
    commit(&store, trim("a", 3)).await;
    // A trim never gives anything back.
    commit(&store, trim("a", 1)).await;
    assert_eq!(head(&store, "a").await.first_seq, 3);
    assert_eq!(
        read_all(&store, &stream("a"), 2, 9)
            .await
            .expect("readable"),
        ["3"]
    );
}

async fn a_watch_wakes_when_the_stream_grows(provider: Box<dyn Provider>) {
    let store = provider.store();
    let a = stream("a");
    let mut early = store.watch(&a);
    assert_eq!(*early.borrow_and_update(), 0);
    commit(&store, appends(vec![append("a", 0, &["1", "2"])])).await;
    early.changed().await.expect("the store is there");
    assert_eq!(*early.borrow_and_update(), 2);
    let late = store.watch(&a);
    assert_eq!(*late.borrow(), 2);
    let other = store.watch(&stream("b"));
    // Near the end, from one reader's view: what it was woken for is there.
    for seq in 2..50 {
        commit(&store, appends(vec![append("a", seq, &["x"])])).await;
        early.changed().await.expect("the store is there");
        let last = *early.borrow_and_update();
        let got = store.read(&a, seq, 1000).await.expect("readable");
        assert_eq!(entries(seq, &got).len() as u64, last - seq);
    }
    assert!(!other.has_changed().expect("the store is there"));

    let mut revision = store.watch_revision();
    revision.borrow_and_update();
    let done = commit(&store, ops(vec![op("t/x", Expect::Any, Some("1"))])).await;
    revision.changed().await.expect("the store is there");
    assert_eq!(*revision.borrow(), done.revision);
}

async fn streams_are_listed_in_pages(provider: Box<dyn Provider>) {
    let store = provider.store();
    for name in ["b", "a/2", "a", "c", "a/1"] {
        commit(&store, appends(vec![append(name, 0, &["x"])])).await;
    }
    let mut all = Vec::new();
    let mut after: Option<Stream> = None;
    loop {
        let page = store.streams(after.as_ref(), 2).await.expect("readable");
        assert!(page.len() <= 2);
        let Some(last) = page.last() else {
            break;
        };
        after = Some(last.clone());
        all.extend(page);
    }
    let names: Vec<&str> = all.iter().map(Stream::as_str).collect();
    assert_eq!(names, ["a", "a/1", "a/2", "b", "c"]);
}

async fn records_compare_and_set(provider: Box<dyn Provider>) {
    let store = provider.store();
    let one = commit(&store, ops(vec![op("t/x", Expect::Absent, Some("1"))])).await;
    assert_eq!(value(&store, "t/x").await, Some((one.revision, "1".into())));
    let stale = Err(Error::Stale {
        key: "t/x".into(),
        revision: Some(one.revision),
    });
    assert_eq!(
        store
            .commit(ops(vec![op("t/x", Expect::Absent, Some("2"))]))
            .await,
        stale
    );
    let wrong = Expect::Revision(one.revision + 1);
    assert_eq!(
        store.commit(ops(vec![op("t/x", wrong, Some("2"))])).await,
        stale
    );
    let two = commit(
        &store,
        ops(vec![op("t/x", Expect::Revision(one.revision), Some(""))]),
    )
    .await;
    assert_eq!(
        value(&store, "t/x").await,
        Some((two.revision, "".into())),
        "an empty value is a value"
    );
    commit(
        &store,
        ops(vec![op("t/x", Expect::Revision(two.revision), None)]),
    )
    .await;
    assert_eq!(value(&store, "t/x").await, None);
    let gone = Err(Error::Stale {
        key: "t/x".into(),
        revision: None,
    });
    assert_eq!(
        store
            .commit(ops(vec![op(
                "t/x",
                Expect::Revision(two.revision),
                Some("3")
            )]))
            .await,
        gone
    );
    commit(&store, ops(vec![op("t/x", Expect::Absent, Some("4"))])).await;
    commit(
        &store,
        ops(vec![
            op("t/x", Expect::Any, None),
            op("t/none", Expect::Any, None),
        ]),
    )
    .await;
    assert_eq!(value(&store, "t/x").await, None);
}

async fn records_are_scanned_both_ways_in_pages(provider: Box<dyn Provider>) {
    let store = provider.store();
    let keys = ["a/1", "a/2", "a/3", "a/\u{10ffff}", "ab/1", "b/1"];
    commit(
        &store,
        ops(keys
            .iter()
            .map(|key| op(key, Expect::Any, Some(key)))
            .collect()),
    )
    .await;
    let scan = async |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = store.scan(prefix, after, limit).await.expect("readable");
        assert!(found.iter().all(|record| record.value == record.key));
        found.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(scan("a/", None, 9).await, keys[..4]);
    assert_eq!(scan("a/", None, 2).await, keys[..2]);
    assert_eq!(scan("a/", Some("a/2"), 9).await, keys[2..4]);
    assert_eq!(scan("a/", Some("a/15"), 1).await, ["a/2"]);
    assert_eq!(scan("a/", Some("0"), 1).await, ["a/1"], "before the prefix");
    assert_eq!(
        scan("a/", Some("zz"), 9).await,
        [""; 0],
        "behind the prefix"
    );
    assert_eq!(scan("", None, 9).await, keys);
    assert_eq!(scan("c", None, 9).await, [""; 0]);
    let back = async |prefix: &str, before: Option<&str>, limit| -> Vec<String> {
        let found = store
            .scan_back(prefix, before, limit)
            .await
            .expect("readable");
        found.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(back("a/", None, 2).await, [keys[3], keys[2]]);
    assert_eq!(back("a/", Some("a/2"), 9).await, ["a/1"]);
    assert_eq!(back("a/", Some("zz"), 1).await, [keys[3]]);
    assert_eq!(back("a/", Some("a/"), 1).await, [""; 0]);
    assert_eq!(back("a/", Some("0"), 1).await, [""; 0]);
    assert_eq!(back("", None, 1).await, ["b/1"]);
}

async fn changes_tell_the_newest_of_each_key(provider: Box<dyn Provider>) {
    let store = provider.store();
    let change = async |revision, limit| -> Vec<(String, u64, Option<Bytes>)> {
        let changes = store
            .changes("t/", revision, limit)
            .await
            .expect("readable");
        changes
            .into_iter()
            .map(|change| (change.key, change.revision, change.value))
            .collect()
    };
    let one = commit(
        &store,
        ops(vec![
            op("t/a", Expect::Any, Some("1")),
            op("t/b", Expect::Any, Some("1")),
        ]),
    )
    .await
    .revision;
    let two = commit(
        &store,
        ops(vec![
            op("t/c", Expect::Any, Some("2")),
            op("u/a", Expect::Any, Some("2")),
        ]),
    )
    .await
    .revision;
    let a = ("t/a".to_owned(), one, Some("1".into()));
    let b = ("t/b".to_owned(), one, Some("1".into()));
    let c = ("t/c".to_owned(), two, Some("2".into()));
    assert_eq!(change(0, 9).await, [a.clone(), b.clone(), c.clone()]);
    assert_eq!(change(0, 1).await, [a, b.clone()], "a commit is not split");
    assert_eq!(change(one, 9).await, std::slice::from_ref(&c));
    assert_eq!(change(two, 9).await, []);
    let three = commit(&store, ops(vec![op("t/a", Expect::Any, None)]))
        .await
        .revision;
    let gone = ("t/a".to_owned(), three, None);
    assert_eq!(change(0, 9).await, [b.clone(), c.clone(), gone]);
    let four = commit(&store, ops(vec![op("t/a", Expect::Absent, Some("4"))]))
        .await
        .revision;
    let back = ("t/a".to_owned(), four, Some("4".into()));
    assert_eq!(change(0, 9).await, [b, c, back]);
    assert_eq!(change(u64::MAX, 9).await, []);
}

async fn forgotten_deletions_are_said(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    let before = commit(&store, ops(vec![op("t/gone", Expect::Any, Some("1"))]))
        .await
        .revision;
    commit(&store, ops(vec![op("t/gone", Expect::Any, None)])).await;
    let remembered = store.changes("t/", before, 9).await.expect("readable");
    assert_eq!(remembered.len(), 1);
    for lot in 0..12 {
        let all = |value| {
            (0..1_000)
                .map(|n| op(&format!("u/{lot}/{n}"), Expect::Any, value))
                .collect()
        };
        commit(&store, ops(all(Some("1")))).await;
        commit(&store, ops(all(None))).await;
    }
    for _ in 0..2 {
        let store = provider.store();
        let through = match store.changes("t/", before, 9).await {
            Err(Error::Forgotten { through }) => through,
            other => panic!("{other:?}"),
        };
        assert!(through > before);
        // Whoever reads from the beginning has nothing that could be gone; from there on all is known.
        assert_eq!(store.changes("t/", 0, 9).await, Ok(Vec::new()));
        assert_eq!(store.changes("t/", through, 9).await, Ok(Vec::new()));
        drop(store);
        provider.reopen().await;
    }
}

async fn large_values_are_kept(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    let large = "v".repeat(4 << 20);
    let medium = "m".repeat(17 << 10);
    let done = commit(
        &store,
        ops(vec![
            op("t/large", Expect::Any, Some(&large)),
            op("t/medium", Expect::Any, Some(&medium)),
            op("t/small", Expect::Any, Some("s")),
        ]),
    )
    .await;
    let check = async |store: &SharedStore| {
        assert_eq!(
            value(store, "t/large").await,
            Some((done.revision, large.clone().into()))
        );
        let found = store.scan("t/", None, 9).await.expect("readable");
        let sizes: Vec<usize> = found.iter().map(|record| record.value.len()).collect();
        assert_eq!(sizes, [4 << 20, 17 << 10, 1]);
        let changes = store.changes("t/", 0, 9).await.expect("readable");
        assert_eq!(changes.len(), 3);
        assert_eq!(changes[1].value.as_ref().map(Bytes::len), Some(17 << 10));
    };
    check(&store).await;
    drop(store);
    provider.reopen().await;
    check(&provider.store()).await;
    let store = provider.store();
    let too_large = "v".repeat((4 << 20) + 1);
    let refused = store
        .commit(ops(vec![op("t/large", Expect::Any, Some(&too_large))]))
        .await;
    assert!(matches!(refused, Err(Error::Malformed(_))));
}

async fn malformed_commits_are_refused(provider: Box<dyn Provider>) {
    let store = provider.store();
    let bad = [
        appends(vec![append("a", 0, &["1"]), append("a", 1, &["2"])]),
        ops(vec![
            op("t/a", Expect::Any, None),
            op("t/a", Expect::Any, Some("x")),
        ]),
        ops(vec![op("", Expect::Any, Some("x"))]),
        ops(vec![op(&"k".repeat(513), Expect::Any, Some("x"))]),
        Commit {
            appends: vec![append("a", 0, &["1"])],
            trims: drop_stream("a").trims,
            ops: vec![],
        },
        Commit {
            trims: [trim("a", 1).trims, drop_stream("a").trims].concat(),
            ..Commit::default()
        },
        appends(vec![Append {
            entries: vec![Bytes::from(vec![0; 9 << 20]); 2],
            ..append("a", 0, &[])
        }]),
    ];
    for commit in bad {
        let refused = store.commit(commit).await;
        assert!(matches!(refused, Err(Error::Malformed(_))), "{refused:?}");
    }
    assert_eq!(store.streams(None, 9).await, Ok(vec![]));
    commit(
        &store,
        ops(vec![op(&"k".repeat(512), Expect::Any, Some("x"))]),
    )
    .await;
    // One that says nothing is fine and has a number.
    commit(&store, Commit::default()).await;
}

async fn racing_appends_leave_no_gap(provider: Box<dyn Provider>) {
    let store = provider.store();
    let racers = (0..8).map(|racer| {
        let store = &store;
        async move {
            let mut won = Vec::new();
            let mut last = 0;
            while won.len() < 25 {
                let text = format!("{racer}/{}", won.len());
                match store
                    .commit(appends(vec![append("a", last, &[&text])]))
                    .await
                {
                    Ok(done) => {
                        last = done.heads[0].last_seq;
                        won.push((last, text));
                    }
                    Err(Error::Conflict { last: now, .. }) => last = now,
                    Err(error) => panic!("{error}"),
                }
            }
            won
        }
    });
    let mut won: Vec<(u64, String)> = join_all(racers).await.into_iter().flatten().collect();
    won.sort();
    let all = read_all(&store, &stream("a"), 0, 100)
        .await
        .expect("readable");
    assert_eq!(all.len(), 200);
    for (seq, (won_seq, text)) in won.iter().enumerate() {
        assert_eq!(*won_seq, seq as u64 + 1);
        assert_eq!(all[seq], *text);
    }
}

async fn a_dropped_future_does_not_undo_its_commit(provider: Box<dyn Provider>) {
    let store = provider.store();
    let mut watch = store.watch(&stream("a"));
    let mut future = store.commit(appends(vec![append("a", 0, &["kept"])]));
    let _ = (&mut future).now_or_never();
    drop(future);
    if *watch.borrow_and_update() == 0 {
        watch.changed().await.expect("the store is there");
    }
    assert_eq!(
        read_all(&store, &stream("a"), 0, 9)
            .await
            .expect("readable"),
        ["kept"]
    );
}

async fn leases_have_one_owner_and_a_growing_fence(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    let clock = provider.clock();
    let ttl = Duration::from_secs(10);
    let first = store
        .acquire("l", "ann", ttl)
        .await
        .expect("readable")
        .expect("free");
    assert_eq!(first.expires, clock.now().saturating_add(ttl));
    assert_eq!(store.acquire("l", "bob", ttl).await, Ok(None));
    clock.advance(Duration::from_secs(6));
    let renewed = store
        .renew(&first, ttl)
        .await
        .expect("readable")
        .expect("held");
    assert_eq!(renewed.fence, first.fence);
    clock.advance(Duration::from_secs(6));
    assert_eq!(
        store.acquire("l", "bob", ttl).await,
        Ok(None),
        "it was renewed"
    );
    clock.advance(Duration::from_secs(6));
    let second = store
        .acquire("l", "bob", ttl)
        .await
        .expect("readable")
        .expect("expired");
    assert!(second.fence > first.fence);
    assert_eq!(store.renew(&renewed, ttl).await, Ok(None));
    store.release(&renewed).await.expect("nothing happens");
    assert_eq!(store.acquire("l", "ann", ttl).await, Ok(None));
    drop(store);
    provider.reopen().await;
    let store = provider.store();
    store.release(&second).await.expect("released");
    let third = store
        .acquire("l", "ann", ttl)
        .await
        .expect("readable")
        .expect("free");
    assert!(third.fence > second.fence, "the fence outlives the release");
    let again = store
        .acquire("l", "ann", ttl)
        .await
        .expect("readable")
        .expect("its own");
    assert!(again.fence > third.fence);
    let race = join_all((0..8).map(|n| {
        let store = &store;
        async move { store.acquire("race", &format!("owner {n}"), ttl).await }
    }));
    let winners = race
        .await
        .into_iter()
        .filter(|lease| matches!(lease, Ok(Some(_))))
        .count();
    assert_eq!(winners, 1);
}

async fn the_outbox_is_in_order_and_per_daemon(provider: Box<dyn Provider>) {
    let store = provider.store();
    for (daemon, order) in [("d1", "02"), ("d1", "01"), ("d10", "00"), ("d1", "03")] {
        let put = store.put_op(daemon, order, Bytes::copy_from_slice(order.as_bytes()));
        commit(&store, ops(vec![put])).await;
    }
    let pending = async |daemon: &str, after: Option<&str>, limit| -> Vec<String> {
        let found = store.pending(daemon, after, limit).await.expect("readable");
        assert!(found.iter().all(|record| record.key == record.value));
        found.into_iter().map(|record| record.key).collect()
    };
    assert_eq!(pending("d1", None, 9).await, ["01", "02", "03"]);
    assert_eq!(pending("d1", Some("01"), 1).await, ["02"]);
    assert_eq!(pending("d10", None, 9).await, ["00"]);
    commit(&store, ops(vec![store.remove_op("d1", "02")])).await;
    assert_eq!(pending("d1", None, 9).await, ["01", "03"]);
}

/// The SHA-256 of some bytes, as a content's name.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

async fn content_is_checked_and_referred_to(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    let whole = Bytes::from(
        (0..100_000u32)
            .flat_map(u32::to_le_bytes)
            .collect::<Vec<u8>>(),
    );
    let size = whole.len() as u64;
    let name = sha256(&whole);
    let half = whole.len() / 2;
    assert_eq!(store.size(&name).await, Ok(None));
    assert_eq!(
        store.stage(&name, size, 0, whole.slice(..half)).await,
        Ok(false)
    );
    assert_eq!(
        store.stage(&name, size, 0, whole.slice(..half)).await,
        Ok(false),
        "a piece twice"
    );
    assert_eq!(store.size(&name).await, Ok(None), "not whole yet");
    assert_eq!(
        store
            .stage(&name, size, half as u64, whole.slice(half..))
            .await,
        Ok(true)
    );
    assert_eq!(
        store.stage(&name, size, 0, whole.slice(..half)).await,
        Ok(true),
        "it is there"
    );
    assert_eq!(store.size(&name).await, Ok(Some(size)));
    assert_eq!(
        store.read_content(&name, 4, 8).await,
        Ok(whole.slice(4..12))
    );
    assert_eq!(
        store.read_content(&name, size - 3, 8).await,
        Ok(whole.slice(half * 2 - 3..))
    );
    assert_eq!(store.read_content(&name, size, 8).await, Ok(Bytes::new()));

    let other = sha256(b"something else");
    let malformed =
        |result: Result<bool>| assert!(matches!(result, Err(Error::Malformed(_))), "{result:?}");
    malformed(
        store
            .stage(&other, 5, 0, Bytes::from_static(b"wrong"))
            .await,
    );
    malformed(
        store
            .stage(&other, 14, 3, Bytes::from_static(b"ething"))
            .await,
    );
    malformed(
        store
            .stage(
                &other,
                14,
                0,
                Bytes::from_static(b"something else, and more"),
            )
            .await,
    );
    malformed(
        store
            .stage("../../etc/passwd", 1, 0, Bytes::from_static(b"x"))
            .await,
    );
    assert!(matches!(store.size("..").await, Err(Error::Malformed(_))));
    assert_eq!(
        store
            .stage(&other, 14, 0, Bytes::from_static(b"something else"))
            .await,
        Ok(true)
    );
    let empty = sha256(b"");
    assert_eq!(store.stage(&empty, 0, 0, Bytes::new()).await, Ok(true));
    assert_eq!(store.read_content(&empty, 0, 9).await, Ok(Bytes::new()));

    let (a, ab) = (stream("a"), stream("a/b"));
    let both = Commit {
        appends: vec![append("a", 0, &["x"]), append("a/b", 0, &["x"])],
        ops: vec![store.refer_op(&a, &name), store.refer_op(&ab, &name)],
        trims: vec![],
    };
    commit(&store, both).await;
    assert_eq!(store.refers(&a, &name).await, Ok(true));
    assert_eq!(store.refers(&a, &other).await, Ok(false));
    drop(store);
    provider.reopen().await;
    let store = provider.store();
    commit(&store, drop_stream("a")).await;
    assert_eq!(
        store.refers(&a, &name).await,
        Ok(false),
        "a dropped stream refers to nothing"
    );
    assert_eq!(store.refers(&ab, &name).await, Ok(true));
    assert_eq!(store.size(&name).await, Ok(Some(size)));
}

async fn retention_proposes_what_is_old_or_too_much(provider: Box<dyn Provider>) {
    let store = provider.store();
    for seq in 0..20 {
        let timed = |name| Append {
            time: Timestamp::from_millis(if name == "old" { 0 } else { 1_000_000 }),
            ..append(name, seq, &["0123456789"])
        };
        commit(
            &store,
            appends(vec![timed("old"), timed("long"), timed("kept")]),
        )
        .await;
    }
    let policy = Policy {
        max_age: Some(Duration::from_secs(100)),
        max_events: Some(5),
        max_bytes: None,
    };
    let now = Timestamp::from_millis(1_000_001);
    let keep = |stream: &Stream| stream.as_str() == "kept";
    let plan = retention::plan(&*store, &policy, now, None, &keep)
        .await
        .expect("readable");
    assert!(plan.next.is_none() && plan.damaged.is_empty());
    let proposed: Vec<_> = plan
        .trims
        .iter()
        .map(|trim| (trim.stream.as_str(), trim.first_seq, trim.drop))
        .collect();
    assert_eq!(proposed, [("long", 16, false), ("old", 0, true)]);
    commit(
        &store,
        Commit {
            trims: plan.trims,
            ..Commit::default()
        },
    )
    .await;
    assert_eq!(head(&store, "long").await.first_seq, 16);
    assert_eq!(store.head(&stream("old")).await, Ok(None));
    let policy = Policy {
        max_bytes: Some(40),
        ..Policy::default()
    };
    let plan = retention::plan(&*store, &policy, now, None, &keep)
        .await
        .expect("readable");
    // Each entry has 12 bytes, encoded.
    assert_eq!((plan.trims.len(), plan.trims[0].first_seq), (1, 18));
}

async fn everything_survives_a_restart(mut provider: Box<dyn Provider>) {
    let store = provider.store();
    for seq in 0..30 {
        let done = commit(
            &store,
            Commit {
                appends: vec![
                    append("a", seq, &[&seq.to_string()]),
                    append("b", seq * 2, &["x", "y"]),
                ],
                ops: vec![
                    op("t/count", Expect::Any, Some(&seq.to_string())),
                    op(&format!("t/{seq:02}"), Expect::Absent, Some("x")),
                ],
                trims: vec![],
            },
        )
        .await;
        if seq % 3 == 0 {
            commit(
                &store,
                ops(vec![op(
                    &format!("t/{seq:02}"),
                    Expect::Revision(done.revision),
                    None,
                )]),
            )
            .await;
        }
    }
    commit(&store, trim("b", 7)).await;
    let before = dump(&store).await;
    drop(store);
    for round in 0..4 {
        if round % 2 == 0 {
            provider.crash().await;
        } else {
            provider.reopen().await;
        }
        let store = provider.store();
        assert_eq!(dump(&store).await, before, "round {round}");
    }
    let store = provider.store();
    let done = commit(&store, appends(vec![append("a", 30, &["after"])])).await;
    assert!(done.revision > before.changes[before.changes.len() - 1].1);
    assert_eq!(*store.watch(&stream("a")).borrow(), 31);
}

async fn a_closed_store_says_so(provider: Box<dyn Provider>) {
    let store = provider.store();
    commit(&store, appends(vec![append("a", 0, &["x"])])).await;
    store.close().await.expect("closed");
    store.close().await.expect("closed already");
    assert_eq!(
        store.commit(appends(vec![append("a", 1, &["y"])])).await,
        Err(Error::Closed)
    );
    assert_eq!(store.head(&stream("a")).await, Err(Error::Closed));
    assert_eq!(store.read(&stream("a"), 0, 9).await, Err(Error::Closed));
    assert_eq!(store.get("t/x").await, Err(Error::Closed));
    assert_eq!(store.scan("", None, 9).await, Err(Error::Closed));
}

/// All that a store says, to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Heads and entries.
    pub streams: BTreeMap<Stream, (Head, Vec<Bytes>)>,
    /// Records.
    pub records: BTreeMap<String, (u64, Bytes)>,
    /// Changes of records: key, revision, value.
    pub changes: Vec<(String, u64, Option<Bytes>)>,
}

/// Reads everything of a store.
pub async fn dump(store: &SharedStore) -> Dump {
    let mut streams = BTreeMap::new();
    for stream in store.streams(None, usize::MAX).await.expect("readable") {
        let head = store
            .head(&stream)
            .await
            .expect("readable")
            .expect("a listed stream has a head");
        let entries = read_all(store, &stream, head.first_seq - 1, 10_000)
            .await
            .expect("readable");
        assert_eq!(entries.len() as u64, head.last_seq + 1 - head.first_seq);
        streams.insert(stream, (head, entries));
    }
    let records = store.scan("", None, usize::MAX).await.expect("readable");
    let changes = store.changes("", 0, usize::MAX).await.expect("readable");
    Dump {
        streams,
        records: records
            .into_iter()
            .map(|record| (record.key, (record.revision, record.value)))
            .collect(),
        changes: changes
            .into_iter()
            .map(|change| (change.key, change.revision, change.value))
            .collect(),
    }
}

/// A step of a random walk.
#[derive(Clone, Debug)]
pub enum Step {
    /// Appends to a stream, at its end or elsewhere.
    Append {
        /// Which of a few streams.
        stream: u8,
        /// Entries.
        entries: Vec<u16>,
        /// How far off the expected end is.
        off: i8,
        /// Fence.
        fence: u8,
    },
    /// Changes a record.
    Put {
        /// Which of a few keys.
        key: u8,
        /// Size of the value; `None` deletes.
        size: Option<u32>,
        /// `Some(true)`: expects its revision; `Some(false)`: expects that it is absent.
        expect: Option<bool>,
    },
    /// Trims a stream by some entries of what it has.
    Trim {
        /// Which stream.
        stream: u8,
        /// How many entries.
        count: u8,
    },
    /// Drops a stream.
    Drop {
        /// Which stream.
        stream: u8,
    },
    /// Closes and opens the store.
    Reopen,
    /// Opens what a killed process leaves.
    Crash,
    /// Compares everything.
    Compare,
}

impl Step {
    /// A step, drawn from `rng`.
    pub fn random(rng: &mut impl Rng) -> Self {
        let stream = rng.random_range(0..4);
        match rng.random_range(0..100) {
            0..45 => Step::Append {
                stream,
                entries: (0..rng.random_range(0..6))
                    .map(|_| rng.random_range(0..2000))
                    .collect(),
                off: if rng.random_ratio(1, 8) {
                    rng.random_range(-2..3)
                } else {
                    0
                },
                fence: rng.random_range(0..3),
            },
            45..80 => Step::Put {
                key: rng.random_range(0..12),
                size: match rng.random_range(0..10) {
                    0..3 => None,
                    9 => Some(rng.random_range(16_000..40_000)),
                    _ => Some(rng.random_range(0..200)),
                },
                expect: match rng.random_range(0..3) {
                    0 => None,
                    1 => Some(true),
                    _ => Some(false),
                },
            },
            80..88 => Step::Trim {
                stream,
                count: rng.random_range(0..8),
            },
            88..91 => Step::Drop { stream },
            91..93 => Step::Reopen,
            93..95 => Step::Crash,
            _ => Step::Compare,
        }
    }
}

/// What a store should say: nothing but maps.
#[derive(Default)]
struct Model {
    streams: BTreeMap<Stream, (Head, Vec<Bytes>)>,
    records: BTreeMap<String, (u64, Bytes)>,
    changes: BTreeMap<String, (u64, Option<Bytes>)>,
}

/// Takes steps on a provider and on a model, and compares what they say.
pub async fn walk(provider: &mut dyn Provider, steps: &[Step]) {
    let mut model = Model::default();
    for (at, step) in steps.iter().enumerate() {
        let store = provider.store();
        match step {
            Step::Append {
                stream: number,
                entries,
                off,
                fence,
            } => {
                let name = stream(&format!("s/{number}"));
                let entries: Vec<Bytes> = entries
                    .iter()
                    .map(|size| Bytes::from(vec![(at % 251) as u8; usize::from(*size)]))
                    .collect();
                let known = model.streams.get(&name).map(|(head, _)| *head);
                let last = known.map_or(0, |head| head.last_seq);
                let change = Append {
                    stream: name.clone(),
                    expected_last: last.saturating_add_signed((*off).into()),
                    fence: (*fence).into(),
                    entries: entries.clone(),
                    origin: (at % 2 == 0).then_some(Origin {
                        epoch: 1,
                        seq: at as u64 + 1,
                    }),
                    time: Timestamp::from_millis(at as i64),
                };
                let fits = change.expected_last == last;
                let is_fenced = known.is_some_and(|head| u64::from(*fence) < head.fence);
                let origin = change.origin;
                let outcome = store.commit(appends(vec![change])).await;
                if is_fenced {
                    assert!(matches!(outcome, Err(Error::Fenced { .. })), "{outcome:?}");
                } else if !fits {
                    assert_eq!(outcome, Err(Error::Conflict { stream: name, last }));
                } else {
                    let done = outcome.expect("committed");
                    let has_time = known.is_none() || !entries.is_empty();
                    let expected = Head {
                        log_epoch: known.map_or(done.heads[0].log_epoch, |head| head.log_epoch),
                        first_seq: known.map_or(1, |head| head.first_seq),
                        last_seq: last + entries.len() as u64,
                        fence: (*fence).into(),
                        origin: origin
                            .unwrap_or(known.map_or(Origin::default(), |head| head.origin)),
                        last_time: match known {
                            Some(head) if !has_time => head.last_time,
                            _ => Timestamp::from_millis(at as i64),
                        },
                    };
                    assert_eq!(done.heads, [expected]);
                    let stream = model.streams.entry(name).or_insert((expected, Vec::new()));
                    stream.0 = expected;
                    stream.1.extend(entries);
                }
            }
            Step::Put { key, size, expect } => {
                let key = format!("t/{key}");
                let known = model.records.get(&key).map(|(revision, _)| *revision);
                let value = size.map(|size| Bytes::from(vec![(at % 251) as u8; size as usize]));
                let expect = match expect {
                    None => Expect::Any,
                    Some(true) => Expect::Revision(known.unwrap_or(77)),
                    Some(false) => Expect::Absent,
                };
                let fits = match expect {
                    Expect::Any => true,
                    Expect::Absent => known.is_none(),
                    Expect::Revision(_) => known.is_some(),
                };
                let change = RecordOp {
                    key: key.clone(),
                    expect,
                    value: value.clone(),
                };
                let outcome = store.commit(ops(vec![change])).await;
                if !fits {
                    let stale = Error::Stale {
                        key,
                        revision: known,
                    };
                    assert_eq!(outcome, Err(stale));
                } else {
                    let revision = outcome.expect("committed").revision;
                    match &value {
                        Some(value) => {
                            model.records.insert(key.clone(), (revision, value.clone()));
                        }
                        None => {
                            model.records.remove(&key);
                        }
                    }
                    if known.is_some() || value.is_some() {
                        model.changes.insert(key, (revision, value));
                    }
                }
            }
            Step::Trim {
                stream: number,
                count,
            } => {
                let name = format!("s/{number}");
                match model.streams.get_mut(&stream(&name)) {
                    None => assert!(matches!(
                        store.commit(trim(&name, 1)).await,
                        Err(Error::NoStream { .. })
                    )),
                    Some((head, entries)) => {
                        let first_seq = head.first_seq + u64::from(*count);
                        let outcome = store.commit(trim(&name, first_seq)).await;
                        if first_seq > head.last_seq + 1 {
                            assert!(matches!(outcome, Err(Error::Future { .. })), "{outcome:?}");
                        } else {
                            outcome.expect("committed");
                            entries.drain(..usize::from(*count));
                            head.first_seq = first_seq;
                        }
                    }
                }
            }
            Step::Drop { stream: number } => {
                let name = format!("s/{number}");
                commit(&store, drop_stream(&name)).await;
                model.streams.remove(&stream(&name));
            }
            Step::Reopen => {
                drop(store);
                provider.reopen().await;
            }
            Step::Crash => {
                drop(store);
                provider.crash().await;
            }
            Step::Compare => compare(&store, &model).await,
        }
    }
    compare(&provider.store(), &model).await;
}

async fn compare(store: &SharedStore, model: &Model) {
    let dump = dump(store).await;
    assert_eq!(dump.streams, model.streams);
    assert_eq!(dump.records, model.records);
    let mut changes: Vec<_> = model
        .changes
        .iter()
        .map(|(key, (revision, value))| (key.clone(), *revision, value.clone()))
        .collect();
    changes.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    assert_eq!(dump.changes, changes);
}

/// How many rounds a randomized test takes: `BATON_TEST_ROUNDS` (default 20) as a share of 20, of `usual`.
pub fn rounds(usual: u32) -> u32 {
    let share = std::env::var("BATON_TEST_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse::<u32>().ok())
        .unwrap_or(20);
    (usual * share / 20).max(1)
}
